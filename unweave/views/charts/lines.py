"""Curves over layers, stages or positions, with the interval as a band; and one marker a position."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from unweave.errors import InputError
from unweave.results.labels import number
from unweave.results.summary import summaries
from unweave.views.captions import largest, steepest
from unweave.views.certainty import caption
from unweave.views.charts.arrange import NARROW, WIDE, framed, single
from unweave.views.charts.panels import SITES, axis_title, check_dims, hover_data, hover_lines, ticks
from unweave.views.scope import named, subjects
from unweave.views.sense import meaning, measure, shared
from unweave.views.theme import NEUTRAL, PALETTE
from unweave.views.wording import Result, label, listed


def lines(
    result: Result | xr.DataTree | Mapping[str, Any],
    *,
    x: str,
    series: str | None = None,
    title: str = "",
    log: bool = False,
) -> go.Figure:
    """Means over prompts as lines; all series under the pointer are read together.

    Args:
        result: a result, several sites of one, several results by name (a line each), or summaries of these.
        x: the dimension along the axis, with its labels: `stage`, `layer`, `pos`, …
        series: a dimension with a line for each value.
        title: what was found; computed from the data if left out.
        log: a logarithmic axis of shares, where the labels are numbers.

    Raises:
        InputError: a dimension that the result does not have, or one that is neither axis nor series.
    """
    tables = summaries(result)
    curves = _curves(tables, x, series)
    first, drawn = curves[0][1], [table for _, table in curves]
    figure = go.Figure()
    for place, (name, table) in enumerate(curves):
        _draw_line(figure, name if len(curves) > 1 else "", table, x, PALETTE[place % len(PALETTE)], log)
    scale = {"type": "log", "dtick": 1, "tickformat": "~%", "hoverformat": "~%"} if log else {"type": "category"}
    figure.update_layout(
        hovermode="x unified",
        xaxis=scale
        | {
            "title": {"text": label(axis_title(first, x))},
            "showgrid": False,
            "showspikes": False,
        },
        yaxis={"title": {"text": label(shared(drawn, measure))}, "zeroline": True},
        showlegend=len(curves) > 1,
    )
    found = title or _lines_finding(tables, curves, x)
    names = [name for name, _ in curves] if len(curves) > 1 else []
    labels = [] if log else ticks(first, x)
    shown = caption(drawn, scale=shared(drawn, meaning))
    return framed(figure, found, shown, single(WIDE, labels, names), single(NARROW, labels, names))


def _curves(tables: Mapping[str, xr.Dataset], x: str, series: str | None) -> list[tuple[str, xr.Dataset]]:
    """(name, summary over `x` alone) of every line."""
    if series is None:
        for table in tables.values():
            check_dims(table, (x,), all_of_them=True, option="series")
        # Curves of two metrics have no axis in common: each says its own.
        units = ["" if shared(list(tables.values()), measure) else measure(table.attrs) for table in tables.values()]
        of = [", ".join(filter(None, pair)) for pair in zip(subjects(list(tables.values())), units, strict=True)]
        return [(named(SITES.get(site, site), said), tables[site]) for site, said in zip(tables, of, strict=True)]
    if len(tables) > 1:
        raise InputError(f"series: there are several results already ({', '.join(tables)}); give one of them")
    (table,) = tables.values()
    check_dims(table, (x, series), all_of_them=True)
    return [(str(value), table.sel({series: value})) for value in table[series].values]


def _draw_line(figure: go.Figure, name: str, table: xr.Dataset, x: str, colour: str, log: bool) -> None:
    labels = table[x].values.tolist() if log else [label(tick) for tick in ticks(table, x)]
    mean, low, high = (table[column].values for column in ("mean", "low", "high"))
    known = np.flatnonzero(np.isfinite(high - low)).tolist()
    if known:
        there, back = known, known[::-1]
        figure.add_scatter(
            x=[labels[place] for place in there + back],
            y=np.concatenate([high[there], low[back]]),
            fill="toself",
            fillcolor=colour,
            opacity=0.18,
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=name,
        )
    interval = "   (%{customdata[0]:.2f} to %{customdata[1]:.2f})" if known else ""
    figure.add_scatter(
        x=labels,
        y=mean,
        name=label(name),
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"size": 5, "color": colour},
        customdata=hover_data(table),
        hovertemplate=f"%{{y:.3f}}{interval}" + ("" if name else "<extra></extra>"),
        legendgroup=name,
    )


def _lines_finding(tables: Mapping[str, xr.Dataset], curves: Sequence[tuple[str, xr.Dataset]], x: str) -> str:
    """The largest step of a single curve over stages, which build up; the largest values of all others."""
    if len(curves) == 1 and x == "stage":
        table = curves[0][1]
        return steepest(ticks(table, x), table["mean"].values, str(table.attrs.get("quantity", "mean")))
    return largest(tables)


ENDS, FIRST, SECOND = "START and END", "first half", "second half"
COLOURS = {ENDS: PALETTE[1], FIRST: PALETTE[4], SECOND: PALETTE[0]}


def halves(result: xr.DataArray, dim: str = "pos") -> xr.DataArray:
    """The result with a coordinate `part` along its positions: the two ends, and the two halves between them.

    Raises:
        InputError: no such dimension, or an odd number of positions.
    """
    n = result.sizes.get(dim, 0)
    if n < 4 or n % 2:
        raise InputError(f"result: expected an even number of positions along {dim!r}, at least 4, got {n}")
    parts = [ENDS, *[FIRST] * (n // 2 - 1), *[SECOND] * (n // 2 - 1), ENDS]
    return result.assign_coords(part=(dim, parts))


def markers(result: xr.DataArray, *, x: str = "pos", title: str = "") -> go.Figure:
    """Values along one axis as markers; means over prompts with their intervals.

    Args:
        result: a result with the dimension `x` alone, or with `prompt` besides. A coordinate `part` along `x` groups
            and colours its places (see `halves`).
        x: the dimension along the axis.
        title: what was found; computed from the data if left out.

    Raises:
        InputError: a dimension that the result does not have, or one that is neither `x` nor `prompt`.
    """
    (table,) = summaries(result).values()
    check_dims(table, (x,), all_of_them=True, option="x")
    labels = [label(tick) for tick in ticks(table, x)]
    parts = [str(part) for part in result["part"].values] if "part" in result.coords else [""] * len(labels)
    names = list(dict.fromkeys(parts))
    figure = go.Figure()
    for place, name in enumerate(names):
        colour = COLOURS.get(name, PALETTE[place % len(PALETTE)])
        _draw_markers(figure, table, labels, [n for n, part in enumerate(parts) if part == name], name, colour)
    figure.add_hline(y=0, line={"color": NEUTRAL, "width": 1})
    figure.update_layout(
        xaxis={
            "type": "category",
            "categoryorder": "array",
            "categoryarray": labels,
            "title": {"text": label(axis_title(table, x))},
            "showgrid": False,
        },
        yaxis={"title": {"text": label(measure(table.attrs))}},
        showlegend=len(names) > 1,
    )
    legend = names if len(names) > 1 else []
    scale = meaning(table.attrs)
    alone = f"{', '.join(scale)}." if scale else ""
    shown = caption([table], scale=scale) if int(table.attrs.get("n_prompts", 0)) else alone
    layouts = (single(width, ticks(table, x), legend) for width in (WIDE, NARROW))
    return framed(figure, title or markers_finding(table, x, parts), shown, *layouts)


def markers_finding(table: xr.Dataset, x: str, parts: Sequence[str]) -> str:
    """The mean of every part, and where the values are largest and smallest."""
    means, names = table["mean"].values, [str(value) for value in table[x].values]
    what = str(table.attrs.get("quantity", "mean")).capitalize()
    if not np.isfinite(means).any():
        return f"{what}: no value"
    order = [int(n) for n in np.argsort(-means) if np.isfinite(means[n])]
    high = [f"{names[n]} ({number(float(means[n]))})" for n in order[:3] if means[n] > 0]
    low = [f"{names[n]} ({number(float(means[n]))})" for n in order[::-1][:2] if means[n] < 0]
    said = [f"largest at {listed(high)}"] if high else []
    said += [f"smallest at {listed(low)}"] if low else []
    groups = {part: np.nanmean(means[[one == part for one in parts]]) for part in dict.fromkeys(parts) if part}
    averages = [f"{part} {number(float(value))}" for part, value in groups.items()]
    return f"{what}: {'; '.join([*said, *([f'on average {listed(averages)}'] if averages else [])])}"


def _draw_markers(
    figure: go.Figure, table: xr.Dataset, labels: Sequence[str], places: Sequence[int], name: str, colour: str
) -> None:
    mean, low, high = (table[column].values[list(places)] for column in ("mean", "low", "high"))
    known = np.isfinite(low).any()
    bars = {"array": high - mean, "arrayminus": mean - low, "thickness": 1, "width": 2} if known else None
    figure.add_scatter(
        x=[labels[place] for place in places],
        y=mean,
        mode="markers",
        name=label(name),
        marker={"size": 9, "color": colour},
        error_y=bars,
        customdata=hover_data(table)[list(places)],
        hovertemplate=f"<b>%{{x}}</b><br>{hover_lines(table, 'y')}<extra>{label(name)}</extra>",
    )
