"""What was drawn, for tests: the traces and the layout of a figure, and texts with plain spaces."""

from typing import Any

import plotly.graph_objects as go

from unweave.views.wording import SPACE


def traces(figure: go.Figure, kind: str = "") -> list[Any]:
    """All traces, or those of one kind: `heatmap`, `scatter`, `bar`."""
    every: Any = figure.data
    return [trace for trace in every if kind in ("", trace.type)]


def layout(figure: go.Figure) -> Any:
    """The figure's layout, whose attributes type checkers do not know."""
    return figure.layout


def said(text: str) -> str:
    """A text with plain spaces."""
    return text.replace(SPACE, " ")
