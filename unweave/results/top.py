"""The largest cells of a result, with their names."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from unweave.errors import InputError
from unweave.nodes import NODE_SITES, Node, read_nodes
from unweave.results.labels import FIXED, cell_label, number, p_value, token_at
from unweave.results.summary import summaries
from unweave.results.text_table import TextTable

_KEYS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"abs": np.abs, "high": np.positive, "low": np.negative}
_ORDERS = {"abs": "largest in size", "high": "highest", "low": "lowest"}


@dataclass(frozen=True)
class Row:
    """One cell: its name, coordinates and site, the token there if there is one, its mean, interval and adjusted p.

    The name holds what the result was sliced by too, `5.1` of `heads.sel(layer=5)`; `where` has the dimensions only.
    `nodes` are the places in the model that it is of: several if they were patched together, none of another cell.
    `cumulative` is the share of the result's total absolute mean that this row and those above it hold.
    """

    label: str
    site: str
    where: Mapping[str, int | str]
    token: str
    mean: float
    low: float
    high: float
    p_holm: float
    cumulative: float
    nodes: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Top:
    """The first rows of a result, sorted. Iterates over its rows; prints as a table, in a notebook too."""

    rows: tuple[Row, ...]
    title: str
    quantity: str
    level: float
    n_prompts: int

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, place: int) -> Row:
        return self.rows[place]

    @property
    def table(self) -> TextTable:
        """The rows as texts; tokens are quoted."""
        cells = (
            (
                f"{row.label} {row.token!r}" if row.token else row.label,
                number(row.mean),
                f"{number(row.low)} to {number(row.high)}" if np.isfinite(row.low) else "–",
                p_value(row.p_holm).removeprefix("p ").removeprefix("= "),
                f"{row.cumulative:.0%}",
            )
            for row in self.rows
        )
        header = ("cell", self.quantity, f"{self.level:.0%} interval", "adjusted p", "cumulative share")
        return TextTable(self.title, header, tuple(cells))

    def __str__(self) -> str:
        return str(self.table)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def top(result: xr.DataArray | xr.Dataset | xr.DataTree | Mapping[str, Any], n: int = 10, by: str = "abs") -> Top:
    """The `n` cells with the largest means over prompts.

    Cells that are exactly 0, or were not reached, are left out. Several sites are ranked together.

    Args:
        result: a result of a method, several sites of one, or results by name; a `summary` is not computed again.
        n: how many cells.
        by: "abs" for the largest in size, "high" for the highest, "low" for the lowest.

    Raises:
        InputError: an unknown `by`, or `n` below 1.
    """
    if by not in _KEYS:
        raise InputError(f"by: expected 'abs', 'high' or 'low', got {by!r}")
    if n < 1:
        raise InputError(f"n: expected at least 1 cell, got {n}")
    tables = summaries(result)
    means = np.concatenate([table["mean"].values.ravel() for table in tables.values()])
    cells = [(site, index) for site, table in tables.items() for index in np.ndindex(table["mean"].shape)]
    counted = np.flatnonzero(np.nan_to_num(means))
    order = counted[np.argsort(-_KEYS[by](means[counted]), kind="stable")][:n].tolist()
    shares = (np.cumsum(np.abs(means[order])) / (np.nansum(np.abs(means)) or 1.0)).tolist()
    named = len(tables) > 1
    rows = [
        _row(tables[cells[place][0]], cells[place][1], cells[place][0], share, named)
        for place, share in zip(order, shares, strict=True)
    ]
    attrs = next(iter(tables.values())).attrs
    held = f"; they hold {shares[-1]:.0%} of the total size" if rows else ""
    return Top(
        rows=tuple(rows),
        title=f"the {len(rows)} {_ORDERS[by]} of {len(counted)} cells that are not 0{held}",
        quantity=str(attrs.get("quantity", "mean")),
        level=float(attrs.get("level", 0.95)),
        n_prompts=int(attrs.get("n_prompts", 0)),
    )


def _row(table: xr.Dataset, index: tuple[int, ...], site: str, cumulative: float, named: bool) -> Row:
    cell = table.isel(dict(zip(table["mean"].dims, index, strict=True)))
    where = {str(dim): _plain(cell[dim].item()) for dim in table["mean"].dims}
    fixed = {name: _plain(table[name].item()) for name in FIXED if name in table.coords and not table[name].dims}
    return Row(
        label=cell_label(fixed | where, site if named else ""),
        site=site,
        where=where,
        token=token_at(cell),
        mean=cell["mean"].item(),
        low=cell["low"].item(),
        high=cell["high"].item(),
        p_holm=cell["p_holm"].item(),
        cumulative=cumulative,
        nodes=_nodes(site, fixed | where),
    )


def _nodes(site: str, where: Mapping[str, int | str]) -> tuple[Node, ...]:
    """The places in the model that a cell is of: by its coordinates, or by the name that a list of nodes has."""
    listed = next((where[name] for name in ("address", "sender") if name in where), None)
    part = next((name for name in ("head", "kv_head", "neuron") if name in where), None)
    place = next((name for name in ("pos", "role", "q_pos") if name in where), None)
    default = {"head": "z", "kv_head": "k", "neuron": "mlp_post", None: "layer"}[part]
    try:
        if listed is not None:
            return read_nodes(listed)
        if set(where) - {"layer", part, place} or not isinstance(where.get("layer"), int | np.integer):
            return ()  # of several layers, or of a curve's name
        at = None if place is None else where[place]
        number = None if part is None else int(where[part])
        return (Node(site if site in NODE_SITES else default, int(where["layer"]), number, at, kv=part == "kv_head"),)
    except InputError:
        return ()  # `all`, `the embeddings`


def _plain(value: object) -> int | str:
    return value if isinstance(value, int) else str(value)
