"""The boxes and paths of a circuit's drawing: where heads stand, which boxes a path joins, and what is said of both.

A column for each role, a row for each layer that has a head. All lengths are pixels of the drawing's own size, which
the page scales.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unweave.nodes import Edge
from unweave.results.labels import number
from unweave.views.wording import counted, interval, listed

LOGITS = "logits"
_EMBEDDINGS = ("embed", "pos_embed")
_LETTER, _HEIGHT, _GAP, _COLUMN = 6.6, 20.0, 7.0, 58.0
# Rows stand closer where there are many.
_ROW, _CLOSE_ROW, _MANY_ROWS = 44.0, 34.0, 14
_LEFT, _TOP, _BOTTOM, _PAD = 42.0, 12.0, 34.0, 11.0


@dataclass(frozen=True)
class Node:
    """A head (or MLP) at a role where it acts: `Node("23.3", 23, "end", "name mover", "attends to IO 0.62")`."""

    name: str
    layer: int
    role: str
    group: str = ""
    note: str = ""

    @property
    def shown(self) -> str:
        """`23.3`, `MLP 9`, `positions`."""
        if self.name == "pos_embed":
            return "positions"
        return self.name.replace("mlp", "MLP")


@dataclass(frozen=True)
class Placed:
    """A node and the middle and width of its box."""

    node: Node
    x: float
    y: float
    width: float
    height: float = _HEIGHT


@dataclass(frozen=True)
class Column:
    """A role and the span that its heads take."""

    role: str
    left: float
    right: float


@dataclass(frozen=True)
class Arranged:
    """A drawing's boxes in the order of the nodes, its columns, its rows (label and middle), and its size."""

    boxes: tuple[Placed, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, float], ...]
    width: float
    height: float


def arrange_circuit(nodes: Sequence[Node], roles: Sequence[str]) -> Arranged:
    """Places for all nodes. A role that `roles` does not name becomes a column at the right."""
    order = list(dict.fromkeys([*roles, *(node.role for node in nodes)]))
    used = [role for role in order if any(node.role == role for node in nodes)]
    levels = sorted({_level(node) for node in nodes})
    cells: dict[tuple[str, tuple[int, int]], list[int]] = {}
    for place, node in enumerate(nodes):
        cells.setdefault((node.role, _level(node)), []).append(place)
    spans = {role: max(_span(nodes, cells.get((role, level), [])) for level in levels) for role in used}
    columns: list[Column] = []
    left = _LEFT
    for role in used:
        width = max(_COLUMN, spans[role] + 2 * _PAD, _LETTER * len(role) + 2 * _PAD)
        columns.append(Column(role, left, left + width))
        left += width
    pitch = _ROW if len(levels) < _MANY_ROWS else _CLOSE_ROW
    height = _TOP + pitch * len(levels) + _BOTTOM
    middle = {level: _TOP + pitch * (len(levels) - 0.5 - row) for row, level in enumerate(levels)}
    boxes: dict[int, Placed] = {}
    for column in columns:
        for row, level in enumerate(levels):
            boxes |= _cell(nodes, cells.get((column.role, level), []), column, middle[level], row)
    rows = tuple((_row_name(level), middle[level]) for level in levels)
    return Arranged(tuple(boxes[place] for place in range(len(nodes))), tuple(columns), rows, left + 6, height)


def _level(node: Node) -> tuple[int, int]:
    """Rows from below: embeddings, layers, the logits."""
    if node.name == LOGITS:
        return (2, 0)
    return (0, 0) if node.name in _EMBEDDINGS else (1, node.layer)


def _row_name(level: tuple[int, int]) -> str:
    return str(level[1]) if level[0] == 1 else ""


def _width(node: Node) -> float:
    return _LETTER * len(node.shown) + 13


def _span(nodes: Sequence[Node], cell: Sequence[int]) -> float:
    return sum(_width(nodes[place]) for place in cell) + _GAP * max(len(cell) - 1, 0)


def _cell(nodes: Sequence[Node], cell: Sequence[int], column: Column, y: float, row: int) -> dict[int, Placed]:
    """The boxes of one cell, side by side around the column's middle."""
    room = column.right - column.left - 2 * _PAD - _span(nodes, cell)
    # Boxes one above the other would hide which of them a path goes to.
    aside = (row % 3 - 1) * min(room / 2, 26.0)
    if any(nodes[place].name == LOGITS for place in cell):
        aside = 0.0
    at = (column.left + column.right) / 2 + aside - _span(nodes, cell) / 2
    made = {}
    for place in cell:
        width = _width(nodes[place])
        made[place] = Placed(nodes[place], at + width / 2, y, width)
        at += width + _GAP
    return made


INPUTS = {"q": "query", "k": "key", "v": "value", "": "direct"}
_MOST_SAID = 4


@dataclass(frozen=True)
class Link:
    """A path from one node to an input (`q`, `k`, `v`, or `""` where there is one) of another, by their names.

    `effect` is positive where the path carries the answer, None where nothing was measured; `low` and `high` are the
    ends of its interval. `role` is where the sender writes and the receiver's input reads; with `""` the sender is
    taken where it stands first. `shared` are other heads that read the same key or value. `amount` is the effect in the
    metric's unit, as text.
    """

    sender: str
    receiver: str
    input: str = ""
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    role: str = ""
    shared: tuple[str, ...] = ()
    amount: str = ""

    @property
    def size(self) -> float:
        """How strong it is; a path that nothing was measured of comes last."""
        return -1.0 if self.effect is None or not math.isfinite(self.effect) else abs(self.effect)


Ends = tuple[int, int] | None


def ranked(links: Sequence[Link]) -> tuple[Link, ...]:
    """The strongest first."""
    return tuple(sorted(links, key=lambda link: -link.size))


def ends_of(link: Link, placed: Arranged) -> Ends:
    """The boxes that a path joins, by their numbers; None where one of them is not drawn.

    The sender writes at the path's role, and so does a query; keys and values are read there by a head that stands
    elsewhere, as a rule later: of a receiver at several roles, the one most to the right.
    """
    senders = [place for place, box in enumerate(placed.boxes) if box.node.name == link.sender]
    receivers = [place for place, box in enumerate(placed.boxes) if box.node.name == link.receiver]
    if not senders or not receivers:
        return None
    here = [place for place in senders if placed.boxes[place].node.role == link.role]
    there = [place for place in receivers if placed.boxes[place].node.role == link.role]
    latest = max(receivers, key=lambda place: placed.boxes[place].x)
    end = there[0] if there and link.input not in ("k", "v") else latest
    return (here or senders)[0], end


def told(link: Link) -> str:
    """A path in words: `20.0 → query of 23.3 at end: effect 0.12, 0.08 to 0.15`."""
    receiver = LOGITS if link.receiver == LOGITS else f"{INPUTS[link.input]} of {listed([link.receiver, *link.shared])}"
    if link.input == "" and link.receiver != LOGITS:
        receiver = link.receiver
    at = f" at {link.role}" if link.role else ""
    return f"{link.sender} → {receiver}{at}: {_amount(link)}"


def evidence_of(node: Node, links: Sequence[Link], ends: Sequence[Ends]) -> str:
    """A head in words: its group and role, what is known of it, and its strongest paths out and in."""
    where = node.group if not node.role or node.name == LOGITS else f"{node.group} at {node.role}".strip()
    parts = [f"{node.shown}, {where}" if where else node.shown]
    parts += [node.note] if node.note else []
    named = [link for link, joined in zip(links, ends, strict=True) if joined]
    out = [link for link in named if link.sender == node.name and link.role in ("", node.role)]
    come = [link for link in named if node.name in (link.receiver, *link.shared)]
    parts += [f"to {_several(out, sending=True)}"] if out else []
    parts += [f"from {_several(come, sending=False)}"] if come else []
    return "; ".join(parts)


def _several(links: Sequence[Link], sending: bool) -> str:
    items = [
        f"{link.receiver if sending else link.sender}{f' ({link.input})' if link.input else ''} {_short(link)}".strip()
        for link in links[:_MOST_SAID]
    ]
    more = len(links) - len(items)
    return ", ".join(items) + (f" and {more} more" if more else "")


def _short(link: Link) -> str:
    return "" if link.effect is None else number(link.effect)


def _amount(link: Link) -> str:
    if link.effect is None:
        return "not measured"
    spread = "" if link.low is None or link.high is None else f", interval {interval(link.low, link.high)}"
    return f"effect {number(link.effect)}{f' ({link.amount})' if link.amount else ''}{spread}"


def amount_of(effect: float | None, attrs: Mapping[str, str | int | float]) -> str:
    """A share of the gap in the metric's unit, `0.47 logits`; "" where the gap is not known."""
    gap = attrs.get("gap")
    if effect is None or not isinstance(gap, (int, float)):
        return ""
    return f"{number(effect * gap)} {attrs.get('unit', '')}".rstrip()


def edges_said(edges: Sequence[Edge], attrs: Mapping[str, str | int | float]) -> str:
    """How many paths there are on the prompts that they were measured on, and which these are."""
    ends = [(edge.low, edge.high) for edge in edges if edge.low is not None and edge.high is not None]
    clear = sum(low > 0 or high < 0 for low, high in ends)
    said = f"The effect of {clear} of {counted(len(ends), 'path')} is different from 0 by its interval"
    return f"{'; '.join(filter(None, [said, halves_said(attrs)]))}."


def halves_said(attrs: Mapping[Any, Any]) -> str:
    """On which prompts something was chosen, and on which it was measured; "" where that is not known."""
    chosen, measured = attrs.get("chosen_on"), attrs.get("measured_on")
    if chosen is None or measured is None:
        return ""
    if attrs.get("halves") == "the same prompts":
        return f"chosen and measured on the same {counted(int(measured), 'prompt')}, so what was chosen looks too large"
    return f"chosen on {counted(int(chosen), 'prompt')}, measured on {measured} others"


def circuit_finding(nodes: Sequence[Node], links: Sequence[Link]) -> str:
    """How large a circuit is, and its strongest path."""
    heads = {node.name: node for node in nodes if node.group}
    layers = [node.layer for node in heads.values()]
    groups = len({node.group for node in heads.values()})
    said = f"{counted(len(heads), 'head')} in {counted(groups, 'group')}"
    if any(node.shown.startswith("MLP") for node in heads.values()):
        said = said.replace("head", "head and MLP" if len(heads) == 1 else "heads and MLP", 1)
    if layers:
        said += f", layers {min(layers)} to {max(layers)}" if min(layers) < max(layers) else f", layer {layers[0]}"
    strongest = max((link for link in links if link.effect is not None), key=lambda link: link.size, default=None)
    if strongest is None or strongest.effect is None:
        return said
    to = "the logits" if strongest.receiver == LOGITS else strongest.receiver
    many = "the one path" if len(links) == 1 else f"the strongest of {len(links)} paths"
    return f"{said}; {many} is {strongest.sender} to {to} ({number(strongest.effect)})"
