import pytest
import xarray as xr

import unweave as uw
from tests.views import made
from unweave.results import summary
from unweave.results.summary import summaries
from unweave.views.blocks import Figure
from unweave.views.pictures import blocks_of

CELLS = {"layer": range(4), "head": range(3)}


def kinds(result, **options) -> list[str]:
    """What is drawn: the block's name, and the traces of a figure."""
    return [
        f"{type(block).__name__} {block.figure.data[0].type}" if isinstance(block, Figure) else type(block).__name__
        for block in blocks_of(result, **options)
    ]


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
    sites, others = (xr.Dataset({"z": one, "again": one}) for one in (noise, denoise))
    for one, other in ((noise, denoise), (sites, others), (summary(noise), summary(denoise))):
        difference = one - other
        (first, *_) = blocks_of(difference)
        assert "Computed values" in first.title
        uw.report([one, difference], tmp_path / "report.html")
        assert "computed values" in {table.attrs["quantity"] for table in summaries(difference).values()}
    for kept in (noise, noise.isel(head=0), noise.mean("prompt"), sites):
        assert "Computed values" not in blocks_of(kept)[0].title
    uw.save(noise, tmp_path / "noise.nc")
    assert blocks_of(uw.load(tmp_path / "noise.nc"))[0].title == blocks_of(noise)[0].title
