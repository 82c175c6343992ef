"""Scatters: points where they belong, named, grouped."""

import numpy as np
import pytest
import xarray as xr

from tests.results.fake import heads, result
from tests.views.drawn import layout, traces
from unweave.errors import InputError
from unweave.views.charts.scatter import scatter
from unweave.views.theme import NEUTRAL


def test_points_are_means_with_names_on_hover() -> None:
    x, y = heads(), heads() * 2 + 0.1
    (points,) = traces(scatter(x, y))
    np.testing.assert_allclose(points.x, x.mean("prompt").values.ravel(), rtol=1e-5)
    np.testing.assert_allclose(points.y, y.mean("prompt").values.ravel(), rtol=1e-5)
    assert points.customdata[7] == "2.1"
    assert "customdata" in points.hovertemplate


def test_dimensions_may_come_in_another_order() -> None:
    (points,) = traces(scatter(heads(), heads().transpose("head", "prompt", "layer")))
    np.testing.assert_allclose(points.x, points.y)


def test_the_farthest_are_named_on_the_drawing() -> None:
    (points,) = traces(scatter(heads(), heads()))
    named = [text for text in points.text if text]
    assert {"2.1", "3.0"} <= set(named)
    assert 2 < len(named) <= 6


def test_the_diagonal_and_equal_ranges() -> None:
    figure = scatter(heads(), heads() * 3, diagonal=True)
    line = traces(figure)[0]
    assert line.mode == "lines"
    assert line.x == line.y
    assert layout(figure).xaxis.range == layout(figure).yaxis.range
    assert "farthest from the line" in layout(figure).meta["title"]
    assert layout(scatter(heads(), heads() * 3)).xaxis.range != layout(scatter(heads(), heads() * 3)).yaxis.range
    equal = layout(scatter(heads(), heads() * 3, equal=True))
    assert equal.xaxis.range == equal.yaxis.range


def test_colour_by_layer() -> None:
    (points,) = traces(scatter(heads(), heads(), colour="layer"))
    assert list(points.marker.color) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert points.marker.colorbar.title.text == "layer"


def test_colour_by_group() -> None:
    figure = scatter(heads(), heads(), colour={"2.1": "movers", "3.0": "negative"})
    drawn = {trace.name: trace for trace in traces(figure)}
    assert set(drawn) == {"other", "movers", "negative"}
    assert drawn["movers"].customdata == ("2.1",)
    assert drawn["other"].marker.color == NEUTRAL
    assert drawn["movers"].marker.color != drawn["negative"].marker.color


def test_prompts_are_points_where_there_is_nothing_else() -> None:
    texts = ["<script>alert(1)</script> " + "long " * 40, "b", "c", "d"]
    x = xr.DataArray(
        [1.0, 2, 3, 4], dims="prompt", coords={"text": ("prompt", texts), "kind": ("prompt", list("abab"))}
    )
    figure = scatter(x, x * x, colour="kind")
    assert [list(trace.x) for trace in traces(figure)] == [[1, 3], [2, 4]]
    hover = traces(figure)[0].customdata[0]
    assert hover.startswith("&lt;script&gt;")
    assert len(hover) < 130
    assert "4 prompts" in layout(figure).meta["title"]


def test_the_title_gives_the_correlation() -> None:
    assert "correlation is −1.00" in layout(scatter(heads(), -heads())).meta["title"]
    assert layout(scatter(heads(), heads() * 0)).meta["title"] == "12 heads"


def test_unlike_results_are_refused() -> None:
    other = result({"prompt": 8, "layer": 4, "kv_head": 1})
    with pytest.raises(InputError, match=r"expected the same dimensions, got \(layer, head\) and \(layer, kv_head\)"):
        scatter(heads(), other)
    with pytest.raises(InputError, match=r"expected the same sizes, got \(4, 3\) and \(2, 3\)"):
        scatter(heads(), heads()[:, :2])
    with pytest.raises(InputError, match="colour: 'depth' is no coordinate of the result, which has layer, head"):
        scatter(heads(), heads(), colour="depth")
