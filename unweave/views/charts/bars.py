"""Ranked bars of the largest cells with their intervals; and how values are spread over prompts or cells."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float

from unweave.errors import InputError
from unweave.results.labels import number, p_value
from unweave.results.summary import summaries
from unweave.results.top import Row, top
from unweave.views.captions import with_values
from unweave.views.certainty import caption, doubtful
from unweave.views.charts.arrange import NARROW, WIDE, Layout, framed, single
from unweave.views.scope import named, subjects
from unweave.views.sense import meaning, measure, sense_of, shared
from unweave.views.theme import NEUTRAL, PALETTE
from unweave.views.wording import Result, counted, label, percent, visible

_ROW, _LETTER, _FEWEST = 22, 6.6, 5
_BETTER, _WORSE = "#2a6fb4", "#c96a1b"


def bars(
    result: Result | xr.DataTree | Mapping[str, Any],
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
    _draw_bars(figure, rows, [_BETTER if helps else _WORSE for helps in good], doubt, what or "value")
    # The shares are tick labels of a second axis, which plotly draws only if something stands on it.
    figure.add_scatter(x=[0.0] * len(rows), y=places, yaxis="y2", mode="none", hoverinfo="skip", showlegend=False)
    # A few rows leave room below them, which the title of the shares needs.
    rank = rows_axis(len(rows)) | {"range": [max(len(rows), _FEWEST) - 0.4, -0.6]}
    shares = [percent(row.cumulative) for row in rows]
    figure.update_layout(
        xaxis={"title": {"text": label(what)}, "zeroline": True},
        yaxis=rank | {"ticktext": [label(_name(row)) for row in rows]},
        yaxis2=rank | {"ticktext": shares, "overlaying": "y", "side": "right", "title": {"text": "cumulative share"}},
        showlegend=False,
        bargap=0.3,
    )
    shown = caption(list(tables.values()), mark="Pale bars" if any(doubt) else "", scale=scale)
    layout = _layout([_name(row) for row in rows])
    return framed(figure, title or _bars_finding(rows), shown, layout, layout)


def _draw_bars(figure: go.Figure, rows: Sequence[Row], colours: list[str], doubt: Sequence[bool], what: str) -> None:
    mean, low, high = (np.array([getattr(row, end) for row in rows]) for end in ("mean", "low", "high"))
    figure.add_bar(
        x=mean,
        y=list(range(len(rows))),
        orientation="h",
        marker={
            "color": colours,
            "opacity": [0.35 if pale else 0.9 for pale in doubt],
        },
        error_x=whiskers(mean, low, high),
        customdata=[
            [label(_name(row)), number(row.low), number(row.high), p_value(row.p_holm), percent(row.cumulative)]
            for row in rows
        ],
        hovertemplate=(
            f"<b>%{{customdata[0]}}</b><br>{label(what)} %{{x:.3f}}"
            "<br>interval %{customdata[1]} to %{customdata[2]}<br>adjusted %{customdata[3]}"
            "<br>with those above: %{customdata[4]} of the sum of all sizes<extra></extra>"
        ),
    )


def rows_axis(n: int) -> dict[str, Any]:
    """The axis of `n` rows, the first at the top."""
    rows = {"range": [n - 0.4, -0.6], "tickvals": list(range(n))}
    return {"type": "linear", "showgrid": False, "zeroline": False, **rows}


def whiskers(
    mean: Float[np.ndarray, " row"], low: Float[np.ndarray, " row"], high: Float[np.ndarray, " row"]
) -> dict[str, Any]:
    """Intervals of bars; none if they are not known."""
    ends = {"array": np.nan_to_num(high - mean, posinf=0.0), "arrayminus": np.nan_to_num(mean - low, posinf=0.0)}
    return {"type": "data", "symmetric": False, "color": NEUTRAL, "thickness": 1.5, "width": 3, **ends}


def _layout(labels: Sequence[str]) -> Layout:
    left = 16 + min(220, math.ceil(_LETTER * max(map(len, labels), default=0)))
    height = _ROW * max(len(labels), _FEWEST)
    return Layout(height, left, 62, 12, 46, {"xaxis.automargin": False, "yaxis.automargin": False})


def _name(row: Row) -> str:
    return f"{row.label} {visible(row.token)}".strip()


def _bars_finding(rows: Sequence[Row]) -> str:
    if not rows:
        return "Every cell is exactly 0"
    count = "The largest makes" if len(rows) == 1 else f"The {len(rows)} largest make"
    return f"{count} up {percent(rows[-1].cumulative)} of the sum of all sizes; first {with_values(rows[:3])}"


def histogram(
    result: xr.DataArray | Mapping[str, xr.DataArray],
    *,
    by: str | None = None,
    title: str = "",
    bins: int = 50,
    colours: Mapping[str, str] | None = None,
) -> go.Figure:
    """Counts of all values of a result, every prompt and cell by itself, in bins that the groups share.

    Args:
        result: a result, or several by name, a group each.
        by: a coordinate along one dimension whose values make the groups.
        title: what was found; computed from the data if left out.
        bins: how many, between the least and the largest value of all groups.
        colours: colours of groups by name.

    Raises:
        InputError: an unknown coordinate, or no value at all.
    """
    groups, attrs = _groups(result, by)
    if bins < 1:
        raise InputError(f"bins: expected at least 1, got {bins}")
    every = np.concatenate(list(groups.values()))
    if not len(every):
        raise InputError("result: there is no value that is a number")
    edges = np.histogram_bin_edges(every, bins)
    figure = go.Figure()
    for place, (name, values) in enumerate(groups.items()):
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=np.histogram(values, edges)[0],
            width=np.diff(edges),
            customdata=np.stack([edges[:-1], edges[1:]], axis=-1),
            name=label(name),
            opacity=0.6 if len(groups) > 1 else 0.85,
            marker={"color": (colours or {}).get(name, PALETTE[place % len(PALETTE)]), "line": {"width": 0}},
            hovertemplate="%{y} from %{customdata[0]:.3f} to %{customdata[1]:.3f}"
            + ("" if name else "<extra></extra>"),
        )
    figure.update_layout(
        barmode="overlay",
        bargap=0,
        xaxis={"title": {"text": label(measure(attrs))}, "zeroline": True, "showgrid": False},
        yaxis={"title": {"text": "prompts" if len(every) == int(attrs.get("n_prompts", 0)) else "values"}},
        showlegend=len(groups) > 1,
    )
    legend = list(groups) if len(groups) > 1 else []
    scale = f" {', '.join(meaning(attrs))}." if meaning(attrs) else ""
    shown = f"{_counts(len(every), int(attrs.get('n_prompts', 0)))}.{scale}"
    return framed(
        figure,
        title or _spread_finding(groups, attrs),
        shown,
        single(WIDE, legend=legend),
        single(NARROW, legend=legend),
    )


def _groups(
    result: xr.DataArray | Mapping[str, xr.DataArray], by: str | None
) -> tuple[dict[str, Float[np.ndarray, " _"]], Mapping[Any, Any]]:
    """The numbers of every group, and the attributes that all results share."""
    if isinstance(result, Mapping):
        if by is not None or not result:
            raise InputError("by: results by name are groups already; give one result, or leave out `by`")
        every = list(result.values())
        names = [named(name, of) for name, of in zip(result, subjects(every), strict=True)]
        same = {
            key: value for key, value in every[0].attrs.items() if all(one.attrs.get(key) == value for one in every)
        }
        return dict(zip(names, map(_numbers, every), strict=True)), same
    if by is None:
        return {"": _numbers(result)}, result.attrs
    if by not in result.coords or len(result[by].dims) != 1:
        known = [str(name) for name, coord in result.coords.items() if len(coord.dims) == 1]
        raise InputError(
            f"by: {by!r} is no coordinate along one dimension; the result has {', '.join(known) or 'none'}"
        )
    (dim,) = result[by].dims
    values = dict.fromkeys(result[by].values.tolist())
    return {
        str(value): _numbers(result.isel({dim: np.flatnonzero(result[by].values == value)})) for value in values
    }, result.attrs


def _numbers(result: xr.DataArray) -> Float[np.ndarray, " _"]:
    values = np.asarray(result.values, dtype=np.float64).ravel()
    return values[np.isfinite(values)]


def _counts(n_values: int, n_prompts: int) -> str:
    """What is counted: prompts, where each has one value."""
    if n_values == n_prompts:
        return counted(n_prompts, "prompt")
    return (
        f"{counted(n_values, 'value')} of {counted(n_prompts, 'prompt')}" if n_prompts else counted(n_values, "value")
    )


def _spread_finding(groups: Mapping[str, Float[np.ndarray, " _"]], attrs: Mapping[Any, Any]) -> str:
    what = str(attrs.get("quantity", "mean")).capitalize()
    said = [
        f"{number(values.mean())} on average{f' in {name}' if name else ''} (standard deviation {number(values.std())})"
        for name, values in groups.items()
        if len(values)
    ]
    return f"{what}: {', '.join(said)}"
