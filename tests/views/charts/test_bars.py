"""Ranked bars: the rows of `top`, with intervals, shares, and doubt."""

import numpy as np
import pytest
import xarray as xr

from tests.results.fake import heads, result, with_tokens
from tests.views.drawn import layout, traces
from unweave.errors import InputError
from unweave.results import top
from unweave.views.charts.bars import bars
from unweave.views.wording import percent


def test_bars_are_the_rows_of_top() -> None:
    fake = heads(n_prompts=32)
    figure, rows = bars(fake, 4), top(fake, 4).rows
    drawn = traces(figure)[0]
    np.testing.assert_allclose(drawn.x, [row.mean for row in rows])
    np.testing.assert_allclose(drawn.error_x.array, [row.high - row.mean for row in rows])
    np.testing.assert_allclose(drawn.error_x.arrayminus, [row.mean - row.low for row in rows])
    assert list(layout(figure).yaxis.ticktext) == [row.label for row in rows]
    assert list(layout(figure).yaxis2.ticktext) == [percent(row.cumulative) for row in rows]
    low, high = layout(figure).yaxis.range
    assert low > high  # the first stands at the top


def test_doubtful_bars_are_pale() -> None:
    figure = bars(heads(n_prompts=32), 4)
    assert list(traces(figure)[0].marker.opacity) == [0.9, 0.9, 0.35, 0.35]
    assert "Pale bars: not different from 0" in layout(figure).meta["caption"]


def test_colours_say_the_sign() -> None:
    up, down = traces(bars(heads(), 2))[0].marker.color
    assert up != down


def test_the_title_gives_the_share() -> None:
    title = layout(bars(heads(), 9)).meta["title"]
    assert title.startswith("The 9 largest make up 100\u00a0% of the sum of all sizes; first 2.1 (0.51)")


def test_sites_and_tokens_in_names() -> None:
    both = xr.Dataset({"z": heads(), "q": heads() * 0.5})
    assert list(layout(bars(both, 2)).yaxis.ticktext) == ["z 2.1", "z 3.0"]
    fake = with_tokens(result({"prompt": 2, "layer": 1, "pos": 2}), [["<script>", " b"]] * 2)
    assert {"layer 0 @ 0 &lt;script&gt;", "layer 0 @ 1 ·b"} == set(layout(bars(fake)).yaxis.ticktext)


def test_nothing_to_rank_and_no_interval() -> None:
    assert layout(bars(heads() * 0)).meta["title"] == "Every cell is exactly 0"
    alone = traces(bars(heads(n_prompts=1), 3))[0]
    assert list(alone.error_x.array) == [0, 0, 0]
    assert list(alone.marker.opacity) == [0.9] * 3


def test_bad_options_are_named() -> None:
    with pytest.raises(InputError, match="by: expected"):
        bars(heads(), by="size")
