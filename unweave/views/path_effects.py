"""Path patching made visible: which senders act, on the logits or through which receivers; the paths of each level."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from unweave.results.labels import number
from unweave.results.top import Row
from unweave.views.blocks import Table
from unweave.views.circuit.drawing import CircuitLike, EdgeLike, GroupLike
from unweave.views.circuit.paths import INPUTS
from unweave.views.circuit.tables import edge_table
from unweave.views.titles import largest_cell, leaders
from unweave.views.wording import counted, listed, percent

if TYPE_CHECKING:
    import xarray

_MOST_NAMED = 4
_PLURAL = {"query": "queries", "key": "keys", "value": "values"}


def path_finding(table: "xarray.Dataset") -> str:
    """Which senders act along their direct paths.

    Args:
        table: the summary of a result of `uw.path_patch`.
    """
    attrs = table.attrs
    noise, in_units = attrs.get("direction", "noise") == "noise", attrs.get("measure") == "change"
    write = number if in_units else percent
    # A change has no scale of its own: what is large is measured by the largest.
    scale = float(abs(table["mean"]).max()) if in_units else 1.0
    found = leaders(table, scale=scale, sign=-1 if noise else 1)
    whom = receivers_said(str(attrs.get("receivers", "logits")))
    kind = "head" if {"head"} & set(map(str, table["mean"].dims)) else "sender"
    how = "directly on" if whom == "the logits" else "through"
    if not found.helping and not found.against:
        return f"No {kind} acts {how} {whom}: {largest_cell(table, write)}"
    said = []
    if found.helping:
        single = len(found.helping) == 1
        verb, act = "acts" if single else "act", "spoiling" if noise else "restoring"
        paths, effect = "this path" if single else "these paths", "costs" if noise else "brings back"
        sizes = listed([write(abs(row.mean)) for row in found.helping])
        said.append(f"{_names(found.helping)} {verb} {how} {whom}: {act} {paths} {effect} {sizes}")
    if found.against:
        also = "" if found.helping else f" {how} {whom}"
        object_ = "it" if found.helping else "the answer"
        said.append(f"{_names(found.against)} works against {object_}{also} ({write(found.against[0].mean)})")
    return "; ".join(said)


def receivers_said(receivers: str) -> str:
    """`"8.6 v, 8.10 v, mlp 9"` in words: `the values of 8.6 and 8.10 and MLP 9`."""
    if receivers == "logits":
        return "the logits"
    by_input: dict[str, list[str]] = {}
    for name in receivers.split(", "):
        head = re.fullmatch(r"(\d+\.\d+) ([qkv])", name)
        by_input.setdefault(INPUTS[head[2]] if head else "", []).append(head[1] if head else name.replace("mlp", "MLP"))
    parts = []
    for kind, names in by_input.items():
        few = listed(names) if len(names) <= _MOST_NAMED else f"{len(names)} {'heads' if kind else 'MLPs'}"
        parts.append(f"the {kind if len(names) == 1 else _PLURAL[kind]} of {few}" if kind else few)
    return listed(parts)


def path_tables(circuit: CircuitLike) -> list[Table]:
    """A table for each group of a sketch: the paths that leave its heads, the strongest first; groups without any
    are left out.
    """
    tables = []
    for group in circuit.groups:
        names = {f"{layer}.{head}" for layer, head in group.heads} | {f"{layer}_mlp" for layer in group.mlps}
        edges = [edge for edge in circuit.edges if edge.sender in names]
        if edges:
            tables.append(_table(group, edges, circuit.attrs))
    return tables


def _table(group: GroupLike, edges: Sequence[EdgeLike], attrs: Mapping[str, str | int | float]) -> Table:
    first = max(edges, key=lambda edge: abs(edge.effect or 0.0))
    strongest = "" if first.effect is None else f", the strongest {first.sender} to {first.receiver}"
    amount = "" if first.effect is None else f" ({number(first.effect)})"
    title = f"{group.name}: {counted(len(edges), 'path')}{strongest}{amount}"
    return edge_table(edges, title, attrs=attrs)


def _names(rows: Sequence[Row]) -> str:
    return listed([row.label for row in rows])
