"""The traces of a figure, for tests that look at what was drawn."""

from typing import Any

import plotly.graph_objects as go


def traces(figure: go.Figure, kind: str = "") -> list[Any]:
    """All traces, or those of one kind: `heatmap`, `scatter`, `bar`."""
    every: Any = figure.data
    return [trace for trace in every if kind in ("", trace.type)]


def layout(figure: go.Figure) -> Any:
    """The figure's layout, whose attributes type checkers do not know."""
    return figure.layout
