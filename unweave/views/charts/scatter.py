"""Two quantities of the same heads, layers or prompts against each other, and where the names of points stand."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float

from unweave.errors import InputError
from unweave.results.labels import number
from unweave.results.summary import summaries
from unweave.views.certainty import caption
from unweave.views.charts.arrange import NARROW, WIDE, framed, single
from unweave.views.charts.panels import SITES, names
from unweave.views.scope import named, subjects
from unweave.views.sense import meaning, measure, shared
from unweave.views.theme import NEUTRAL, PALETTE, SEQUENTIAL
from unweave.views.wording import Result, label

_NOUNS = {("layer", "head"): "heads", ("prompt",): "prompts", ("layer",): "layers", ("edge",): "edges"}
_NAMED = 6
_SYMBOLS = ("circle", "square", "diamond", "star", "cross", "triangle-up")
_LONGEST = 80
# Width and height of the drawing area on a small screen: names that have room there have room everywhere.
_AREA = (NARROW - 80, 320)


@dataclass(frozen=True)
class _Points:
    """Names, places and colour values of all points; `noun` is what a point is."""

    names: list[str]
    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    colour: list[str] | list[float] | None
    noun: str


def scatter(
    x: Result,
    y: Result,
    *,
    title: str = "",
    colour: str | Mapping[str, str] | None = None,
    diagonal: bool = False,
    equal: bool = False,
    misses: bool = False,
) -> go.Figure:
    """A point for each cell of two results, averaged over prompts; a point a prompt where that is all there is.

    The points farthest out are named, or those farthest from the line y = x; all are on hover.

    Args:
        x, y: results, or summaries, with the same dimensions.
        title: what was found; computed from the data if left out.
        colour: a dimension or coordinate to colour by (`layer`), or the group of each point by its name
            (`{"23.3": "name movers"}`); points without a group are grey.
        diagonal: draw the line y = x, with equal ranges on both axes.
        equal: equal ranges on both axes.
        misses: name the points farthest from the line, not those farthest out.

    Raises:
        InputError: results with different dimensions, or an unknown coordinate.
    """
    points, tables = _points(x, y, colour)
    both = np.concatenate([points.x, points.y])
    titles = [named(_axis_title(table), of) for of, table in zip(subjects(tables), tables, strict=True)]
    figure = go.Figure()
    if diagonal:
        line = {"color": NEUTRAL, "width": 1, "dash": "dot"}
        figure.add_scatter(x=_range(both), y=_range(both), mode="lines", line=line, hoverinfo="skip", showlegend=False)
    ends = [_range(both)] * 2 if diagonal or equal else [_range(points.x), _range(points.y)]
    groups = _draw(figure, points, titles, colour if isinstance(colour, str) else "", _named(points, ends, misses))
    figure.update_layout(
        xaxis={"title": {"text": label(titles[0])}, "range": ends[0], "zeroline": True},
        yaxis={"title": {"text": label(titles[1])}, "range": ends[1], "zeroline": True},
        showlegend=bool(groups),
        hovermode="closest",
    )
    shown = f"A point for each of {len(points.names)} {points.noun}."
    if points.noun != "prompts":
        shown = f"{caption(tables, scale=shared(tables, meaning))} {shown}"
    wide, narrow = single(WIDE, legend=groups, height=460), single(NARROW, legend=groups, height=_AREA[1])
    return framed(figure, title or _finding(points, diagonal), shown, wide, narrow)


def _points(x: Any, y: Any, colour: Any) -> tuple[_Points, list[xr.Dataset]]:
    tables = [_table(one) for one in (x, y)]
    dims = [str(dim) for dim in tables[0]["mean"].dims]
    if set(dims) != set(map(str, tables[1]["mean"].dims)):
        others = ", ".join(map(str, tables[1]["mean"].dims))
        raise InputError(
            f"x and y: expected the same dimensions, got ({', '.join(dims)}) and ({others}); average or select"
        )
    means = [table["mean"].transpose(*dims) for table in tables]
    if means[0].shape != means[1].shape:
        raise InputError(f"x and y: expected the same sizes, got {means[0].shape} and {means[1].shape}")
    labels = _texts(tables[0]) if dims == ["prompt"] else names(tables[0], dims).ravel().tolist()
    points = _Points(
        names=labels,
        x=means[0].values.ravel().astype(float),
        y=means[1].values.ravel().astype(float),
        colour=_colour(colour, tables[0], labels, dims),
        noun=_NOUNS.get(tuple(dims), "cells"),
    )
    return points, tables


def _table(result: Any) -> xr.Dataset:
    """A summary; of an array with prompts alone, the array itself as the means."""
    if isinstance(result, xr.DataArray) and result.dims == ("prompt",):
        return result.rename("mean").to_dataset().assign_attrs(result.attrs)
    return next(iter(summaries(result).values()))


def _texts(table: xr.Dataset) -> list[str]:
    if "text" not in table.coords:
        return [f"prompt {place + 1}" for place in range(table.sizes["prompt"])]
    return [textwrap.shorten(str(text), _LONGEST, placeholder=" …") for text in table["text"].values]


def _colour(
    colour: str | Mapping[str, str] | None, table: xr.Dataset, labels: Sequence[str], dims: Sequence[str]
) -> list[str] | list[float] | None:
    if colour is None:
        return None
    if isinstance(colour, Mapping):
        return [colour.get(name, "other") for name in labels]
    if colour not in table.coords:
        raise InputError(
            f"colour: {colour!r} is no coordinate of the result, which has {', '.join(map(str, table.coords))}"
        )
    values = table[colour].broadcast_like(table["mean"]).transpose(*dims).values.ravel()
    return values.astype(float).tolist() if values.dtype.kind in "iufb" else [str(value) for value in values]


def _draw(
    figure: go.Figure, points: _Points, titles: Sequence[str], scale: str, places: Mapping[int, str]
) -> list[str]:
    """Draw the points, a trace for each group, with the names that have a place; returns the groups' names, which are
    none for a colour scale."""
    hover = "<b>%{customdata}</b><br>" + "<br>".join(
        f"{label(t)} %{{{axis}:.3f}}" for t, axis in zip(titles, "xy", strict=True)
    )
    groups = [str(name) for name in points.colour or []] if points.colour and isinstance(points.colour[0], str) else []
    for place, group in enumerate(dict.fromkeys(groups) or [""]):
        chosen = [row for row in range(len(points.names)) if not groups or groups[row] == group]
        marker = {
            "size": 7,
            "symbol": _SYMBOLS[place % len(_SYMBOLS)],
            "line": {"width": 0},
            "color": NEUTRAL if group == "other" else PALETTE[place % len(PALETTE)],
        }
        if points.colour and not groups:
            bar = {"title": {"text": label(scale)}, "thickness": 10, "outlinewidth": 0}
            marker |= {"color": points.colour, "colorscale": SEQUENTIAL, "showscale": True, "colorbar": bar}
        figure.add_scatter(
            x=points.x[chosen],
            y=points.y[chosen],
            text=[label(points.names[row]) if places.get(row) else "" for row in chosen],
            customdata=[label(points.names[row]) for row in chosen],
            mode="markers+text",
            textposition=[places.get(row) or "top center" for row in chosen],
            textfont={"size": 11},
            marker=marker,
            name=label(group),
            hovertemplate=f"{hover}<extra></extra>",
        )
    return list(dict.fromkeys(groups))


def _named(points: _Points, ends: Sequence[Sequence[float]], misses: bool) -> dict[int, str]:
    """Where the names of the points farthest out stand, or of those farthest from the line."""
    far = _far_out(points, misses)
    dots = (points.x, points.y) if misses else None
    found = name_places(points.x[far], points.y[far], [points.names[row] for row in far], ends, _AREA, dots)
    return dict(zip(far, found, strict=True))


def _far_out(points: _Points, misses: bool) -> list[int]:
    """The points to be named on the drawing, the farthest first; none of a set of prompts, whose names are texts."""
    if points.noun == "prompts":
        return []
    if misses:
        return np.argsort(-np.nan_to_num(np.abs(points.x - points.y)), kind="stable")[:_NAMED].tolist()
    spread = [values / (np.nan_to_num(np.abs(values)).max(initial=0.0) or 1.0) for values in (points.x, points.y)]
    order = np.argsort(-np.nan_to_num(np.hypot(*spread)), kind="stable")
    return order[:_NAMED].tolist()


def _finding(points: _Points, diagonal: bool) -> str:
    known = np.isfinite(points.x) & np.isfinite(points.y)
    x, y = points.x[known], points.y[known]
    labels = [name for name, there in zip(points.names, known, strict=True) if there]
    if len(labels) < 3 or not x.std() or not y.std():
        return f"{len(labels)} {points.noun}"
    said = f"Over {len(labels)} {points.noun} the correlation is {number(float(np.corrcoef(x, y)[0, 1]))}"
    if points.noun == "prompts":
        return said
    size = np.abs(x - y) if diagonal else np.hypot(x / np.abs(x).max(), y / np.abs(y).max())
    far = int(np.argmax(size))
    where = "from the line" if diagonal else "out"
    return f"{said}; {labels[far]} is farthest {where} ({number(x[far])}, {number(y[far])})"


def _axis_title(table: xr.Dataset) -> str:
    site = str(table.attrs.get("site", ""))
    return f"{SITES.get(site, site)}: {measure(table.attrs)}" if site else measure(table.attrs)


def _range(values: Float[np.ndarray, " point"]) -> list[float]:
    """From the least to the largest value, 0 among them, with a margin for names."""
    known = np.append(values[np.isfinite(values)], 0.0)
    low, high = float(known.min()), float(known.max())
    margin = 0.08 * ((high - low) or 1.0)
    return [low - margin, high + margin]


_LETTER, _LINE, _AWAY = 6.4, 13.0, 7.0
# Left, right, lower and upper end.
Box = tuple[float, float, float, float]


def name_places(
    x: Float[np.ndarray, " point"],
    y: Float[np.ndarray, " point"],
    names: Sequence[str],
    ranges: Sequence[Sequence[float]],
    size: tuple[int, int],
    dots: tuple[Float[np.ndarray, " dot"], Float[np.ndarray, " dot"]] | None = None,
) -> list[str]:
    """plotly's `textposition` of every name; empty for a name that is empty, or has no room.

    Args:
        x, y: of the points, in data units.
        names: of the points; empty where a point has none.
        ranges: the ends of the two axes, in data units.
        size: width and height of the drawing area in pixels.
        dots: x and y of all points, of which names are to hide few.
    """
    hidden = list(zip(*(map(_pixels, dots, ranges, size)), strict=True)) if dots else []
    points = [_pixels(values, ends, room) for values, ends, room in zip((x, y), ranges, size, strict=True)]
    signs = [
        (across - _AWAY, across + _AWAY, up - _AWAY, up + _AWAY) if name else None
        for name, across, up in zip(names, *points, strict=True)
    ]
    taken: list[Box] = []
    places = []
    for own, (name, across, up) in enumerate(zip(names, *points, strict=True)):
        others = [sign for at, sign in enumerate(signs) if sign and at != own]
        free = [
            (place, box)
            for place, box in _boxes(name, across, up)
            if name and _inside(box, size) and not any(_overlap(box, other) for other in (*taken, *others))
        ]
        place, box = min(free, key=lambda at: sum(_holds(at[1], dot) for dot in hidden), default=("", None))
        places.append(place)
        taken += [box] if box else []
    return places


def _pixels(values: Float[np.ndarray, " point"], ends: Sequence[float], room: int) -> list[float]:
    return ((values - ends[0]) / ((ends[1] - ends[0]) or 1.0) * room).tolist()


def _boxes(name: str, across: float, up: float) -> list[tuple[str, Box]]:
    wide = _LETTER * len(name)
    middle, level = (across - wide / 2, across + wide / 2), (up - _LINE / 2, up + _LINE / 2)
    return [
        ("top center", (*middle, up + _AWAY, up + _AWAY + _LINE)),
        ("bottom center", (*middle, up - _AWAY - _LINE, up - _AWAY)),
        ("middle right", (across + _AWAY, across + _AWAY + wide, *level)),
        ("middle left", (across - _AWAY - wide, across - _AWAY, *level)),
    ]


def _inside(box: Box, size: tuple[int, int]) -> bool:
    return box[0] >= 0 and box[1] <= size[0] and box[2] >= 0 and box[3] <= size[1]


def _holds(box: Box, dot: tuple[float, float]) -> bool:
    return box[0] <= dot[0] <= box[1] and box[2] <= dot[1] <= box[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]
