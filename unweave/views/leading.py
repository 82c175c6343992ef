"""The heads of a table that are worth a row, a curve or a map of their own, where not all can have one."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from unweave.results.labels import cell_label
from unweave.views.titles import told_from_zero

if TYPE_CHECKING:
    import xarray

HEADS = ("head", "kv_head")


def leading_heads(table: "xarray.Dataset", head: str, n: int) -> "xarray.Dataset":
    """The `n` heads with the largest cells, by layer, along `address` instead of `(layer, head)`.

    Heads with a cell told from 0 come first; others only if they have a cell that is larger than all of those.
    """
    flat = table.stack(address=("layer", head))
    told, size = (_largest(table, cells, head) for cells in (told_from_zero(table), True))
    worth = (told > 0) | (size > told.max())
    order = np.lexsort((-size, -told, ~worth))
    kept = np.sort(order[: min(n, max(1, int(worth.sum())))])
    chosen = flat.isel(address=kept)
    layers, heads = chosen["layer"].values.tolist(), chosen[head].values.tolist()
    names = [cell_label({"layer": layer, head: number}) for layer, number in zip(layers, heads, strict=True)]
    return chosen.drop_vars(["address", "layer", head]).assign_coords(address=names)


def _largest(
    table: "xarray.Dataset", cells: Bool[np.ndarray, "..."] | bool, head: str
) -> Float[np.ndarray, " address"]:
    """The largest size among the given cells of each head."""
    sizes = abs(table["mean"].where(cells, 0.0)).stack(address=("layer", head)).transpose("address", ...)
    return np.nan_to_num(sizes.values.reshape(sizes.sizes["address"], -1)).max(axis=1)
