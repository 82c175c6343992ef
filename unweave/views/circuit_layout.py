"""The boxes and paths of a circuit's drawing: where heads stand, which boxes a path joins, and both in words.

A column for each role, a row for each layer that has a head. All lengths are pixels of the drawing's own size, which
the page scales.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unweave.circuits.circuit import Circuit, Group
from unweave.nodes import Edge, Node
from unweave.results.labels import number
from unweave.views.wording import counted, interval, listed

LOGITS, EVERYWHERE = Node("logits"), "all positions"
INPUTS = {"q": "query", "k": "key", "v": "value", "": "direct"}
_EMBEDDINGS = ("embed", "pos_embed")
_MOST_LISTED = 4
_LETTER, _HEIGHT, _GAP, _COLUMN = 6.6, 20.0, 7.0, 58.0
# Rows stand closer if there are many.
_ROW, _CLOSE_ROW, _MANY_ROWS = 44.0, 34.0, 14
_LEFT, _TOP, _BOTTOM, _PAD = 42.0, 12.0, 34.0, 11.0
# Where a path enters a box, as a share of its width from the middle.
_PORT = {"q": -0.28, "k": 0.0, "v": 0.28, "": 0.0}
Attrs = Mapping[Any, Any]
Ends = tuple[int, int] | None


@dataclass(frozen=True)
class Box:
    """A node at a role where it acts, its group (logits and embeddings have none), and the middle of its box; `name`
    is what it is called there, if not as its node is."""

    node: Node
    role: str
    group: str = ""
    x: float = 0.0
    y: float = 0.0
    height: float = _HEIGHT
    name: str = ""

    @property
    def shown(self) -> str:
        """`23.3`, `MLP 9`, `positions`."""
        if self.name:
            return self.name
        return "positions" if self.node.site == "pos_embed" else self.node.short.replace("mlp", "MLP")

    @property
    def width(self) -> float:
        return _LETTER * len(self.shown) + 13

    @property
    def level(self) -> tuple[int, int]:
        """Its row, from below: embeddings, layers, the logits."""
        return (1, self.node.layer) if self.node.kind.in_layers else (2 * (self.node == LOGITS), 0)


@dataclass(frozen=True)
class Column:
    """A role and the span that its heads take."""

    role: str
    left: float
    right: float


@dataclass(frozen=True)
class Arranged:
    """A drawing's placed boxes, its columns, its rows (label and middle), and its size."""

    boxes: tuple[Box, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, float], ...]
    width: float
    height: float


def boxes_of(
    groups: Sequence[Group], edges: Sequence[Edge], roles: Sequence[str], names: Mapping[Node, str] | None = None
) -> list[Box]:
    """A box for each member at each of its roles, for the logits, and for embeddings in which a path starts."""
    boxes = [
        Box(node, role, group.name, name=(names or {}).get(node, ""))
        for group in groups
        for node in group.nodes
        for role in ([EVERYWHERE] if group.roles == "all" else group.roles)
    ]
    outside = [
        Box(node, roles[-1] if node == LOGITS else edge.role or roles[0])
        for edge in edges
        for node in (edge.sender, edge.receiver)
        if not node.kind.in_layers
    ]
    return [*boxes, *dict.fromkeys(outside)]


def arrange_circuit(boxes: Sequence[Box], roles: Sequence[str]) -> Arranged:
    """Places for all boxes, in their order. A role that `roles` does not name becomes a column at the right."""
    cells: dict[tuple[str, tuple[int, int]], list[int]] = {}
    for place, box in enumerate(boxes):
        cells.setdefault((box.role, box.level), []).append(place)
    levels = sorted({level for _, level in cells})
    pitch = _ROW if len(levels) < _MANY_ROWS else _CLOSE_ROW
    middle = {level: _TOP + pitch * (len(levels) - 0.5 - row) for row, level in enumerate(levels)}
    columns, placed, left = [], dict[int, Box](), _LEFT
    for role in dict.fromkeys([*roles, *(box.role for box in boxes)]):
        rows = [(row, cells[role, level], middle[level]) for row, level in enumerate(levels) if (role, level) in cells]
        if rows:
            widest = max(_span([boxes[place] for place in cell]) for _, cell, _ in rows)
            column = Column(role, left, left + max(_COLUMN, widest + 2 * _PAD, _LETTER * len(role) + 2 * _PAD))
            columns.append(column)
            left = column.right
            for row, cell, y in rows:
                placed |= zip(cell, _cell([boxes[place] for place in cell], column, y, row), strict=True)
    names = tuple((str(layer) if kind == 1 else "", middle[kind, layer]) for kind, layer in levels)
    height = _TOP + pitch * len(levels) + _BOTTOM
    return Arranged(tuple(placed[place] for place in range(len(boxes))), tuple(columns), names, left + 6, height)


def _span(cell: Sequence[Box]) -> float:
    return sum(box.width for box in cell) + _GAP * (len(cell) - 1)


def _cell(cell: Sequence[Box], column: Column, y: float, row: int) -> list[Box]:
    """The boxes of one cell, side by side around the column's middle."""
    room = column.right - column.left - 2 * _PAD - _span(cell)
    # Boxes one above the other would hide which of them a path goes to.
    aside = 0.0 if any(box.node == LOGITS for box in cell) else (row % 3 - 1) * min(room / 2, 26.0)
    at = (column.left + column.right) / 2 + aside - _span(cell) / 2
    made = []
    for box in cell:
        made.append(replace(box, x=at + box.width / 2, y=y))
        at += box.width + _GAP
    return made


def curve(start: Box, end: Box, kind: str) -> str:
    """A path from the top of one box to the bottom of another; sideways out of the way of the boxes between them."""
    x1, y1 = start.x, start.y - start.height / 2
    x2, y2 = end.x + _PORT[kind] * end.width, end.y + end.height / 2
    rise = max(y1 - y2, 0.0)
    if rise == 0:
        # Two in one row: an arch over both.
        return f"M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 - 22:.1f} {x2:.1f} {y1 - 22:.1f} {x2:.1f} {y1:.1f}"
    aside = 0.0
    if abs(x1 - x2) < 26 and rise > 40:
        aside = min(18 + 0.16 * rise, 54.0) * (1 if kind in ("v", "") else -1)
    bend = 0.45 * rise
    return f"M{x1:.1f} {y1:.1f}C{x1 + aside:.1f} {y1 - bend:.1f} {x2 + aside:.1f} {y2 + bend:.1f} {x2:.1f} {y2:.1f}"


def size_of(edge: Edge) -> float:
    """How strong a path is; one that nothing was measured of comes last."""
    return -1.0 if edge.effect is None or not math.isfinite(edge.effect) else abs(edge.effect)


def ranked(edges: Sequence[Edge]) -> tuple[Edge, ...]:
    """The strongest first."""
    return tuple(sorted(edges, key=lambda edge: -size_of(edge)))


def ends_of(edge: Edge, boxes: Sequence[Box]) -> Ends:
    """The placed boxes that a path joins, by their numbers; None if one of them is not drawn.

    The sender writes at the path's role, and so does a query; keys and values are read there by a head that stands
    elsewhere, as a rule later: of a receiver at several roles, the one most to the right.
    """
    senders = [place for place, box in enumerate(boxes) if box.node == edge.sender]
    receivers = [place for place, box in enumerate(boxes) if box.node == edge.receiver]
    if not senders or not receivers:
        return None
    here = [place for place in senders if boxes[place].role == edge.role]
    there = [place for place in receivers if boxes[place].role == edge.role]
    latest = max(receivers, key=lambda place: boxes[place].x)
    return (here or senders)[0], there[0] if there and edge.input not in ("k", "v") else latest


def path_text(edge: Edge, attrs: Attrs) -> str:
    """A path in words: `20.0 → query of 23.3 at end: effect 0.12, 0.08 to 0.15`."""
    names = listed([node.short for node in (edge.receiver, *edge.shared)])
    receiver = f"{INPUTS[edge.input]} of {names}" if edge.input else edge.receiver.short
    effect = "not measured"
    if edge.effect is not None:
        amount = amount_of(edge.effect, attrs)
        spread = "" if edge.low is None or edge.high is None else f", interval {interval(edge.low, edge.high)}"
        what = str(attrs.get("quantity", "effect"))
        effect = f"{what} {number(edge.effect)}{f' ({amount})' if amount else ''}{spread}"
    return f"{edge.sender.short} → {receiver}{f' at {edge.role}' if edge.role else ''}: {effect}"


def box_text(box: Box, edges: Sequence[Edge], evidence: str = "", called: Mapping[Node, str] | None = None) -> str:
    """A head in words: its group and role, what is known of it, and the strongest of the drawn paths out and in, to
    and from nodes by their names, if they are `called` otherwise."""
    # A column that only says what kind of node a box is says nothing new.
    at = "" if box.node == LOGITS or box.role in (box.group, box.shown) else f"at {box.role}"
    where = f"{box.group if box.role != box.group else ''} {at}".strip()
    sent = [edge for edge in edges if edge.sender == box.node and edge.role in ("", box.role)]
    come = [edge for edge in edges if box.node in (edge.receiver, *edge.shared)]
    parts = [f"{box.shown}, {where}" if where else box.shown, evidence]
    for word, paths, end in (("to", sent, "receiver"), ("from", come, "sender")):
        names = [
            f"{(called or {}).get(node := getattr(edge, end), node.short)}{f' ({edge.input})' if edge.input else ''} "
            + ("" if edge.effect is None else number(edge.effect))
            for edge in paths[:_MOST_LISTED]
        ]
        more = f" and {len(paths) - _MOST_LISTED} more" if len(paths) > _MOST_LISTED else ""
        parts.append(f"{word} {', '.join(map(str.strip, names))}{more}" if names else "")
    return "; ".join(filter(None, parts))


def amount_of(effect: float | None, attrs: Attrs) -> str:
    """A share of the gap in the metric's unit, `0.47 logits`; "" if the gap is not known."""
    gap = attrs.get("gap")
    if effect is None or not isinstance(gap, (int, float)):
        return ""
    return f"{number(effect * gap)} {attrs.get('unit', '')}".rstrip()


def edges_said(edges: Sequence[Edge], attrs: Attrs) -> str:
    """How many paths there are on the prompts that they were measured on, and which these are."""
    ends = [(edge.low, edge.high) for edge in edges if edge.low is not None and edge.high is not None]
    clear = sum(low > 0 or high < 0 for low, high in ends)
    said = f"The effect of {clear} of {counted(len(ends), 'path')} is different from 0 by its interval" if ends else ""
    parts = [*filter(None, [said, halves_said(attrs)])]
    return f"{'; '.join(parts)}." if parts else ""


def halves_said(attrs: Attrs) -> str:
    """On which prompts something was chosen, and on which it was measured; "" if that is not known."""
    chosen, measured = attrs.get("chosen_on"), attrs.get("measured_on")
    if chosen is None or measured is None:
        return ""
    if attrs.get("halves") == "the same prompts":
        return f"chosen and measured on the same {counted(int(measured), 'prompt')}, so what was chosen looks too large"
    return f"chosen on {counted(int(chosen), 'prompt')}, measured on {measured} others"


def circuit_finding(circuit: Circuit) -> str:
    """How large a circuit is, and its strongest path."""
    nodes = [node for group in circuit.groups for node in group.nodes]
    layers, n = [node.layer for node in nodes], counted(len(nodes), "head")
    if circuit.mlps:
        n = n.replace("head", "head and MLP" if len(nodes) == 1 else "heads and MLP", 1)
    said = f"{n} in {counted(len(circuit.groups), 'group')}"
    if circuit.keeps == "edges":
        parts = counted(len(circuit.heads), "head"), counted(len(circuit.mlps), "MLP")
        said = f"{counted(len(circuit.edges), 'edge')} of {listed(list(parts))}"
    if layers:
        said += f", layers {min(layers)} to {max(layers)}" if min(layers) < max(layers) else f", layer {layers[0]}"
    strongest = next((edge for edge in ranked(circuit.edges) if edge.effect is not None), None)
    if strongest is None or strongest.effect is None:
        return said
    to = "the logits" if strongest.receiver == LOGITS else strongest.receiver.short
    many = "the one path" if len(circuit.edges) == 1 else f"the strongest of {len(circuit.edges)} paths"
    many = "the strongest" if circuit.keeps == "edges" else many
    return f"{said}; {many} is {strongest.sender.short} to {to} ({number(strongest.effect)})"
