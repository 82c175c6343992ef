"""The frame of every figure: its title and caption, and its two layouts, for wide and for narrow windows.

Places are counted in pixels from the drawing area, so that a title above it moves nothing.
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from unweave.views import theme
from unweave.views.text import label

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
        text=f'<span style="font-size:16px">{_lines(titles)}</span><br>{_lines(notes)}',
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


def _lines(texts: list[str]) -> str:
    return "<br>".join(map(label, texts))
