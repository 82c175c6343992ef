"""The attention of the last token as bars, sequence by sequence, with the tokens that do not match marked."""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from unweave.results.labels import number
from unweave.views.blocks import Figure
from unweave.views.charts.frame import Layout, framed
from unweave.views.text import label, visible
from unweave.views.theme import PALETTE

if TYPE_CHECKING:
    import xarray

_COLOURS = {False: PALETTE[0], True: PALETTE[4]}
_LEFT, _RIGHT, _HEIGHT, _LETTER = 44, 14, 110, 6.4


def end_bars(
    patterns: "xarray.DataArray", head: str, marked: Sequence[Sequence[bool]], names: Sequence[str], title: str = ""
) -> Figure:
    """A panel for each sequence: where a head looks from its last token.

    Args:
        patterns: `(prompt, address, q_pos, k_pos)` of `uw.attention`, sequences of one length.
        head: which of its addresses.
        marked: `[prompt][pos]`, the tokens that stand out.
        names: what each sequence is.
        title: computed if left out.
    """
    table = patterns.sel(address=head)
    rows = np.asarray(table.isel(q_pos=-1).transpose("prompt", "k_pos").values, dtype=np.float64)
    tokens = table["q_token"].values
    figure, top = go.Figure(), max(0.05, 1.08 * float(rows.max()))
    longest = 0
    for n, row in enumerate(rows):
        ticks = [f"{at} {visible(str(token))}" for at, token in enumerate(tokens[n])]
        longest = max(longest, *map(len, ticks))
        _draw(figure, row, ticks, [bool(mark) for mark in marked[n]], n)
        figure.update_layout({f"yaxis{n + 1}.range": [0, top]})
        heading = {"text": label(names[n]), "showarrow": False, "xref": "paper", "yref": "paper"}
        figure.add_annotation(heading | {"xanchor": "left", "yanchor": "bottom", "yshift": 2})
    figure.update_layout(showlegend=False, bargap=0.25)
    note = (
        "The bars of a sequence sum to 1. Red: values that differ from their mirror image. Ticks: position and value."
    )
    layouts = [_grid(len(rows), columns, longest) for columns in (2, 1)]
    return Figure(framed(figure, title or _finding(rows, marked, tokens, head), note, *layouts))


def _draw(figure: go.Figure, row: np.ndarray, ticks: Sequence[str], marks: Sequence[bool], n: int) -> None:
    end = "" if n == 0 else str(n + 1)
    figure.add_bar(
        x=list(map(label, ticks)),
        y=row,
        xaxis=f"x{end}",
        yaxis=f"y{end}",
        marker={"color": [_COLOURS[mark] for mark in marks], "line": {"width": 0}},
        hovertemplate="<b>%{x}</b><br>attention %{y:.3f}<extra></extra>",
    )
    fixed = {"automargin": False, "showgrid": False}
    figure.update_layout(
        {f"xaxis{n + 1}": fixed | {"anchor": f"y{end}", "type": "category", "tickangle": -90, "dtick": 1}}
    )
    figure.update_layout(
        {f"yaxis{n + 1}": {"automargin": False, "anchor": f"x{end}", "nticks": 4, "title": {"text": "attention"}}}
    )


def _grid(n: int, columns: int, longest: int) -> Layout:
    """Panels in so many columns; places are shares of the drawing area."""
    rows, below, head = ceil(n / columns), ceil(_LETTER * longest) + 14, 22
    step = _HEIGHT + below + head
    height = rows * step - below - head
    updates: dict[str, Any] = {}
    for place in range(n):
        row, column = divmod(place, columns)
        end = "" if place == 0 else str(place + 1)
        top = 1 - row * step / height
        start, width = column * 0.53 if columns > 1 else 0.0, 0.47 if columns > 1 else 1.0
        updates |= {
            f"xaxis{end}.domain": [start, start + width],
            f"yaxis{end}.domain": [max(top - _HEIGHT / height, 0.0), top],
        }
        updates |= {f"annotations[{place}].x": start, f"annotations[{place}].y": top}
    return Layout(height, _LEFT, _RIGHT, head + 4, below, updates)


def _finding(rows: np.ndarray, marked: Sequence[Sequence[bool]], tokens: np.ndarray, head: str) -> str:
    """How much goes to values that do not match, and what has most where all match."""
    marks = np.asarray(marked, dtype=bool)
    broken = marks.any(1)
    if not broken.any() or broken.all():
        return f"Where {head} looks from the last token"
    there = float((rows * marks)[broken].sum(1).mean())
    best = rows[~broken].argmax(1)
    names, times = np.unique(tokens[~broken, best], return_counts=True)
    share = float(rows[~broken].max(1).mean())
    where = f", on {times.max()} of {len(best)} at {visible(str(names[times.argmax()]))}" if times.max() > 1 else ""
    return (
        f"From END, {head} gives values that do not match {number(there)} together; where all match, its largest share "
        f"is {number(share)} on average{where}"
    )
