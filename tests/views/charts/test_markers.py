"""Markers by position: colours of parts, the line at 0, intervals, titles."""

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.views.drawn import layout, traces
from unweave.views.blocks import meta_of
from unweave.views.charts.lines import COLOURS, ENDS, FIRST, SECOND, halves, markers
from unweave.views.pictures import blocks_of

ATTRS = {"method": "K-composition", "quantity": "score", "unit": "", "zero": "neither", "one": "sought"}
ATTRS |= {"sender": "0.0", "receiver": "1.0"}


def by_position(values: np.ndarray, **coords: object) -> xr.DataArray:
    dims = ("prompt", "pos")[-values.ndim :]
    return xr.DataArray(values, dims=dims, coords={"pos": range(values.shape[-1]), **coords}, attrs=dict(ATTRS))


def test_parts_have_their_colours_and_their_positions() -> None:
    figure = markers(halves(by_position(np.arange(8.0))))
    drawn = {trace.name: trace for trace in traces(figure)}
    assert {name: trace.marker.color for name, trace in drawn.items()} == COLOURS
    assert [list(drawn[name].x) for name in (ENDS, FIRST, SECOND)] == [["0", "7"], list("123"), list("456")]
    assert list(layout(figure).xaxis.categoryarray) == list("01234567")
    assert layout(figure).xaxis.title.text == "position"
    assert [shape.y0 for shape in layout(figure).shapes] == [0]


def test_the_title_names_the_largest_and_the_parts() -> None:
    values = np.array([0.0, -1, -1, -1, 3, 2, 1, 0])
    title = meta_of(markers(halves(by_position(values))))["title"]
    assert title.startswith("Score: largest at 4 (3.00), 5 (2.00) and 6 (1.00); smallest at")
    assert "on average START and END 0, first half −1.00 and second half 2.00" in title
    assert "smallest" not in meta_of(markers(by_position(np.abs(values))))["title"]


def test_means_over_prompts_have_intervals() -> None:
    spread = np.random.default_rng(0).normal(size=(20, 4)) + np.array([1, 2, 3, 4])
    result = by_position(spread, prompt=range(20))
    result.attrs["n_prompts"] = 20
    (trace,) = traces(markers(result))
    np.testing.assert_allclose(trace.y, spread.mean(0))
    assert (np.array(trace.error_y.array) > 0).all()
    assert "Means of 20 prompts" in meta_of(markers(result))["caption"]
    assert traces(markers(by_position(spread[0])))[0].error_y.array is None


def test_show_says_what_moves_where() -> None:
    (block,) = blocks_of(halves(by_position(np.arange(8.0))))
    assert "What 1.0 asks of what 0.0 moves: largest at 7 (7.00)" in block.html()
    said = by_position(np.arange(8.0)).assign_attrs(method="V-composition")
    assert "What 1.0 says of what 0.0 moves" in uw.show(said).html


def test_sequences_that_have_no_halves_are_refused() -> None:
    for n in (2, 5):
        with pytest.raises(uw.InputError, match="even number"):
            halves(by_position(np.zeros(n)))
    with pytest.raises(uw.InputError, match="no dimension"):
        markers(by_position(np.zeros(4)), x="token")
