"""Bars of the last token's attention: every bar is a cell of the pattern's last row, in the colour of its match."""

from typing import Any

import numpy as np
import xarray as xr

from unweave.views.attention_view import end_bars


def patterns() -> xr.DataArray:
    values = np.zeros((2, 2, 4, 4))
    values[0, 1, -1], values[1, 1, -1] = [0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.6, 0.2]
    tokens = np.array([["START", "1", "1", "END"], ["START", "1", "<b>", "END"]])
    return xr.DataArray(
        values,
        dims=("prompt", "address", "q_pos", "k_pos"),
        coords={"address": ["1.0", "1.1"], "q_token": (("prompt", "q_pos"), tokens)},
    )


def bars(marked: list[list[bool]], names: list[str]) -> tuple[Any, dict[str, Any]]:
    """The traces, and what the figure brings for its page."""
    figure: Any = end_bars(patterns(), "1.1", marked, names).figure
    return figure.data, dict(figure.layout.meta)


def test_bars_are_the_last_row() -> None:
    marked = [[False] * 4, [False, True, True, False]]
    (first, second), meta = bars(marked, ["same", "differs"])
    np.testing.assert_allclose(first.y, [0.7, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(second.y, [0.1, 0.1, 0.6, 0.2])
    colours = list(second.marker.color)
    assert colours[1] == colours[2] != colours[0] == colours[3]
    assert second.x[2] == "2 &lt;b&gt;"
    assert meta["title"].startswith("From END, 1.1 gives values that do not match 0.70 together")
    assert "0.70 on average" in meta["title"]


def test_without_both_kinds_nothing_is_compared() -> None:
    _, meta = bars([[False] * 4] * 2, ["a", "b"])
    assert meta["title"] == "Where 1.1 looks from the last token"


def test_panels_do_not_overlap() -> None:
    _, meta = bars([[False] * 4] * 2, ["a", "b"])
    wide, narrow = (meta[name] for name in ("wide", "narrow"))
    assert wide["xaxis.domain"][1] < wide["xaxis2.domain"][0]
    assert narrow["yaxis.domain"][0] > narrow["yaxis2.domain"][1]
