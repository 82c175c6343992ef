"""How cells and numbers are written, wherever results are read: a head is `23.3` (layer.head).

A cell is given by its coordinates, in the names of the glossary. Positions stand after `@`, attention as
`destination ← source`.
"""

import math
from collections.abc import Mapping

import xarray as xr

# Of each dimension of positions: the coordinate with the tokens there.
TOKENS: Mapping[str, str] = {"pos": "token", "q_pos": "q_token", "k_pos": "k_token"}
# What a cell is named by besides its dimensions, where a slice has left it behind.
FIXED = ("layer", "head", "kv_head", "neuron", "part", "address", "edge", "pos", "role", "q_pos", "k_pos")
_HEADS = {"head": "{layer}.{head}", "kv_head": "{layer}.kv{kv_head}", "neuron": "{layer}.n{neuron}"}
_ALONE = ("address", "edge", "component", "stage", "sender")
_PLACES = ("pos", "role", "q_pos", "k_pos")


def cell_label(where: Mapping[str, object], name: str = "") -> str:
    """The name of a cell; `name` stands before it where several results are spoken of.

    >>> cell_label({"layer": 23, "head": 3}), cell_label({"layer": 5, "role": "S2"})
    ('23.3', 'layer 5 @ S2')
    >>> cell_label({"layer": 9, "head": 1, "q_pos": 12, "k_pos": 4}), cell_label({"address": "z 23.3"})
    ('9.1 @ 12 ← 4', 'z 23.3')
    >>> cell_label({"layer": 20, "head": 0}, "q"), cell_label({"role": "S2"}), cell_label({"role": "S2"}, "lens")
    ('q 20.0', 'S2', 'lens @ S2')
    >>> cell_label({"model": 15, "layer": 1, "head": 0}), cell_label({"model": 15})
    ('1.0 of model 15', 'model 15')
    """
    if "model" in where:
        rest = {key: value for key, value in where.items() if key != "model"}
        return f"{cell_label(rest, name)} of model {where['model']}" if rest or name else f"model {where['model']}"
    unit, place = f"{name} {_unit(where)}".strip(), _place(where)
    if not place:
        return unit or "all"
    return f"{unit} @ {place}" if unit else place


def _unit(where: Mapping[str, object]) -> str:
    for name in _ALONE:
        if name in where:
            return str(where[name])
    if "layer" not in where:
        return ", ".join(f"{name} {value}" for name, value in where.items() if name not in _PLACES)
    for name, form in _HEADS.items():
        if name in where:
            return form.format(**where)
    others = [f" {value}" for name, value in where.items() if name not in ("layer", *_PLACES)]
    return f"layer {where['layer']}" + "".join(others)


def _place(where: Mapping[str, object]) -> str:
    at = " ".join(str(where[name]) for name in _PLACES if name in where and name != "k_pos")
    return f"{at} ← {where['k_pos']}".lstrip() if "k_pos" in where else at


def token_at(table: xr.DataArray | xr.Dataset, dim: str = "pos", place: int | None = None, first: bool = False) -> str:
    """The token at a place of a summary: `" Mary/ John"` where the clean prompt has another one than the corrupted.

    Args:
        table: a summary, or one of its cells.
        dim: the dimension of the position.
        place: where along it; None of a table with one position.
        first: whether to name the first prompt's token where prompts differ, and not "".
    """
    name = TOKENS.get(dim, "")
    if not first and table.attrs.get("tokens") != "every prompt":
        return ""
    coords = [table.coords[known] for known in (f"clean_{name}", name) if known in table.coords]
    if any(coord.ndim != (place is not None) for coord in coords):
        return ""
    return "/".join(dict.fromkeys(str(coord.values[() if place is None else place]) for coord in coords))


def number(value: float, digits: int = 2) -> str:
    """A number for people; more places below 0.1, so that a small effect does not read as 0.

    >>> number(0.5134), number(-0.24), number(0.0031), number(0), number(1234.5)
    ('0.51', '−0.24', '0.0031', '0', '1234')
    """
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-4:
        text = f"{value:.0e}"
    elif size >= 1000:
        text = f"{value:.0f}"
    else:
        places = max(digits, digits - 1 - math.floor(math.log10(size)))
        text = f"{value:.{places}f}"
    return text.replace("-", "−")


def p_value(p: float) -> str:
    """A p-value: `p = 0.031`, `p < 0.001`.

    >>> p_value(0.0312), p_value(0.00001), p_value(float("nan"))
    ('p = 0.031', 'p < 0.001', 'no p')
    """
    if not math.isfinite(p):
        return "no p"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
