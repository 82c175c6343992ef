"""What figures draw of a result: one summary a panel, labels for its axes and cells, and what a point says on hover.

A panel is a site of a result, or a value of the dimension that was asked for as `facet`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float32

from unweave.errors import InputError
from unweave.results.labels import FIXED, TOKENS, cell_label, token_at
from unweave.views.scope import named, subjects
from unweave.views.wording import label, percent, visible

SITES: Mapping[str, str] = {
    "z": "Output",
    "q": "Query",
    "k": "Key",
    "v": "Value",
    "pattern": "Pattern",
    "resid_pre": "Residual stream",
    "resid_mid": "Residual stream, mid-layer",
    "resid_post": "Residual stream, after the layer",
    "attn_out": "Attention",
    "mlp_out": "MLP",
    "mlp_post": "MLP neurons",
}
AXES: Mapping[str, str] = {
    "kv_head": "key/value head",
    "pos": "token",
    "q_pos": "from token",
    "k_pos": "to token",
    "stage": "layer",
    "address": "",
    "sender": "",
    "from": "from layer",
    "to": "to layer",
    "position_signal": "position of the subject",
    "token_signal": "token of the subject",
}
_SHARED = {"head": "kv_head"}
_LONGEST = 18


@dataclass(frozen=True)
class Panel:
    """A summary of one site or facet; `title` is empty where there is one panel only."""

    title: str
    table: xr.Dataset


def panels(tables: Mapping[str, xr.Dataset], facet: str | None = None) -> tuple[Panel, ...]:
    """One panel a summary, or one for each value of `facet`.

    Raises:
        InputError: `facet` is not in the result, or was asked for besides several sites.
    """
    if facet is None:
        names = [SITES.get(site, site) if len(tables) > 1 else "" for site in tables]
        said = zip(names, subjects(list(tables.values())), tables.values(), strict=True)
        return tuple(Panel(named(name, subject), table) for name, subject, table in said)
    if len(tables) > 1:
        raise InputError(f"facet: the result has {len(tables)} sites already ({', '.join(tables)}); give one of them")
    (table,) = tables.values()
    check_dims(table, (facet,))
    name = "" if facet in ("address", "role", "part") else f"{facet} "
    return tuple(
        Panel(f"{name}{table[facet].values[place]}", table.isel({facet: place})) for place in range(table.sizes[facet])
    )


def check_dims(table: xr.Dataset, wanted: Sequence[str], all_of_them: bool = False, option: str = "facet") -> None:
    """Raise InputError unless the table has the wanted dimensions (if asked, no others, which `option` could take)."""
    have = [str(dim) for dim in table["mean"].dims]
    for name in wanted:
        if name not in have:
            raise InputError(
                f"{name!r} is no dimension of this result, which has {', '.join(have) or 'none'}; name one of them"
            )
    left = [name for name in have if name not in wanted]
    if all_of_them and left:
        raise InputError(
            f"the result also has the dimension {left[0]!r}; choose one value of it with `.sel({left[0]}=…)`, "
            f"or give {option}={left[0]!r}"
        )


def dimension(table: xr.Dataset, name: str) -> str:
    """The table's own dimension for `name`: keys and values of a grouped-query model have `kv_head` for `head`."""
    return _SHARED.get(name, name) if name not in table.dims else name


def ticks(table: xr.Dataset, dim: str) -> list[str]:
    """A label for each coordinate along `dim`; no two are the same. Positions carry the token: `5 ·went`."""
    values = [str(value) for value in table[dim].values]
    return [f"{value} {token}".rstrip() for value, token in zip(values, tokens(table, dim), strict=True)]


def tokens(table: xr.Dataset, dim: str) -> list[str]:
    """The token at each coordinate along `dim`, with spaces visible; the clean prompt's and the corrupted one's where
    they differ; empty texts where there are none."""
    return [
        _short(visible(token_at(table, dim, place, first=True))) if TOKENS.get(dim) in table.coords else ""
        for place in range(table.sizes[dim])
    ]


def axis_title(table: xr.Dataset, dim: str) -> str:
    """The name of an axis, and whose tokens it shows where prompts differ."""
    name, token = AXES.get(dim, dim), TOKENS.get(dim)
    if token is None:
        return name
    if token not in table.coords:
        return name.replace("token", "position")
    whose = str(table.attrs.get("tokens", ""))
    said = ["clean/corrupted"] * (f"clean_{token}" in table.coords) + [whose] * whose.startswith("prompt")
    return f"{name} ({', '.join(said)})" if said else name


def names(table: xr.Dataset, dims: Sequence[str]) -> np.ndarray:
    """The name of every cell, over `dims`: with what the table was selected by, and tokens behind places."""
    fixed = {str(name): coord.item() for name, coord in table.coords.items() if not coord.dims and name in FIXED}
    values = [table[dim].values.tolist() for dim in dims]
    texts = [tokens(table, dim) for dim in dims]
    cells = np.empty(tuple(map(len, values)), dtype=object)
    for index in np.ndindex(cells.shape):
        where = {dim: values[axis][place] for axis, (dim, place) in enumerate(zip(dims, index, strict=True))}
        shown = [texts[axis][place] for axis, place in enumerate(index) if texts[axis][place]]
        cells[index] = "  ".join(filter(None, (cell_label(fixed | where), " ← ".join(shown))))
    return cells


def _short(token: str) -> str:
    return token if len(token) <= _LONGEST else token[: _LONGEST - 1] + "…"


def hover_data(table: xr.Dataset) -> Float32[np.ndarray, "*cell 4"]:
    """Low, high, adjusted p and n of every cell, in the order that `hover_lines` reads them."""
    return np.stack([table[name].values for name in ("low", "high", "p_holm", "n")], axis=-1).astype(np.float32)


def hover_lines(table: xr.Dataset, value: str) -> str:
    """Lines of a plotly template for a trace with `hover_data`; `value` names the trace's number: `z`, `y`, `x`."""
    what = label(str(table.attrs.get("quantity", "mean")))
    if not (table["n"] > 1).any():
        return f"{what} %{{{value}:.3f}}"
    level = float(table.attrs.get("level", 0.95))
    interval = f"{percent(level)} interval %{{customdata[0]:.3f}} to %{{customdata[1]:.3f}}"
    return (
        f"{what} %{{{value}:.3f}}<br>{interval}<br>adjusted p %{{customdata[2]:.2g}}<br>%{{customdata[3]:.0f}} prompts"
    )
