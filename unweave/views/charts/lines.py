"""Curves over layers, stages or positions, with the interval over prompts as a band."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from unweave.errors import InputError
from unweave.results.summary import summaries
from unweave.views.charts.arrange import NARROW, WIDE, single
from unweave.views.charts.captions import caption, largest, meaning, measure, shared, steepest
from unweave.views.charts.frame import framed
from unweave.views.charts.hover import hover_data
from unweave.views.charts.panels import SITES, axis_title, check_dims, ticks
from unweave.views.facts import named, subjects
from unweave.views.text import label
from unweave.views.theme import PALETTE

if TYPE_CHECKING:
    import xarray


def lines(
    result: "xarray.DataArray | xarray.Dataset | xarray.DataTree | Mapping[str, Any]",
    *,
    x: str,
    series: str | None = None,
    title: str = "",
) -> go.Figure:
    """Means over prompts as lines; all series under the pointer are read together.

    Args:
        result: a result, several sites of one, several results by name (a line each), or summaries of these.
        x: the dimension along the axis, with its labels: `stage`, `layer`, `pos`, …
        series: a dimension with a line for each value.
        title: what was found; computed from the data if left out.

    Raises:
        InputError: a dimension that the result does not have, or one that is neither axis nor series.
    """
    tables = summaries(result)
    curves = _curves(tables, x, series)
    first, drawn = curves[0][1], [table for _, table in curves]
    figure = go.Figure()
    for place, (name, table) in enumerate(curves):
        _draw(figure, name if len(curves) > 1 else "", table, x, PALETTE[place % len(PALETTE)])
    figure.update_layout(
        hovermode="x unified",
        xaxis={
            "type": "category",
            "title": {"text": label(axis_title(first, x))},
            "showgrid": False,
            "showspikes": False,
        },
        yaxis={"title": {"text": label(shared(drawn, measure))}, "zeroline": True},
        showlegend=len(curves) > 1,
    )
    found = title or _finding(tables, curves, x)
    names = [name for name, _ in curves] if len(curves) > 1 else []
    labels = ticks(first, x)
    shown = caption(drawn, scale=shared(drawn, meaning))
    return framed(figure, found, shown, single(WIDE, labels, names), single(NARROW, labels, names))


def _curves(tables: "Mapping[str, xarray.Dataset]", x: str, series: str | None) -> "list[tuple[str, xarray.Dataset]]":
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


def _draw(figure: go.Figure, name: str, table: "xarray.Dataset", x: str, colour: str) -> None:
    labels = [label(tick) for tick in ticks(table, x)]
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


def _finding(tables: "Mapping[str, xarray.Dataset]", curves: "Sequence[tuple[str, xarray.Dataset]]", x: str) -> str:
    """The largest step of a single curve over stages, which build up; the largest values of all others."""
    if len(curves) == 1 and x == "stage":
        table = curves[0][1]
        return steepest(ticks(table, x), table["mean"].values, str(table.attrs.get("quantity", "mean")))
    return largest(tables)
