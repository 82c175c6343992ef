"""How values are spread over prompts or cells, one group over the other."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from unweave.errors import InputError
from unweave.results.labels import number
from unweave.views.charts.arrange import NARROW, WIDE, single
from unweave.views.charts.captions import meaning, measure
from unweave.views.charts.frame import framed
from unweave.views.facts import named, subjects
from unweave.views.text import label
from unweave.views.theme import PALETTE
from unweave.views.wording import counted

if TYPE_CHECKING:
    import xarray


def histogram(
    result: "xarray.DataArray | Mapping[str, xarray.DataArray]",
    *,
    by: str | None = None,
    title: str = "",
    bins: int = 50,
    colours: Mapping[str, str] | None = None,
) -> go.Figure:
    """Counts of all values of a result, every prompt and cell by itself, in bins that the groups share.

    Args:
        result: a result, or several by name, a group each.
        by: a coordinate along one dimension whose values make the groups.
        title: what was found; computed from the data if left out.
        bins: how many, between the least and the largest value of all groups.
        colours: colours of groups by name.

    Raises:
        InputError: an unknown coordinate, or no value at all.
    """
    groups, attrs = _groups(result, by)
    if bins < 1:
        raise InputError(f"bins: expected at least 1, got {bins}")
    every = np.concatenate(list(groups.values()))
    if not len(every):
        raise InputError("result: there is no value that is a number")
    edges = np.histogram_bin_edges(every, bins)
    figure = go.Figure()
    for place, (name, values) in enumerate(groups.items()):
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=np.histogram(values, edges)[0],
            width=np.diff(edges),
            customdata=np.stack([edges[:-1], edges[1:]], axis=-1),
            name=label(name),
            opacity=0.6 if len(groups) > 1 else 0.85,
            marker={"color": (colours or {}).get(name, PALETTE[place % len(PALETTE)]), "line": {"width": 0}},
            hovertemplate="%{y} from %{customdata[0]:.3f} to %{customdata[1]:.3f}"
            + ("" if name else "<extra></extra>"),
        )
    figure.update_layout(
        barmode="overlay",
        bargap=0,
        xaxis={"title": {"text": label(measure(attrs))}, "zeroline": True, "showgrid": False},
        yaxis={"title": {"text": "prompts" if len(every) == int(attrs.get("n_prompts", 0)) else "values"}},
        showlegend=len(groups) > 1,
    )
    legend = list(groups) if len(groups) > 1 else []
    scale = f" {', '.join(meaning(attrs))}." if meaning(attrs) else ""
    shown = f"{_counts(len(every), int(attrs.get('n_prompts', 0)))}.{scale}"
    return framed(
        figure, title or _finding(groups, attrs), shown, single(WIDE, legend=legend), single(NARROW, legend=legend)
    )


def _groups(
    result: "xarray.DataArray | Mapping[str, xarray.DataArray]", by: str | None
) -> tuple[dict[str, Float[np.ndarray, " _"]], Mapping[Any, Any]]:
    """The numbers of every group, and the attributes that all results share."""
    if isinstance(result, Mapping):
        if by is not None or not result:
            raise InputError("by: results by name are groups already; give one result, or leave out `by`")
        every = list(result.values())
        names = [named(name, of) for name, of in zip(result, subjects(every), strict=True)]
        same = {
            key: value for key, value in every[0].attrs.items() if all(one.attrs.get(key) == value for one in every)
        }
        return dict(zip(names, map(_numbers, every), strict=True)), same
    if by is None:
        return {"": _numbers(result)}, result.attrs
    if by not in result.coords or len(result[by].dims) != 1:
        known = [str(name) for name, coord in result.coords.items() if len(coord.dims) == 1]
        raise InputError(
            f"by: {by!r} is no coordinate along one dimension; the result has {', '.join(known) or 'none'}"
        )
    (dim,) = result[by].dims
    values = dict.fromkeys(result[by].values.tolist())
    return {
        str(value): _numbers(result.isel({dim: np.flatnonzero(result[by].values == value)})) for value in values
    }, result.attrs


def _numbers(result: "xarray.DataArray") -> Float[np.ndarray, " _"]:
    values = np.asarray(result.values, dtype=np.float64).ravel()
    return values[np.isfinite(values)]


def _counts(n_values: int, n_prompts: int) -> str:
    """What is counted: prompts, where each has one value."""
    if n_values == n_prompts:
        return counted(n_prompts, "prompt")
    return (
        f"{counted(n_values, 'value')} of {counted(n_prompts, 'prompt')}" if n_prompts else counted(n_values, "value")
    )


def _finding(groups: Mapping[str, Float[np.ndarray, " _"]], attrs: Mapping[Any, Any]) -> str:
    what = str(attrs.get("quantity", "mean")).capitalize()
    said = [
        f"{number(values.mean())} on average{f' in {name}' if name else ''} (standard deviation {number(values.std())})"
        for name, values in groups.items()
        if len(values)
    ]
    return f"{what}: {', '.join(said)}"
