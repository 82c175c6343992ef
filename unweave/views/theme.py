"""Colours and layout that every figure shares, in light and in dark.

`LIGHT` and `DARK` are layout updates: a page switches a drawn figure with `Plotly.relayout(figure, DARK)`. Figures
leave every colour that depends on the background to the template in them, so that one update recolours axes, facets,
legends and colour scales. Figures are made with `LIGHT`.

Every figure of this package carries `layout.meta`, for pages that set its title as text and follow the window's width:
`title` and `caption` (plain text, not escaped), and two further layout updates, `wide` and `narrow` (below `NARROW`
pixels), which place panels side by side or one below another, set the height, and leave no room for a title.

The diverging scale runs from orange (negative) over the background's own colour (0) to blue (positive): the pair that
people with any of the common colour-vision deficiencies tell apart. Its blue half alone stands for what cannot be
negative: plotly takes it by itself where a colour axis begins at 0 (`autocolorscale`).

The eight colours of `PALETTE` were chosen by search: any two differ by at least 25 (CIE76) as seen with normal vision,
protanopia, deuteranopia and tritanopia (the matrices of Machado, Oliveira and Fernandes 2009), and each has a contrast
of at least 2.5 against both backgrounds.
"""

from collections.abc import Sequence

PALETTE = ("#415bd4", "#ce9909", "#a8168c", "#55b2a1", "#f0785d", "#4f640f", "#979edd", "#874b50")
NEUTRAL = "#87919b"
NARROW = 640

# Steps of roughly equal lightness from the middle outwards; the middle is nearly the page's own colour.
_DIVERGING_LIGHT = ("#6e2a00", "#b85c14", "#e39a55", "#f5cfa8", "#f7f8f9", "#b4d0ea", "#6ba3d6", "#2a6fb4", "#0d3f78")
_DIVERGING_DARK = ("#ffd9b5", "#f0a462", "#b06a2c", "#5c3d22", "#1d2126", "#234a70", "#2f72b2", "#62a5e4", "#b3d7fb")
_SEQUENTIAL = ("#3b1d6e", "#5b3fa0", "#4c72b8", "#3a9bb0", "#5dba8f", "#b5cf5a", "#f3d03e")

CONFIG: dict[str, object] = {
    "displaylogo": False,
    "responsive": True,
    "typesetMath": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"],
}


def _template(paper: str, ink: str, soft: str, rule: str, diverging: Sequence[str]) -> dict[str, object]:
    axis = {
        "automargin": True,
        "gridcolor": rule,
        "linecolor": rule,
        "zerolinecolor": soft,
        "zerolinewidth": 1,
        "tickfont": {"size": 11, "color": soft},
        "title": {"font": {"size": 12, "color": soft}, "standoff": 8},
    }
    layout = {
        "paper_bgcolor": paper,
        "plot_bgcolor": paper,
        "font": {
            "family": "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif",
            "size": 13,
            "color": ink,
        },
        "title": {"font": {"size": 16, "color": ink}},
        "colorway": list(PALETTE),
        "colorscale": {"diverging": _scale(diverging), "sequential": _scale(diverging[len(diverging) // 2 :])},
        "coloraxis": {
            "autocolorscale": True,
            "colorbar": {"outlinewidth": 0, "tickfont": {"size": 11, "color": soft}},
        },
        "xaxis": axis,
        "yaxis": axis,
        "hoverlabel": {"bgcolor": paper, "bordercolor": rule, "font": {"size": 12, "color": ink}, "align": "left"},
        "legend": {"font": {"size": 12}, "bgcolor": "rgba(0,0,0,0)"},
        "annotationdefaults": {"font": {"size": 12, "color": ink}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": rule, "activecolor": soft},
    }
    return {"layout": layout}


def _scale(colours: Sequence[str]) -> list[list[object]]:
    return [[step / (len(colours) - 1), colour] for step, colour in enumerate(colours)]


LIGHT: dict[str, object] = {"template": _template("#ffffff", "#1c2127", "#59636e", "#dfe3e8", _DIVERGING_LIGHT)}
DARK: dict[str, object] = {"template": _template("#14171b", "#e3e6ea", "#9ba5b0", "#2c333b", _DIVERGING_DARK)}
SEQUENTIAL: list[list[object]] = _scale(_SEQUENTIAL)
