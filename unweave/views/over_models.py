"""Results over several models (`uw.over_models`): curves along the models, or a panel a model.

nothing else          one curve                       layer, head      a curve for each of the leading heads
one other axis        a curve for each value,         any two others   a heat map for each model
                      or a heat map where they are many
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from unweave.errors import InputError
from unweave.results.summary import summaries
from unweave.views.blocks import Block, Figure
from unweave.views.charts.captions import steepest
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.lines import lines
from unweave.views.leading import HEADS, leading_heads

if TYPE_CHECKING:
    import xarray

MOST_CURVES = 8


def model_blocks(result: "xarray.DataArray | Mapping[str, xarray.Dataset]", title: str, n: int) -> list[Block]:
    """The pictures of a result with a dimension `model`.

    Args:
        result: with `model`, at most two dimensions besides it and `prompt`; or its summary, by its name.
        title: what was found; computed from the result if left out.
        n: how many heads get a curve.

    Raises:
        InputError: more dimensions than there is a picture for.
    """
    ((name, table),) = summaries(result).items()
    others = [str(dim) for dim in table["mean"].dims if dim != "model"]
    if not others:
        return [Figure(lines({name: table}, x="model", title=title or _along(table)))]
    head = next((dim for dim in others if dim in HEADS), None)
    if head and set(others) == {"layer", head}:
        curves = leading_heads(table, head, n or MOST_CURVES)
        panels = heatmap(table, x=head, facet="model", title="The same, a map for each model")
        return [Figure(lines(curves, x="model", series="address", title=title)), Figure(panels)]
    if len(others) == 1:
        (dim,) = others
        if table.sizes[dim] <= MOST_CURVES:
            return [Figure(lines(_spoken(table, dim), x="model", series=dim, title=title))]
        return [Figure(heatmap(table, x=dim, y="model", title=title))]
    if len(others) == 2:
        y, x = others
        return [Figure(heatmap(table, x=x, y=y, facet="model", title=title))]
    raise InputError(
        f"result: there is no picture of {', '.join(others)} over models; choose one value of some of them, "
        "`result.sel(layer=1)`, or one model, `result.sel(model=…)`"
    )


def _spoken(table: "xarray.Dataset", dim: str) -> "xarray.Dataset":
    """Numbers along `dim` as names of curves: `layer 3`."""
    values = table[dim].values
    if not np.issubdtype(values.dtype, np.number):
        return table
    return table.assign_coords({dim: [f"{dim} {value}" for value in values]})


def _along(table: "xarray.Dataset") -> str:
    """Where a curve changes most, if the models stand in an order, as the epochs of a training do."""
    if not np.issubdtype(table["model"].dtype, np.number):
        return ""
    what = str(table.attrs.get("quantity", "mean"))
    return steepest([f"model {name}" for name in table["model"].values], table["mean"].values, what)
