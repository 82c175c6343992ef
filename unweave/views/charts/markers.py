"""One marker a position, around a line at 0, coloured by the part of the sequence where it stands."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from unweave.errors import InputError
from unweave.results.labels import number
from unweave.results.summary import summaries
from unweave.views.charts.arrange import NARROW, WIDE, single
from unweave.views.charts.captions import caption, meaning, measure
from unweave.views.charts.frame import framed
from unweave.views.charts.hover import hover_data, hover_lines
from unweave.views.charts.panels import axis_title, check_dims, ticks
from unweave.views.text import label
from unweave.views.theme import NEUTRAL, PALETTE
from unweave.views.wording import listed

if TYPE_CHECKING:
    import xarray

ENDS, FIRST, SECOND = "START and END", "first half", "second half"
COLOURS = {ENDS: PALETTE[1], FIRST: PALETTE[4], SECOND: PALETTE[0]}


def halves(result: "xarray.DataArray", dim: str = "pos") -> "xarray.DataArray":
    """The result with a coordinate `part` along its positions: the two ends, and the two halves between them.

    Raises:
        InputError: no such dimension, or an odd number of positions.
    """
    n = result.sizes.get(dim, 0)
    if n < 4 or n % 2:
        raise InputError(f"result: expected an even number of positions along {dim!r}, at least 4, got {n}")
    parts = [ENDS, *[FIRST] * (n // 2 - 1), *[SECOND] * (n // 2 - 1), ENDS]
    return result.assign_coords(part=(dim, parts))


def markers(result: "xarray.DataArray", *, x: str = "pos", title: str = "") -> go.Figure:
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
        _draw(figure, table, labels, [n for n, part in enumerate(parts) if part == name], name, colour)
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
    shown = " ".join(filter(None, [_prompts(table), _scale(table.attrs)]))
    layouts = (single(width, ticks(table, x), legend) for width in (WIDE, NARROW))
    return framed(figure, title or markers_finding(table, x, parts), shown, *layouts)


def markers_finding(table: "xarray.Dataset", x: str, parts: Sequence[str]) -> str:
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


def _draw(
    figure: go.Figure, table: "xarray.Dataset", labels: Sequence[str], places: Sequence[int], name: str, colour: str
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


def _prompts(table: "xarray.Dataset") -> str:
    return caption([table]) if int(table.attrs.get("n_prompts", 0)) else ""


def _scale(attrs: Mapping[Any, Any]) -> str:
    return f"{', '.join(meaning(attrs))}." if meaning(attrs) else ""
