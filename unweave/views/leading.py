"""The heads of a table that are worth a row, a curve or a map of their own, where not all can have one."""

from typing import TYPE_CHECKING

import numpy as np

from unweave.results.labels import cell_label
from unweave.views.titles import told_from_zero

if TYPE_CHECKING:
    import xarray

HEADS = ("head", "kv_head")


def leading_heads(table: "xarray.Dataset", head: str, n: int) -> "xarray.Dataset":
    """The `n` heads with the largest cell told from 0, by layer, along `address` instead of `(layer, head)`.

    Where no cell is told from 0, those with the largest.
    """
    found = table["mean"].where(told_from_zero(table), 0.0)
    means = found if found.any() else table["mean"]
    flat = table.stack(address=("layer", head))
    per_head = abs(means).stack(address=("layer", head)).transpose("address", ...)
    size = np.nan_to_num(per_head.values.reshape(per_head.sizes["address"], -1)).max(axis=1)
    kept = np.sort(np.argsort(-size, kind="stable")[: min(n, max(1, int((size > 0).sum())))])
    chosen = flat.isel(address=kept)
    layers, heads = chosen["layer"].values.tolist(), chosen[head].values.tolist()
    names = [cell_label({"layer": layer, head: number}) for layer, number in zip(layers, heads, strict=True)]
    return chosen.drop_vars(["address", "layer", head]).assign_coords(address=names)
