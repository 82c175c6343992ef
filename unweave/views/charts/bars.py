"""The largest cells of a result as ranked bars, with their intervals and the share that they hold together."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from unweave.results.labels import number, p_value
from unweave.results.summary import summaries
from unweave.results.top import Row, top
from unweave.views.charts.captions import caption, doubtful, meaning, measure, named, shared
from unweave.views.charts.frame import Layout, framed
from unweave.views.facts import sense_of
from unweave.views.text import label, visible
from unweave.views.theme import NEUTRAL
from unweave.views.wording import percent

if TYPE_CHECKING:
    import xarray

_ROW, _LETTER, _FEWEST = 22, 6.6, 5
_BETTER, _WORSE = "#2a6fb4", "#c96a1b"


def bars(
    result: "xarray.DataArray | xarray.Dataset | xarray.DataTree | Mapping[str, Any]",
    n: int = 10,
    *,
    by: str = "abs",
    title: str = "",
) -> go.Figure:
    """The `n` cells with the largest means, the first at the top: blue where the answer is better, as it is above 0 if
    the metric is good where it is high, orange where it is worse.

    Beside each bar stands the share of the total size (sum of absolute means of all cells) that it and those above it
    hold. Bars of cells not different from 0 are pale.

    Args:
        result: a result, several sites of one, results by name, or summaries of these.
        n: how many bars.
        by: "abs" for the largest in size, "high" for the highest, "low" for the lowest.
        title: what was found; computed from the data if left out.

    Raises:
        InputError: an unknown `by`, or `n` below 1.
    """
    tables = summaries(result)
    rows = top(tables, n, by=by).rows
    doubt = [doubtful(row, tables[row.site].attrs) for row in rows]
    what, scale = (shared(list(tables.values()), say) for say in (measure, meaning))
    places = list(range(len(rows)))
    figure = go.Figure()
    good = [sense_of(tables[row.site]).good * row.mean > 0 for row in rows]
    _draw(figure, rows, [_BETTER if helps else _WORSE for helps in good], doubt, what or "value")
    # The shares are tick labels of a second axis, which plotly draws only if something stands on it.
    figure.add_scatter(x=[0.0] * len(rows), y=places, yaxis="y2", mode="none", hoverinfo="skip", showlegend=False)
    rank = {
        "type": "linear",
        # A few rows leave room below them, which the title of the shares needs.
        "range": [max(len(rows), _FEWEST) - 0.4, -0.6],
        "tickvals": places,
        "showgrid": False,
        "zeroline": False,
    }
    shares = [f"{percent(row.cumulative)}" for row in rows]
    figure.update_layout(
        xaxis={"title": {"text": label(what)}, "zeroline": True},
        yaxis=rank | {"ticktext": [label(_name(row)) for row in rows]},
        yaxis2=rank | {"ticktext": shares, "overlaying": "y", "side": "right", "title": {"text": "cumulative share"}},
        showlegend=False,
        bargap=0.3,
    )
    shown = caption(list(tables.values()), mark="Pale bars" if any(doubt) else "", scale=scale)
    layout = _layout([_name(row) for row in rows])
    return framed(figure, title or _finding(rows), shown, layout, layout)


def _draw(figure: go.Figure, rows: Sequence[Row], colours: list[str], doubt: Sequence[bool], what: str) -> None:
    mean, low, high = (np.array([getattr(row, end) for row in rows]) for end in ("mean", "low", "high"))
    figure.add_bar(
        x=mean,
        y=list(range(len(rows))),
        orientation="h",
        marker={
            "color": colours,
            "opacity": [0.35 if pale else 0.9 for pale in doubt],
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": np.nan_to_num(high - mean, posinf=0.0),
            "arrayminus": np.nan_to_num(mean - low, posinf=0.0),
            "color": NEUTRAL,
            "thickness": 1.5,
            "width": 3,
        },
        customdata=[
            [label(_name(row)), number(row.low), number(row.high), p_value(row.p_holm), f"{percent(row.cumulative)}"]
            for row in rows
        ],
        hovertemplate=(
            f"<b>%{{customdata[0]}}</b><br>{label(what)} %{{x:.3f}}"
            "<br>interval %{customdata[1]} to %{customdata[2]}<br>adjusted %{customdata[3]}"
            "<br>with those above: %{customdata[4]} of the sum of all sizes<extra></extra>"
        ),
    )


def _layout(labels: Sequence[str]) -> Layout:
    left = 16 + min(220, math.ceil(_LETTER * max(map(len, labels), default=0)))
    height = _ROW * max(len(labels), _FEWEST)
    return Layout(height, left, 62, 12, 46, {"xaxis.automargin": False, "yaxis.automargin": False})


def _name(row: Row) -> str:
    return f"{row.label} {visible(row.token)}".strip()


def _finding(rows: Sequence[Row]) -> str:
    if not rows:
        return "Every cell is exactly 0"
    count = "The largest makes" if len(rows) == 1 else f"The {len(rows)} largest make"
    return f"{count} up {percent(rows[-1].cumulative)} of the sum of all sizes; first {named(rows[:3])}"
