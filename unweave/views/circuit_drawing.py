"""The drawing of a circuit: heads at the roles where they act, and the paths between them.

Columns are roles in the order of the sentence, rows are layers, early ones at the bottom. The drawing is markup made
here, each head and path with its evidence as a text, so that it can be read on paper and without scripts; this
package's own script (unweave/views/assets/circuit.js) adds pointing, arrow keys and a slider that hides weak paths.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unweave.circuits.circuit import Circuit, Group
from unweave.nodes import Edge, Node
from unweave.results.labels import number
from unweave.views.blocks import drawn
from unweave.views.circuit_layout import (
    EVERYWHERE,
    INPUTS,
    Box,
    amount_of,
    arrange_circuit,
    box_text,
    boxes_of,
    circuit_finding,
    curve,
    ends_of,
    halves_said,
    path_text,
    ranked,
    size_of,
)
from unweave.views.theme import NEUTRAL, PALETTE

# Paths that are shown before the slider is moved: more of them are a tangle.
START = 40
_DASHES = {"": "", "q": "5 3", "k": "1 3.5", "v": "11 3"}
_THINNEST, _WIDEST = 0.9, 6.0
_PALE = 0.25


@dataclass(frozen=True)
class CircuitDrawing:
    """A circuit as a block of a page.

    Args:
        groups: of heads and MLPs, with roles.
        edges: the paths between them.
        roles: the columns, in order.
        attrs: how the effects of edges were measured, as of a `Circuit`.
        evidence: what is known of a head, by its name.
        notes: what else is known of a path, by its name.
        pale: names of paths whose effect is not different from 0.
        names: of nodes that are called otherwise here.
        carries: the sign of an effect that carries the answer.
        title, caption: plain text above and below.
        colours: of groups, if other figures have given them colours.
    """

    groups: tuple[Group, ...]
    edges: tuple[Edge, ...]
    roles: tuple[str, ...]
    attrs: Mapping[str, str | int | float] = field(default_factory=dict)
    evidence: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    pale: Collection[str] = ()
    names: Mapping[Node, str] = field(default_factory=dict)
    carries: int = 1
    title: str = ""
    caption: str = ""
    colours: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> str:
        groups, edges = self.groups, ranked(self.edges)
        placed = arrange_circuit(boxes_of(groups, edges, self.roles, self.names), self.roles)
        ends = {rank: joined for rank, edge in enumerate(edges) if (joined := ends_of(edge, placed.boxes))}
        shown = [edges[rank] for rank in ends]
        colours = {**group_colours([group.name for group in groups]), **self.colours}
        boxes = [
            (
                box,
                colours.get(box.group, NEUTRAL),
                box_text(box, shown, self.evidence.get(box.node.short, ""), self.names),
            )
            for box in placed.boxes
        ]
        effects = [edge.effect * self.carries for edge in edges if edge.effect]
        signs = [("for", "carries the answer")] if any(effect > 0 for effect in effects) else []
        signs += [("against", "works against it")] if any(effect < 0 for effect in effects) else []
        used = {edge.input for edge in edges}
        return drawn(
            "circuit",
            self,
            self.title,
            min(START, len(edges)),
            placed,
            [self._path(rank, edges, joined, placed.boxes) for rank, joined in ends.items()],
            boxes,
            [(group.name, colours[group.name], len(group.nodes)) for group in groups],
            [(name, _DASHES[kind]) for kind, name in INPUTS.items() if kind in used],
            signs,
        )

    def _path(self, rank: int, edges: Sequence[Edge], ends: tuple[int, int], boxes: Sequence[Box]) -> dict[str, object]:
        """What the template writes of a path."""
        edge, largest = edges[rank], size_of(edges[0])
        share = size_of(edge) / largest if largest > 0 and size_of(edge) >= 0 else 0.0
        name = str(edge)
        return {
            "rank": rank,
            "ends": ends,
            "text": "; ".join(filter(None, [path_text(edge, self.attrs), self.notes.get(name, "")])),
            "kind": "plain" if edge.effect is None else "for" if edge.effect * self.carries >= 0 else "against",
            "width": f"{_THINNEST + (_WIDEST - _THINNEST) * share:.2f}",
            "opacity": f"{_PALE if name in self.pale else 0.45 + 0.5 * share:.2f}",
            "dash": _DASHES[edge.input],
            "size": "" if edge.effect is None else f"{size_of(edge):.4g}",
            "curve": curve(boxes[ends[0]], boxes[ends[1]], edge.input),
        }


def circuit_drawing(
    circuit: Circuit,
    *,
    places: Mapping[str, Sequence[int]] | None = None,
    evidence: Mapping[str, str] | None = None,
    title: str = "",
    caption: str = "",
    colours: Mapping[str, str] | None = None,
) -> CircuitDrawing:
    """The drawing of a circuit.

    Args:
        circuit: groups of heads with roles, and edges.
        places: positions of each prompt by role (`prompts.roles`), which order the columns by their means; otherwise
            they stand as the circuit names them, `end` last.
        evidence: what is known of a head, by its name, such as the numbers that gave it its role.
        title, caption: plain text; computed if left out.
        colours: of groups, by name.
    """
    named = [role for group in circuit.groups for role in ([EVERYWHERE] if group.roles == "all" else group.roles)]
    named += [edge.role for edge in circuit.edges if edge.role]
    known = {role: float(np.mean(list(at))) for role, at in (places or {}).items() if len(at)}
    # A role without a position stands before `end`.
    last = max(known.values(), default=0.0)
    order = {role: known.get(role, last + (0.5 if role != "end" else 1.0)) for role in named}
    roles = tuple(sorted(order, key=lambda role: order[role]))
    title, caption = title or circuit_finding(circuit), caption or _drawn_caption(circuit)
    return CircuitDrawing(
        circuit.groups,
        circuit.edges,
        roles,
        circuit.attrs,
        evidence or {},
        title=title,
        caption=caption,
        colours=colours or {},
    )


def group_colours(groups: Sequence[str]) -> dict[str, str]:
    """A colour for each group, in order; the same list gives the same colours. From the ninth on they are grey."""
    return {name: PALETTE[place] if place < len(PALETTE) else NEUTRAL for place, name in enumerate(groups)}


def _drawn_caption(circuit: Circuit) -> str:
    text = "Columns are roles in the order of the prompt, rows are layers."
    if not any(edge.effect is not None for edge in circuit.edges):
        return text
    widest, amount = ranked(circuit.edges)[0], amount_of(ranked(circuit.edges)[0].effect, circuit.attrs)
    said = f"The widest path has an effect of {number(size_of(widest))}{f' ({amount})' if amount else ''}; effects are "
    return f"{text} {'; '.join(filter(None, [f'{said}shares of the gap', halves_said(circuit.attrs)]))}."
