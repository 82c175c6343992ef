"""Where a circuit's heads stand in its drawing: a column for each role, a row for each layer that has a head.

All lengths are pixels of the drawing's own size, which the page scales.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
