"""Heat maps: every number in its cell, zero in the middle, doubt marked, labels that cannot act."""

import sys
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

from tests.results.fake import heads, result, with_tokens
from tests.views.drawn import layout, traces
from unweave.errors import InputError
from unweave.results import summary
from unweave.views.charts.heatmap import heatmap


def maps(figure: go.Figure) -> list[Any]:
    return traces(figure, "heatmap")


def marks(figure: go.Figure, symbol: str) -> set[tuple[str, str]]:
    """(y, x) of every cell that carries a mark."""
    drawn = [trace for trace in traces(figure, "scatter") if trace.marker.symbol == symbol]
    return {place for trace in drawn for place in zip(trace.y, trace.x, strict=True)}


def dots(figure: go.Figure) -> set[tuple[str, str]]:
    return marks(figure, "circle")


def test_cells_axes_and_hover() -> None:
    fake = heads(n_prompts=32)
    table = summary(fake)
    (drawn,) = maps(heatmap(fake, x="head"))
    np.testing.assert_allclose(drawn.z, table["mean"], rtol=1e-6)
    assert list(drawn.y) == ["0", "1", "2", "3"]
    assert list(drawn.x) == ["0", "1", "2"]
    assert drawn.hovertext[2][1] == "2.1"
    best = table.sel(layer=2, head=1)
    said = [float(best["low"]), float(best["high"]), float(best["p_holm"]), 32]
    np.testing.assert_allclose(drawn.customdata[2, 1], said, rtol=1e-5)


def test_axes_can_be_turned() -> None:
    fake = heads()
    (drawn,) = maps(heatmap(fake, x="layer", y="head"))
    np.testing.assert_allclose(drawn.z, fake.mean("prompt").transpose("head", "layer"), rtol=1e-5)
    assert drawn.hovertext[1][2] == "2.1"


def test_layers_grow_upwards_and_lists_are_read_from_above() -> None:
    assert layout(heatmap(heads(), x="head")).yaxis.range == (-0.5, 3.5)
    listed = heads().isel(layer=2, drop=True).rename(head="address").assign_coords(address=["a", "b", "c"])
    pairs = listed.expand_dims(pos=2, axis=2).assign_coords(pos=[0, 1])
    assert layout(heatmap(pairs, x="pos", y="address")).yaxis.range == (2.5, -0.5)


def test_zero_is_in_the_middle_and_panels_share_the_range() -> None:
    both = xr.Dataset({"z": heads(), "q": heads() * 0.1})
    figure = heatmap(both, x="head")
    assert layout(figure).coloraxis.cmax == pytest.approx(float(summary(both["z"])["mean"].max()))
    assert layout(figure).coloraxis.cmin == -layout(figure).coloraxis.cmax
    assert {trace.coloraxis for trace in maps(figure)} == {"coloraxis"}


def test_one_giant_does_not_hide_the_others() -> None:
    fake = heads()
    fake[:, 1, 1] = 40
    figure = heatmap(fake, x="head")
    assert layout(figure).coloraxis.cmax == pytest.approx(1.5, abs=0.1)
    assert "Colours stop at ±1.5" in layout(figure).meta["caption"]
    assert "the largest size is 40.00" in layout(figure).meta["caption"]


def test_shares_have_colours_from_0_on() -> None:
    shares = abs(heads()).assign_attrs(quantity="attention", unit="share")
    assert layout(heatmap(shares, x="head")).coloraxis.cmin == 0
    shares[:, 1, 1] = 40
    assert "Colours stop at 1.53;" in layout(heatmap(shares, x="head")).meta["caption"]
    # A change of a share has two sides.
    change = heatmap(shares - shares[:, 2, 1], x="head")
    assert layout(change).coloraxis.cmin == -layout(change).coloraxis.cmax


def test_what_colours_say_has_room_on_a_small_screen() -> None:
    long = {"quantity": "distance from random pairs", "unit": "their standard deviations", "zero": "as random pairs"}
    figures = [heatmap(heads().assign_attrs(attrs), x="head") for attrs in ({}, {**long, "one": "one above them"})]
    titles = [layout(figure).coloraxis.colorbar.title.text.split("<br>") for figure in figures]
    assert [len(lines) for lines in titles] == [2, 3]
    assert max(map(len, titles[1])) <= 52
    tops = [layout(figure).meta["narrow"]["margin"]["t"] for figure in figures]
    assert tops[1] - tops[0] >= 13


def test_nothing_but_zeros() -> None:
    figure = heatmap(heads() * 0, x="head")
    assert layout(figure).coloraxis.cmax == 1
    assert layout(figure).meta["title"] == "Effect: all cells are 0"
    assert not dots(figure)


def test_cells_not_different_from_zero_carry_a_dot() -> None:
    every = {(str(layer), str(head)) for layer in range(1, 4) for head in range(3)}
    figure = heatmap(heads(n_prompts=32), x="head")
    assert dots(figure) == every - {("2", "1"), ("3", "0")}
    assert "Dots: not different from 0" in layout(figure).meta["caption"]


def test_written_values_put_doubt_in_brackets() -> None:
    figure = heatmap(heads(n_prompts=32), x="head", values=True)
    (drawn,) = maps(figure)
    assert drawn.text[2][1] == "0.50"
    assert drawn.text[3][0] == "−0.26"
    assert list(drawn.text[0]) == ["0.00"] * 3
    assert drawn.text[1][0].startswith("(")
    assert "-" not in "".join(drawn.text[1])
    assert not dots(figure)
    assert "In brackets: not different from 0" in layout(figure).meta["caption"]


def test_cells_not_reached_are_crossed() -> None:
    fake = heads()
    fake[:, 3, 2] = np.nan
    figure = heatmap(fake, x="head")
    assert marks(figure, "x-thin-open") == {("3", "2")}
    assert "Crosses: not reached." in layout(figure).meta["caption"]


def test_sites_are_panels_and_shared_heads_keep_their_number() -> None:
    shared = {site: result({"prompt": 8, "layer": 4, "kv_head": 1}, site=site) for site in "kv"}
    five = xr.Dataset({"z": heads(), "q": heads(), **shared, "pattern": heads()})
    figure = heatmap(five, x="head")
    titles = [note.text for note in layout(figure).annotations][:5]
    assert titles == ["Output", "Query", "Key", "Value", "Pattern"]
    assert [note.text for note in layout(figure).annotations][5:10] == ["head"] * 2 + ["key/value head"] * 2 + ["head"]
    assert [len(trace.x) for trace in maps(figure)] == [3, 3, 1, 1, 3]
    assert maps(figure)[2].hovertext[3][0] == "3.kv0"


def test_titles_of_narrow_panels_are_set_in_lines() -> None:
    fake = result({"prompt": 4, "token_signal": 3, "position_signal": 2, "address": 3})
    layouts = layout(heatmap(fake, x="position_signal", y="token_signal", facet="address")).meta
    assert layouts["wide"]["annotations[3].text"] == "position of the subject"
    assert layouts["narrow"]["annotations[3].text"] == "position of<br>the subject"
    assert layouts["narrow"]["margin"]["b"] > layouts["wide"]["margin"]["b"]


def test_headings_have_room_beside_each_other() -> None:
    fake = result({"prompt": 4, "layer": 2, "head": 2, "role": 3})
    for names, columns in ((["a", "b", "c"], 3), (["replaced by zero", "replaced by mean", "replaced by random"], 2)):
        narrow = layout(heatmap(fake.assign_coords(role=names), x="head", facet="role")).meta["narrow"]
        starts = {round(narrow[f"annotations[{place}].x"], 6) for place in range(3)}
        assert len(starts) == columns


def test_facets() -> None:
    fake = result({"prompt": 4, "layer": 3, "head": 2, "role": 3})
    figure = heatmap(fake, x="head", facet="role")
    assert [note.text for note in layout(figure).annotations][:3] == ["IO", "S1", "S1+1"]
    np.testing.assert_allclose(maps(figure)[1].z, fake.sel(role="S1").mean("prompt"), rtol=1e-5)
    assert maps(figure)[1].hovertext[2][1] == "2.1 @ S1"


def test_summaries_are_drawn_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    both = xr.Dataset({"z": heads(), "q": heads()})
    tree = summary(both)
    expected = heatmap(both, x="head")
    monkeypatch.setattr(sys.modules["unweave.results.summary"], "mean_interval", None)
    assert heatmap(tree, x="head").to_json() == expected.to_json()
    assert len(maps(heatmap(tree["z"].to_dataset(), x="head"))) == 1


def test_positions_show_tokens_and_whose() -> None:
    fake = result({"prompt": 2, "layer": 2, "pos": 3})
    same = heatmap(with_tokens(fake, [["<s>", " a", ""]] * 2), x="pos")
    assert list(maps(same)[0].x) == ["0 &lt;s&gt;", "1 ·a", "2"]
    assert layout(same).annotations[1].text == "token"
    differ = heatmap(with_tokens(fake, [["<s>", " a", "."], ["<s>", " b", "."]]), x="pos")
    assert layout(differ).annotations[1].text == "token (prompt 1 of 2)"


def test_markup_in_tokens_is_shown_not_run() -> None:
    bad = ["<script>alert(1)</script>", "<b>", "%{x}", "$x$", "<img src=x onerror=alert(1)>"]
    fake = with_tokens(result({"prompt": 1, "layer": 2, "pos": 5}), [bad])
    figure = heatmap(fake, x="pos", title="<b>bad</b> $t$")
    (drawn,) = maps(figure)
    shown = [*drawn.x, *np.ravel(drawn.hovertext), layout(figure).annotations[-1].text.split("<br>")[0]]
    for part in ("<script", "<b>", "<img", "%{", "$"):
        assert not any(part in text for text in shown)


def test_every_tick_is_labelled_where_there_is_room_and_fewer_where_not() -> None:
    tall = result({"prompt": 2, "layer": 80, "head": 4})
    meta = layout(heatmap(tall, x="head")).meta
    assert meta["wide"]["yaxis.dtick"] == 2
    assert layout(heatmap(heads(), x="head")).meta["wide"]["yaxis.dtick"] == 1


def test_narrow_windows_stack_the_panels() -> None:
    tokens = result({"prompt": 2, "layer": 4, "pos": 16})
    three = xr.Dataset({site: tokens for site in ("resid_pre", "attn_out", "mlp_out")})
    meta = layout(heatmap(three, x="pos")).meta
    across = [meta["wide"][f"{axis}.domain"][0] for axis in ("xaxis", "xaxis2", "xaxis3")]
    assert across == sorted(across)
    assert across[2] > 0.6
    assert [meta["narrow"][f"{axis}.domain"][0] for axis in ("xaxis", "xaxis2", "xaxis3")] == [0, 0, 0]
    down = [meta["narrow"][f"{axis}.domain"] for axis in ("yaxis", "yaxis2", "yaxis3")]
    assert down[0][0] > down[1][1] > down[1][0] > down[2][1]
    assert meta["narrow"]["height"] > 2 * meta["wide"]["height"]


def test_an_average_has_no_marks() -> None:
    figure = heatmap(heads().mean("prompt", keep_attrs=True), x="head")
    assert not dots(figure)
    assert layout(figure).meta["caption"].startswith("Averages: no interval.")
    assert "interval" not in maps(figure)[0].hovertemplate


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": "pos"}, "'pos' is no dimension of this result, which has layer, head"),
        ({"x": "head", "facet": "role"}, "'role' is no dimension"),
    ],
)
def test_unknown_dimensions_are_named(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        heatmap(heads(), **options)


def test_a_dimension_too_many_is_named() -> None:
    fake = result({"prompt": 2, "layer": 2, "head": 2, "pos": 2})
    with pytest.raises(InputError, match=r"also has the dimension 'pos'.*\.sel\(pos=…\).*facet='pos'"):
        heatmap(fake, x="head")
    with pytest.raises(InputError, match=r"facet: the result has 2 sites already \(z, q\)"):
        heatmap(xr.Dataset({"z": fake, "q": fake}), x="head", facet="pos")
