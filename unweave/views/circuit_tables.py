"""A circuit as tables and as lines of a report's answer: its groups, its paths, and how good it is by its tests."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.nodes import Edge, Node
from unweave.results.labels import number
from unweave.views.blocks import Fact, Table
from unweave.views.circuit_layout import EVERYWHERE, INPUTS, amount_of, halves_said
from unweave.views.evaluation_findings import (
    changed,
    completeness_finding,
    controls_said,
    curve_finding,
    fails,
    floor_said,
    minimality_counts,
    parts_of,
    scores_of,
    share_said,
)
from unweave.views.scope import subjects
from unweave.views.wording import Result, counted, interval, listed, percent, spread


def group_table(circuit: Circuit, title: str = "") -> Table:
    """A row for each group: its name, its heads and MLPs, the roles where they count."""
    rows = tuple(
        (
            group.name,
            ", ".join(node.short for node in group.nodes),
            EVERYWHERE if group.roles == "all" else " ".join(group.roles),
        )
        for group in circuit.groups
    )
    return Table(("group", "heads", "at"), rows, title, align="lll")


def edge_table(
    edges: Sequence[Edge], title: str = "", n: int | None = None, attrs: Mapping[str, str | int | float] | None = None
) -> Table:
    """A row for each path, or for the `n` strongest: from where, to which input of what, at which role, its effect; in
    the metric's unit too if `attrs` of the circuit say the gap.
    """
    known = attrs or {}
    rows = tuple(
        (
            edge.sender.short,
            ", ".join(node.short for node in (edge.receiver, *edge.shared)),
            INPUTS[edge.input],
            edge.role or "–",
            "–" if edge.effect is None else number(edge.effect),
            "–" if edge.low is None or edge.high is None else interval(edge.low, edge.high),
            *([amount_of(edge.effect, known) or "–"] if "gap" in known else []),
        )
        for edge in sorted(edges, key=lambda edge: -abs(edge.effect or 0.0))[:n]
    )
    header = ("sender", "to", "input", "at", "effect", "interval")
    header += (f"in {known.get('unit', 'its unit')}",) if "gap" in known else ()
    return Table(header, rows, title, align="llllrrr"[: len(header)])


def path_tables(circuit: Circuit) -> list[Table]:
    """A table for each group that has any: the paths that leave it, the strongest first; and for the embeddings."""
    tables, ends = [], (Node("embed"), Node("pos_embed"))
    for name, nodes in [*((group.name, group.nodes) for group in circuit.groups), ("embeddings", ends)]:
        edges = [edge for edge in circuit.edges if edge.sender in nodes]
        if edges:
            first = max(edges, key=lambda edge: abs(edge.effect or 0.0))
            title = f"{name}: {counted(len(edges), 'path')}"
            if first.effect is not None:
                title += f", the strongest {first.sender.short} to {first.receiver.short} ({number(first.effect)})"
            tables.append(edge_table(edges, title, attrs=circuit.attrs))
    return tables


_MOST_NAMED = 6


def group_facts(circuit: Circuit, does: Mapping[str, tuple[str, str]] | None = None) -> tuple[Fact, ...]:
    """A line for each group: how many heads, what they do, which they are, and at which roles.

    Args:
        circuit: its groups, in order.
        does: by a group's name, up to an "@", what one head does and what several do: `("moves the name", "move …")`.
    """
    facts = []
    for group in circuit.groups:
        names = [node.short for node in group.nodes if node.part is not None]
        shown = listed(names) if len(names) <= _MOST_NAMED else f"{', '.join(names[:_MOST_NAMED])} and others"
        kind = group.name.partition(" @")[0]
        one, several = (does or {}).get(kind.removesuffix(" against"), ("", ""))
        said = f"{counted(len(names), 'head')} {one if len(names) == 1 else several}".rstrip()
        said += ", against the answer" if kind.endswith(" against") else ""
        parts = [f"{said}: {shown}"] if names else []
        parts += [f"{counted(len(group.mlps), 'MLP')}: {listed([str(n) for n in group.mlps])}"] if group.mlps else []
        where = "at all positions" if group.roles == "all" else f"at {listed(list(group.roles))}"
        facts.append(Fact(group.name, "; ".join(parts), where))
    return tuple(facts)


def score_facts(results: Sequence[Result]) -> tuple[Fact, ...]:
    """What the tests add to the answer, of those that are among the results."""
    makers = {
        "faithfulness": _faithful,
        "faithfulness curve": _curve,
        "completeness": _complete,
        "minimality": _minimal,
    }
    tests = [one for one in results if isinstance(one, xr.Dataset)]
    said = zip(tests, subjects(tests), strict=True)
    facts = [(str(test.attrs.get("method", "")), test, subject) for test, subject in said]
    return tuple(
        replace(fact, note="; ".join(filter(None, (subject, fact.note))))
        for name, make in makers.items()
        for method, test, subject in facts
        if method == name
        for fact in make(test)
    )


def _faithful(table: xr.Dataset) -> list[Fact]:
    own, scores, parts = table.sel(kept="circuit"), scores_of(table), parts_of(table)
    part, scale = parts.removesuffix("s"), scores.scale
    label = {"ratio": "faithfulness, F(C) / F(M)", "share": f"faithfulness, of the way from no {part} to the model"}
    value, _, ends = share_said(own, scale).partition(" (") if scale in own.coords else (number(scores.circuit), "", "")
    heads = f"{int(own[parts])} of {table.attrs.get(f'model_{parts}', '?')} {parts}"
    ends_of_way = f"no {part} {number(scores.nothing)}, the model {number(scores.model)}"
    floor = floor_said(table) if scale == "ratio" else ends_of_way
    note = "; ".join(filter(None, (ends.removesuffix(")"), heads, floor)))
    facts = [Fact(label.get(scale, "F(C)"), value, note, True)]
    control = controls_said(table)
    return [*facts, Fact("negative control", control)] if control else facts


def _curve(table: xr.Dataset) -> list[Fact]:
    return [Fact(f"the best few {parts_of(table)}", curve_finding(table), halves_said(table.attrs))]


def _complete(table: xr.Dataset) -> list[Fact]:
    value = "not complete" if fails(table).any() else "no set fails"
    return [Fact("completeness", value, completeness_finding(table).removeprefix("Not complete: "), True)]


def _minimal(table: xr.Dataset) -> list[Fact]:
    helping, against = minimality_counts(table)
    least = table.isel(address=int(np.argmin(table["size"].values)))
    ends = spread(float(least["share_low"]), float(least["share_high"]), percent)
    both = f"{helping} help and {against} work against the answer, " if helping + against else ""
    note = f"{both}of {counted(table.sizes['address'], 'head')}; the least, {least['address'].item()}, changes F by "
    return [Fact("heads that matter", str(helping + against), f"{note}{changed(least)}{ends}", True)]
