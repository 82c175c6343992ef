import html
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.oracle.both import both
from tests.oracle.models import FAMILIES
from tests.views import made, made_circuits
from unweave.results import summary, top
from unweave.results.summary import summaries
from unweave.views.attention_view import Attention
from unweave.views.blocks import Figure, Table, Text
from unweave.views.pictures import blocks_of, leading_heads
from unweave.views.show import View

CELLS = {"layer": range(4), "head": range(3)}


def kinds(result, **options) -> list[str]:
    """What is drawn: the block's name, and the traces of a figure."""
    return [f"{type(block).__name__} {trace_of(block)}".strip() for block in blocks_of(result, **options)]


def trace_of(block: Any) -> str:
    """The kind of a figure's first trace."""
    return block.figure.to_dict()["data"][0]["type"] if isinstance(block, Figure) else ""


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (made.heads(), ["Figure heatmap", "Figure bar"]),
        (made.stream(), ["Figure heatmap"]),
        (made.stream("role"), ["Figure heatmap"]),
        (
            made.result({"layer": range(4), "kv_head": range(2)}, {(1, 1): 0.4}, site="k"),
            ["Figure heatmap", "Figure bar"],
        ),
        (made.result({**CELLS, "pos": range(9)}, {(3, 1, 8): 0.4}, site="z"), ["Figure heatmap"]),
        (made.result({**CELLS, "q_pos": range(9), "k_pos": range(9)}, {(3, 1, 8, 4): 0.4}), ["Figure heatmap"]),
        (made.result({"layer": range(2), "neuron": range(40)}, {(1, 7): 0.4}), ["Figure bar"]),
        (made.result({"address": ["z 3.1", "q 2.0"]}, {("z 3.1",): 0.5}), ["Figure bar"]),
        (made.lens([0, 0, 1, 2, 4]), ["Figure scatter"]),
        (made.result({"component": ["embed", "0_attn"]}, {("embed",): 1.0}, **made.ATTRIBUTION), ["Figure bar"]),
        (made.result({"layer": range(3), "part": ["attn", "mlp"]}, {}, **made.ATTRIBUTION), ["Figure scatter"]),
        (made.patterns(), ["Attention"]),
    ],
    ids=lambda value: " ".join(map(str, value.dims)) if isinstance(value, xr.DataArray) else "",
)
def test_the_picture_follows_from_the_dimensions(result: xr.DataArray, expected: list[str]):
    assert kinds(result) == expected


def test_titles_are_computed_or_given():
    assert blocks_of(made.heads())[0].title.startswith("5.1 and 3.0 carry")  # type: ignore[attr-defined]
    assert blocks_of(made.heads(), title="mine")[0].title == "mine"  # type: ignore[attr-defined]


def test_several_sites_share_a_figure_and_each_says_what_it_found():
    sites = xr.Dataset({"z": made.heads(), "v": made.heads({(2, 2): 0.3}, site="v")}, attrs=made.ATTRS)
    (block,) = blocks_of(sites)
    assert isinstance(block, Figure)
    assert block.title.startswith("5.1 and 3.0 carry")
    assert "Value: 2.2 carries the answer" in block.caption
    assert [trace["type"] for trace in block.figure.to_dict()["data"]].count("heatmap") == 2


def test_sites_of_other_dimensions_stand_one_after_another():
    mixed = xr.Dataset({"z": made.heads(), "q": made.result({"layer": range(6), "pos": range(9)}, {}, site="q")})
    assert kinds(mixed) == ["Figure heatmap", "Figure bar", "Figure heatmap"]


def test_summaries_slices_means_and_transposed_results_are_shown():
    heads, stream, looks = made.heads(), made.stream(), made.patterns()
    both = xr.Dataset({"z": heads, "v": made.heads({(2, 2): 0.3}, site="v")}, attrs=made.ATTRS)
    assert kinds(summary(heads)) == kinds(heads) == kinds(heads.T) == kinds(heads.mean("prompt"))
    assert len(kinds(summary(both))) == len(kinds(both)) == 1  # type: ignore[arg-type]
    assert kinds(both.sel(layer=5)) == ["Figure bar", "Figure bar"]
    assert kinds(heads.sel(layer=5)) == kinds(stream.isel(pos=-1)) == ["Figure bar"]
    assert (
        kinds(heads.sel(layer=5, head=1))
        == kinds(heads.mean())
        == kinds(summary(heads.sel(layer=5, head=1)))
        == ["Table"]
    )
    assert kinds(looks.isel(prompt=0)) == kinds(looks.sel(address="5.1")) == kinds(looks.T) == ["Attention"]
    assert kinds(looks.mean("prompt")) == kinds(summary(looks)) == ["Figure heatmap"]
    assert kinds(made.lens([0, 0, 1, 2, 4]).isel(stage=-1)) == ["Table"]
    for drawn in (summary(both), summary(heads), heads.T, heads.mean()):
        assert uw.show(drawn).html.startswith("<!doctype html>")  # type: ignore[arg-type]


def test_what_a_method_draws_itself_is_drawn_by_its_dimensions_where_some_are_gone():
    scores = made_circuits.head_scores()
    assert kinds(scores.T) == kinds(scores)
    assert kinds(scores.mean("prompt")) == ["Figure heatmap"]
    assert kinds(scores.isel(score=0)) == ["Figure heatmap", "Figure bar"]
    growth = made_circuits.backup({(4, 2): 0.2})
    assert kinds(growth.T) == kinds(growth)
    assert kinds(summary(growth)) == ["Figure heatmap", "Figure bar"]
    assert kinds(summary(made_circuits.attribution())) == ["Figure heatmap"]


def test_leading_heads_are_those_with_the_largest_cell_in_the_order_of_layers():
    cells = {(3, 1, 8): 0.5, (0, 2, 7): -0.6, (2, 0, 8): 0.3}
    table = summary(made.result({**CELLS, "pos": range(9)}, cells))
    leading = leading_heads(table, "head", 2)
    assert leading["address"].values.tolist() == ["0.2", "3.1"]
    assert np.array_equal(leading["p_holm"].sel(address="3.1"), table["p_holm"].sel(layer=3, head=1))
    assert leading_heads(table, "head", 9)["address"].values.tolist() == ["0.2", "2.0", "3.1"]


def test_significant_heads_lead_and_the_largest_of_the_others_follow():
    effects = made.result({**CELLS, "pos": range(9)}, {(3, 1, 8): 0.5})
    wild = np.where(np.arange(effects.sizes["prompt"]) == 0, 90.0, 0.0)
    effects.loc[{"layer": 1, "head": 0, "pos": 3}] = wild
    table = summary(effects)
    assert leading_heads(table, "head", 1)["address"].values.tolist() == ["3.1"]
    # A head that looks larger is shown, too; others that are not significant are not.
    assert leading_heads(table, "head", 9)["address"].values.tolist() == ["1.0", "3.1"]
    (block,) = uw.show(effects, n=2).blocks
    assert isinstance(block, Figure)
    assert "the 2 heads, of " in block.caption
    assert "significant ones first." in block.caption


def test_a_picture_that_is_not_known_is_refused():
    odd = made.result({"layer": range(2), "head": range(2), "neuron": range(2)}, {})
    with pytest.raises(uw.InputError, match="no picture of the dimensions head, layer, neuron"):
        uw.show(odd)
    with pytest.raises(uw.InputError, match="no variable"):
        uw.show(xr.Dataset())
    with pytest.raises(uw.InputError, match=r"expected a result .* got int"):
        uw.show([1])  # type: ignore[arg-type]


def test_a_view_is_short_in_a_terminal_and_a_frame_in_a_notebook():
    view = uw.show(made.patterns())
    assert isinstance(view.blocks[0], Attention)
    assert repr(view).startswith("<View of attention (prompt 3, ")
    assert len(repr(view)) < 160
    frame = view._repr_html_()
    assert frame.startswith("<iframe ")
    assert "\n" not in frame.split("srcdoc=")[0]
    inner = html.unescape(frame.split('srcdoc="')[1].removesuffix('"></iframe>'))
    assert inner.startswith("<!doctype html>")
    assert frame.split('srcdoc="')[1].count('"') == 1  # nothing inside ends the attribute


def test_a_view_is_saved(tmp_path: Path):
    path = uw.show(made.heads()).save(tmp_path / "view.html")
    assert path.read_text().startswith("<!doctype html>")
    with pytest.raises(uw.InputError, match="cannot write"):
        uw.show(made.heads()).save(path / "view.html")


def test_open_writes_a_page_and_asks_the_browser_for_it(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr("webbrowser.open", asked.append)
    path = View((Text(("hello",)),), "a").open()
    assert asked == [path.as_uri()]
    assert "hello" in path.read_text()


def test_tables_and_blocks_are_shown_too():
    assert isinstance(uw.show(top(made.heads(), 3)).blocks[0], Table)
    assert uw.show(Text(("a",))).blocks == (Text(("a",)),)


def test_the_difference_of_two_results_is_no_patch(tmp_path: Path):
    # xarray keeps the attributes that both share, the method's name among them.
    pair = both(next(iter(FAMILIES)), "equal", "swap").contrast
    noise, denoise = (uw.patch(pair, "z", ("layer", "head"), way, progress=False) for way in ("noise", "denoise"))
    sites, others = (xr.Dataset({"z": one, "again": one}) for one in (noise, denoise))
    for one, other in ((noise, denoise), (sites, others), (summary(noise), summary(denoise))):
        difference: Any = one - other
        assert "Computed values" in title(difference)
        uw.report([one, difference], tmp_path / "report.html")
        assert {table.attrs["quantity"] for table in summaries(difference).values()} == {"computed values"}
    for kept in (noise, noise.isel(head=0), noise.mean("prompt"), sites):
        assert "Computed values" not in title(kept)
    uw.save(noise, tmp_path / "noise.nc")
    assert title(uw.load(tmp_path / "noise.nc")) == title(noise)


def title(result: Any) -> str:
    """Of the first picture."""
    return getattr(blocks_of(result)[0], "title", "")
