"""Tables of effects as colours around 0: layers by heads, layers by tokens, side by side for several sites.

All panels share one colour range, so that sites can be compared. The range is symmetric around 0 and reaches the
largest cell, unless that one is more than three times as large as any other; then it stops there, and the caption
says so.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from unweave.results.labels import number
from unweave.results.summary import summaries
from unweave.views import theme
from unweave.views.captions import largest
from unweave.views.certainty import caption, never_negative, unclear
from unweave.views.charts.arrange import NARROW, WIDE, Place, arranged, framed
from unweave.views.charts.panels import (
    Panel,
    axis_title,
    check_dims,
    dimension,
    hover_data,
    hover_lines,
    names,
    panels,
    ticks,
)
from unweave.views.sense import meaning, measure, sense_of, shared
from unweave.views.wording import Result, label

_SCALE_LETTERS = 52


@dataclass(frozen=True)
class _Grid:
    """One panel's cells: labels of both axes, axis titles, and the summary with `y` first."""

    title: str
    x: list[str]
    y: list[str]
    x_title: str
    y_title: str
    cells: xr.Dataset
    names: np.ndarray
    unclear: np.ndarray


def heatmap(
    result: Result | xr.DataTree | Mapping[str, Any],
    *,
    x: str,
    y: str = "layer",
    facet: str | None = None,
    title: str = "",
    values: bool = False,
    crosses: bool = True,
) -> go.Figure:
    """Means over prompts as colours; the interval, p-value and number of prompts on hover.

    Layer 0 is at the bottom. Cells not different from 0 carry a dot. Positions show the token; where prompts differ,
    that of the first prompt, which the axis says.

    Args:
        result: a result, several sites of one (a panel each), or a `summary` of either, which is not computed again.
        x, y: the dimensions of the axes. `head` stands for `kv_head` too, where keys and values are shared.
        facet: a dimension with a panel for each value.
        title: what was found; computed from the data if left out.
        values: write each mean into its cell.
        crosses: mark cells that were not reached; otherwise they are blank.

    Raises:
        InputError: a dimension that the result does not have, or one that is neither axis nor facet.
    """
    tables = summaries(result)
    grids = [_grid(panel, x, y) for panel in panels(tables, facet)]
    means = [grid.cells["mean"].values for grid in grids]
    limit, reach = _limit(means)
    cells = [grid.cells for grid in grids]
    attrs = cells[0].attrs
    least = 0.0 if never_negative(attrs) and all((np.nan_to_num(mean) >= 0).all() for mean in means) else -limit
    figure = go.Figure()
    for place, grid in enumerate(grids):
        _draw(figure, grid, place, values, crosses)
    shown = caption(cells, mark="In brackets" if values else "Dots")
    if crosses and any(np.isnan(mean).any() for mean in means):
        beyond = any({"pos", "q_pos", "k_pos"} & set(table.dims) for table in cells)
        shown += f" Crosses: not reached{', or beyond the end of every prompt' if beyond else ''}."
    if limit < reach:
        shown += f" Colours stop at {'±' if least else ''}{number(limit)}; the largest size is {number(reach)}."
    _set_axes(figure, grids)
    lines = _scale_lines(cells)
    # Blue is for the answer: where low numbers are good, the scale is turned.
    turned = all(sense_of(table).good < 0 for table in cells)
    figure.update_layout(coloraxis=_colours(least, limit, lines) | {"reversescale": turned})
    places = [Place(grid.x, grid.y, label(grid.y_title), grid.title, grid.x_title) for grid in grids]
    wide, narrow = (arranged(places, width, len(lines)) for width in (WIDE, NARROW))
    return framed(figure, title or largest(tables), shown, wide, narrow)


def _grid(panel: Panel, x: str, y: str) -> _Grid:
    x, y = dimension(panel.table, x), dimension(panel.table, y)
    check_dims(panel.table, (x, y), all_of_them=True)
    cells = panel.table.transpose(y, x, ...)
    return _Grid(
        title=panel.title,
        x=ticks(cells, x),
        y=ticks(cells, y),
        x_title=axis_title(cells, x),
        y_title=axis_title(cells, y),
        cells=cells,
        names=names(cells, (y, x)),
        unclear=unclear(cells),
    )


def _limit(means: Sequence[np.ndarray]) -> tuple[float, float]:
    """The end of the colour range, and the largest size there is."""
    sizes = np.abs(np.concatenate([mean.ravel() for mean in means]))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not len(sizes):
        return 1.0, 0.0
    largest_two = np.sort(sizes)[-2:]
    reach = float(largest_two[-1])
    return min(reach, 3 * float(largest_two[0])), reach


def _draw(figure: go.Figure, grid: _Grid, place: int, values: bool, crosses: bool) -> None:
    axes = {"xaxis": _axis("x", place), "yaxis": _axis("y", place)}
    x, y = [label(tick) for tick in grid.x], [label(tick) for tick in grid.y]
    mean = grid.cells["mean"].values
    figure.add_heatmap(
        z=mean.astype(np.float32),
        x=x,
        y=y,
        hovertext=[[label(name) for name in row] for row in grid.names.tolist()],
        customdata=hover_data(grid.cells),
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
        hoverongaps=False,
        hovertemplate=f"<b>%{{hovertext}}</b><br>{hover_lines(grid.cells, 'z')}<extra>{label(grid.title)}</extra>",
        text=_written(mean, grid.unclear) if values else None,
        texttemplate="%{text}" if values else None,
        **axes,
    )
    dots = np.zeros_like(grid.unclear) if values else grid.unclear
    for marked, symbol, size in ((dots, "circle", 3), (np.isnan(mean) & crosses, "x-thin-open", 5)):
        if marked.any():
            rows, columns = np.nonzero(marked)
            figure.add_scatter(
                x=[x[column] for column in columns],
                y=[y[row] for row in rows],
                mode="markers",
                marker={"symbol": symbol, "size": size, "color": theme.NEUTRAL, "opacity": 0.75},
                hoverinfo="skip",
                showlegend=False,
                **axes,
            )


def _set_axes(figure: go.Figure, grids: Sequence[_Grid]) -> None:
    plain = {
        "type": "category",
        "showgrid": False,
        "zeroline": False,
        "automargin": False,
        "ticks": "",
        "ticklabelstandoff": 2,
    }
    for place, grid in enumerate(grids):
        # Layers grow upwards, as the residual stream is drawn; a list is read from above.
        upwards = str(grid.cells["mean"].dims[0]) in ("layer", "from")
        ends = [-0.5, len(grid.y) - 0.5] if upwards else [len(grid.y) - 0.5, -0.5]
        x = {"anchor": _axis("y", place), "range": [-0.5, len(grid.x) - 0.5]}
        y = {"anchor": _axis("x", place), "range": ends}
        figure.update_layout({f"xaxis{place + 1}": plain | x, f"yaxis{place + 1}": plain | y})
    free = {"showarrow": False, "xref": "paper", "yref": "paper"}
    for grid in grids:
        figure.add_annotation(free | {"text": label(grid.title), "xanchor": "left", "yanchor": "bottom", "yshift": 2})
    for grid in grids:
        figure.add_annotation(
            free | {"text": label(grid.x_title), "xanchor": "center", "yanchor": "top", "opacity": 0.8}
        )


def _scale_lines(tables: Sequence[xr.Dataset]) -> list[str]:
    """What the colours say, in lines that have room above a figure on a small screen."""
    zero, *one = shared(tables, meaning) or ("",)
    what = shared(tables, measure) or "; ".join(dict.fromkeys(measure(table.attrs) for table in tables))
    said = [f"{what}: {zero}" if zero else what, *one]
    return [line for text in said for line in textwrap.wrap(text, _SCALE_LETTERS)]


def _colours(least: float, limit: float, lines: Sequence[str]) -> dict[str, Any]:
    bar = {"orientation": "h", "thickness": 10, "lenmode": "pixels", "x": 0, "xanchor": "left", "yanchor": "bottom"}
    title = {"text": "<br>".join(map(label, lines)), "side": "top", "font": {"size": 11}}
    return {"cmin": least, "cmax": limit, "colorbar": bar | {"ypad": 4, "xpad": 0, "nticks": 7, "title": title}}


def _written(mean: np.ndarray, unclear: np.ndarray) -> list[list[str]]:
    texts = np.vectorize(
        lambda value: f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−"), otypes=[object]
    )(mean)
    return np.where(unclear, "(" + texts + ")", texts).tolist()


def _axis(letter: str, place: int) -> str:
    return letter if place == 0 else f"{letter}{place + 1}"
