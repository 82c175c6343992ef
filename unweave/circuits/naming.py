"""Groups of a circuit named by what their heads do, where they do it.

A sketch groups heads by the level where path patching met them (`level 2 @S2`), `classify_heads` says what a head does
and at which role. A head gets the first of its names whose role is among those where the circuit keeps it: a head that
inhibits S at the end is no such head in a circuit that keeps it at S2 alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from unweave.circuits.circuit import Circuit, Group
from unweave.methods.head_types import HeadTypes, NamedHead


def named(circuit: Circuit, roles: HeadTypes) -> Circuit:
    """The same heads at the same roles, in groups that say what they do; edges and all else are kept.

    Args:
        circuit: a sketched circuit.
        roles: names of heads. A head without one that fits keeps its group.

    Returns:
        Groups in the order of the rules (`name mover`, …), then those that kept their names. Heads of one name that
        count at different roles are in groups of their own: `induction @S2`, `induction @S2 end`.
    """
    where = {rule.name: rule.at for rule in roles.rules}
    order = list(where)
    names = {head.head: head for head in roles.heads}
    members: dict[tuple[str, tuple[str, ...] | str], list[tuple[int, int]]] = {}
    rest: list[Group] = []
    for group in circuit.groups:
        kept = []
        for head in group.heads:
            name = _name(names.get(head), group, where)
            if name:
                members.setdefault((name, group.roles), []).append(head)
            else:
                kept.append(head)
        if kept or group.mlps:
            rest.append(replace(group, heads=tuple(kept)))
    many = Counter(name for name, _ in members)
    made = [
        Group(name if many[name] == 1 else _at(name, roles_of), tuple(sorted(heads)), roles_of)  # type: ignore[arg-type]
        for (name, roles_of), heads in sorted(members.items(), key=lambda item: order.index(item[0][0]))
    ]
    return replace(circuit, groups=(*made, *rest))


def _name(head: NamedHead | None, group: Group, where: dict[str, str]) -> str:
    """The first name of a head that holds at a role of its group, or ""."""
    said = () if head is None else (head.name, *head.also)
    return next((name for name in said if name in where and (group.roles == "all" or where[name] in group.roles)), "")


def _at(name: str, roles: tuple[str, ...] | str) -> str:
    return f"{name} @{roles if isinstance(roles, str) else ' '.join(roles)}"
