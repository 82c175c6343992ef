"""Where the panels of a figure stand, and its frame: title and caption, one layout for wide windows, one for narrow.

A layout is worked out in pixels for one width and written as shares of it, so that it stretches with the window. Places
are counted in pixels from the drawing area, so that a title above it moves nothing.
"""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from unweave.views import theme
from unweave.views.wording import label

_TITLE_LETTERS, _CAPTION_LETTERS = 95, 135
_TITLE_LINE, _CAPTION_LINE, _AROUND = 21, 16, 30


@dataclass(frozen=True)
class Layout:
    """A drawing area of `height` pixels with margins around it, and plotly layout updates by path (`xaxis.domain`)."""

    height: int
    left: int
    right: int
    top: int
    bottom: int
    updates: Mapping[str, Any] = field(default_factory=dict)

    def update(self) -> dict[str, Any]:
        """The layout as one update for `Plotly.relayout`."""
        return {
            "height": self.height + self.top + self.bottom,
            "margin": {"l": self.left, "r": self.right, "t": self.top, "b": self.bottom, "pad": 0},
            "dragmode": "zoom",
            **self.updates,
        }

    def above(self, pixels: float) -> float:
        """The paper coordinate so many pixels above the drawing area."""
        return 1 + pixels / self.height


def framed(figure: go.Figure, title: str, caption: str, wide: Layout, narrow: Layout) -> go.Figure:
    """The figure with its wide layout, title and caption; both layouts and texts are in `layout.meta` too."""
    titles, notes = textwrap.wrap(title, _TITLE_LETTERS), textwrap.wrap(caption, _CAPTION_LETTERS)
    head = _TITLE_LINE * len(titles) + _CAPTION_LINE * len(notes)
    figure.update_layout(theme.LIGHT)
    figure.plotly_relayout(wide.update())
    figure.update_layout(height=wide.update()["height"] + head + _AROUND, margin_t=wide.top + head + _AROUND)
    # An annotation, since plotly's own title stands in the drawing where it has several lines.
    layout: Any = figure.layout
    hidden = {f"annotations[{len(layout.annotations)}].visible": False}
    figure.add_annotation(
        text=f'<span style="font-size:16px">{_joined(titles)}</span><br>{_joined(notes)}',
        font={"size": 12},
        showarrow=False,
        align="left",
        **{"x": 0, "xref": "paper", "xanchor": "left", "xshift": 12 - wide.left},
        **{"y": 1, "yref": "paper", "yanchor": "bottom", "yshift": wide.top + 4},
    )
    layouts = {"wide": wide.update() | hidden, "narrow": narrow.update() | hidden}
    # A finger that swipes over a figure on a small screen means to scroll the page.
    layouts["narrow"]["dragmode"] = False
    figure.update_layout(meta={"title": title, "caption": caption, **layouts})
    return figure


def _joined(texts: list[str]) -> str:
    return "<br>".join(map(label, texts))


WIDE, NARROW = 880, 364
_LETTER, _HEADING = 6.4, 7.2
_TICK = 14
_CELL = 13
_WIDEST_CELL = 46
_TITLE = 22
_RIGHT = 14
_COLOUR_BAR = 42
_LINE = 14


@dataclass(frozen=True)
class Place:
    """What a panel needs to be placed: its tick labels, the titles of its axes, and its heading, if it has one.

    `y_title` is a label already, `x_title` plain text that is set in lines.
    """

    x: Sequence[str]
    y: Sequence[str]
    y_title: str
    heading: str
    x_title: str = ""


@dataclass(frozen=True)
class _Sizes:
    """Of all panels, in pixels: their number in a row, width and height, the room between and below them, and what the
    tick labels take of it."""

    columns: int
    rows: int
    width: float
    height: int
    left: int
    between: int
    below: int
    ticks: int
    upright: bool


def arranged(panels: Sequence[Place], width: int, bar_lines: int = 2) -> Layout:
    """The layout for a window of `width` pixels: axes and headings of all panels, and room above for a colour bar whose
    title has `bar_lines` lines.

    The figure's first annotations are the panels' headings, in order, and as many behind them the titles of their `x`
    axes: plotly's own titles give way to tick labels, upwards into the cells where there is little room below.
    """
    sizes = _sizes(panels, width)
    head = _TITLE if panels[0].heading else 4
    gap = sizes.below + head + 10
    height = sizes.rows * sizes.height + (sizes.rows - 1) * gap
    room = sizes.columns * sizes.width + (sizes.columns - 1) * sizes.between
    updates: dict[str, Any] = {}
    for number, panel in enumerate(panels):
        row, column = divmod(number, sizes.columns)
        start = column * (sizes.width + sizes.between) / room
        end = start + min(sizes.width, _WIDEST_CELL * len(panel.x)) / room
        top = 1 - row * (sizes.height + gap) / height
        updates |= _axes(panel, number, sizes, column == 0)
        updates[f"xaxis{number + 1}.domain"] = [start, min(end, 1.0)]
        foot = max(top - sizes.height / height, 0.0)
        updates[f"yaxis{number + 1}.domain"] = [foot, top]
        updates |= {f"annotations[{number}].x": start, f"annotations[{number}].y": top}
        title = f"annotations[{len(panels) + number}]"
        updates |= {f"{title}.x": (start + min(end, 1.0)) / 2, f"{title}.y": foot, f"{title}.yshift": -sizes.ticks - 4}
        updates[f"{title}.text"] = "<br>".join(map(label, _wrapped(panel.x_title, sizes.width)))
    # Otherwise a colour bar above few rows widens the margin, and the panels shrink.
    bar = {
        "coloraxis.colorbar.y": 1 + head / height,
        "coloraxis.colorbar.len": min(360, room),
        "margin.autoexpand": False,
    }
    return Layout(
        height, sizes.left, _RIGHT, head + _COLOUR_BAR + _LINE * bar_lines, sizes.below, _first(updates | bar)
    )


def single(width: int, ticks: Sequence[str] = (), legend: Sequence[str] = (), height: int = 340) -> Layout:
    """The layout for one drawing area: tick labels below it, upright where they need to be, and a legend above it.

    `ticks` are the labels of a category axis, or nothing for numbers.
    """
    left = 66
    room = width - left - _RIGHT
    longest = _LETTER * max(map(len, ticks), default=0)
    upright = longest + 6 > room / max(len(ticks), 1)
    updates: dict[str, Any] = {"yaxis.automargin": False, "xaxis.automargin": False}
    if ticks:
        updates["xaxis.tickangle"] = -90 if upright else 0
        updates["xaxis.dtick"] = math.ceil((_TICK if upright else longest) * len(ticks) / room)
    lines = _legend_lines(legend, room)
    above = 12 + 20 * lines
    place = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1 + 6 / height, "yanchor": "bottom"}
    updates |= {f"legend.{name}": value for name, value in place.items()} if legend else {}
    return Layout(height, left, _RIGHT, above, math.ceil(longest) + 36 if upright and ticks else 46, updates)


def _legend_lines(names: Sequence[str], room: int) -> int:
    """Lines that a horizontal legend takes: entries of the width of the longest, as plotly sets them."""
    if not names:
        return 0
    entry = 46 + _LETTER * 1.1 * max(map(len, names))
    return math.ceil(len(names) / max(1, int(room / entry)))


def _sizes(panels: Sequence[Place], width: int) -> _Sizes:
    cells = max(len(panel.x) for panel in panels)
    left = 44 + math.ceil(_LETTER * max(len(tick) for panel in panels for tick in panel.y))
    shared = all(list(panel.y) == list(panels[0].y) for panel in panels)
    between = 16 if shared else left
    room = width - left - _RIGHT
    least = max(_CELL * cells, *(_HEADING * len(panel.heading) for panel in panels))
    columns = max(1, min(len(panels), 5, int((room + between) // (least + between))))
    panel_width = (room - between * (columns - 1)) / columns
    longest = _LETTER * max(len(tick) for panel in panels for tick in panel.x)
    upright = longest + 4 > min(panel_width / cells, _WIDEST_CELL)
    rows = max(len(panel.y) for panel in panels)
    lines = max(len(_wrapped(panel.x_title, panel_width)) for panel in panels)
    return _Sizes(
        columns=columns,
        rows=math.ceil(len(panels) / columns),
        width=panel_width,
        height=min(max(15 * rows, 90), 560),
        left=left,
        between=between,
        below=(math.ceil(longest) if upright else _TICK) + 16 + _LINE * lines,
        ticks=math.ceil(longest) if upright else _TICK,
        upright=upright,
    )


def _wrapped(title: str, width: float) -> list[str]:
    """The lines of a title that may be as wide as its panel."""
    return textwrap.wrap(title, max(12, int(width / _LETTER)), break_long_words=False) or [""]


def _axes(panel: Place, number: int, sizes: _Sizes, first: bool) -> dict[str, Any]:
    """Angle and density of tick labels; `y` has labels and title on the first panel of a row or where panels differ."""
    x, y = f"xaxis{number + 1}", f"yaxis{number + 1}"
    cell = min(sizes.width / len(panel.x), _WIDEST_CELL)
    longest = _TICK if sizes.upright else _LETTER * max(map(len, panel.x)) + 4
    labelled = first or sizes.between > 16
    return {
        f"{x}.tickangle": -90 if sizes.upright else 0,
        f"{x}.dtick": math.ceil(longest / cell),
        f"{y}.dtick": math.ceil(_TICK * len(panel.y) / sizes.height),
        f"{y}.showticklabels": labelled,
        f"{y}.title.text": panel.y_title if labelled else "",
    }


def _first(updates: dict[str, Any]) -> dict[str, Any]:
    """Plotly writes the first axis without its number."""
    return {re.sub(r"^([xy]axis)1\.", r"\1.", path): value for path, value in updates.items()}
