"""Histograms: every value counted once, in bins that groups share."""

import numpy as np
import pytest
import xarray as xr

from tests.views.drawn import layout, traces
from unweave.errors import InputError
from unweave.views.charts.bars import histogram


def values() -> xr.DataArray:
    numbers = np.random.default_rng(0).normal(size=200)
    numbers[::2] += 3
    kinds = ["<b>pal</b>", "non-pal"] * 100
    attrs = {"quantity": "logit difference", "unit": "logits", "n_prompts": 200}
    return xr.DataArray(numbers, dims="prompt", coords={"kind": ("prompt", kinds)}, attrs=attrs)


def test_groups_share_fifty_bins() -> None:
    figure = histogram(values(), by="kind")
    first, second = traces(figure)
    assert len(first.x) == 50
    np.testing.assert_array_equal(first.x, second.x)
    assert sum(first.y) == sum(second.y) == 100
    assert first.customdata[0][0] == values().min()
    assert first.customdata[-1][1] == values().max()
    assert first.name == "&lt;b&gt;pal&lt;/b&gt;"
    assert first.opacity == 0.6
    assert layout(figure).barmode == "overlay"
    expected = np.histogram(values()[::2], np.histogram_bin_edges(values(), 50))[0]
    np.testing.assert_array_equal(first.y, expected)


def test_the_title_gives_the_means() -> None:
    title = layout(histogram(values(), by="kind")).meta["title"]
    assert f"{float(values()[::2].mean()):.2f} on average in <b>pal</b> (standard deviation" in title


def test_what_is_counted_has_a_name() -> None:
    one_each = values().isel({dim: 0 for dim in values().dims if dim != "prompt"}, drop=True)
    n = one_each.size
    counts = {n: layout(histogram(one_each)), 2 * n: layout(histogram({"a": one_each, "b": one_each}))}
    assert counts[n].yaxis.title.text == "prompts"
    assert counts[n].meta["caption"].startswith(f"{n} prompts.")
    assert counts[2 * n].yaxis.title.text == "values"
    assert counts[2 * n].meta["caption"].startswith(f"{2 * n} values of {n} prompts.")


def test_one_group_and_named_results() -> None:
    assert len(traces(histogram(values()))) == 1
    assert not layout(histogram(values())).showlegend
    named = histogram({"a": values(), "b": values() * 2}, bins=7, colours={"b": "#123456"})
    assert [trace.name for trace in traces(named)] == ["a", "b"]
    assert len(traces(named)[0].x) == 7
    assert traces(named)[1].marker.color == "#123456"


def test_gaps_are_not_counted() -> None:
    fake = values()
    fake[:50] = np.nan
    assert sum(traces(histogram(fake))[0].y) == 150


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="by: 'role' is no coordinate along one dimension; the result has kind"):
        histogram(values(), by="role")
    with pytest.raises(InputError, match="no value that is a number"):
        histogram(values() * np.nan)
    with pytest.raises(InputError, match="bins: expected at least 1, got 0"):
        histogram(values(), bins=0)
    with pytest.raises(InputError, match="by: results by name are groups already"):
        histogram({"a": values()}, by="kind")
