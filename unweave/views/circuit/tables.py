"""A circuit as tables: its groups, and its paths, the strongest first, in one table or one a group."""

from collections.abc import Mapping, Sequence

from unweave.circuits.circuit import Circuit, Group
from unweave.nodes import Edge
from unweave.results.labels import number
from unweave.views.blocks import Table
from unweave.views.circuit.paths import INPUTS, amount_of
from unweave.views.wording import counted, interval


def group_table(circuit: Circuit, title: str = "") -> Table:
    """A row for each group: its name, its heads and MLPs, the roles where they count."""
    rows = tuple(
        (
            group.name,
            ", ".join(node.short for node in group.nodes),
            "all positions" if group.roles == "all" else " ".join(group.roles),
        )
        for group in circuit.groups
    )
    return Table(("group", "heads", "at"), rows, title, align="lll")


def edge_table(
    edges: Sequence[Edge],
    title: str = "",
    n: int | None = None,
    attrs: Mapping[str, str | int | float] | None = None,
) -> Table:
    """A row for each path, or for the `n` strongest: from where, to which input of what, at which role, its effect; in
    the metric's unit too where `attrs` of the circuit say the gap.
    """
    known = attrs or {}
    ordered = sorted(edges, key=lambda edge: -abs(edge.effect or 0.0))[:n]
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
        for edge in ordered
    )
    unit = [f"in {known.get('unit', 'its unit')}"] if "gap" in known else []
    return Table(
        ("sender", "to", "input", "at", "effect", "interval", *unit), rows, title, align="llllrrr"[: 6 + len(unit)]
    )


def path_tables(circuit: Circuit) -> list[Table]:
    """A table for each group of a sketch: the paths that leave its heads, the strongest first; groups without any
    are left out.
    """
    tables = []
    for group in circuit.groups:
        edges = [edge for edge in circuit.edges if edge.sender in group.nodes]
        if edges:
            tables.append(_table(group, edges, circuit.attrs))
    return tables


def _table(group: Group, edges: Sequence[Edge], attrs: Mapping[str, str | int | float]) -> Table:
    first = max(edges, key=lambda edge: abs(edge.effect or 0.0))
    strongest = "" if first.effect is None else f", the strongest {first.sender.short} to {first.receiver.short}"
    amount = "" if first.effect is None else f" ({number(first.effect)})"
    title = f"{group.name}: {counted(len(edges), 'path')}{strongest}{amount}"
    return edge_table(edges, title, attrs=attrs)
