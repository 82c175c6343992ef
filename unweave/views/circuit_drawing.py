"""The drawing of a circuit: heads at the roles where they act, and the paths between them.

Columns are roles in the order of the sentence, rows are layers, early ones at the bottom. The drawing is markup made
here, each head and path with its evidence as a text, so that it can be read on paper and without scripts; this
package's own script (unweave/views/assets/circuit.js) adds pointing, arrow keys and a slider that hides weak paths.

`Node` and `Link` say all that is drawn; `circuit_drawing` makes them from a circuit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unweave.circuits.circuit import Circuit
from unweave.results.labels import number
from unweave.views.blocks import drawn
from unweave.views.circuit_layout import (
    INPUTS,
    LOGITS,
    Arranged,
    Ends,
    Link,
    Node,
    Placed,
    amount_of,
    arrange_circuit,
    circuit_finding,
    ends_of,
    evidence_of,
    halves_said,
    ranked,
    told,
)
from unweave.views.theme import NEUTRAL, PALETTE

EVERYWHERE = "all positions"
# Paths that are shown before the slider is moved: more of them are a tangle.
START = 40
_OUTSIDE = ("embed", "pos_embed", LOGITS)


@dataclass(frozen=True)
class CircuitDrawing:
    """A circuit as a block of a page.

    Args:
        nodes: one for each head at each role where it acts. `logits` is a node too, in the row above all layers,
            `embed` and `pos_embed` in the row below.
        links: paths between nodes.
        roles: the columns, in order; by default as the nodes name them.
        title, caption: plain text above and below; the title is computed where it is left out.
        colours: of groups, where other figures have given them colours.
    """

    nodes: tuple[Node, ...]
    links: tuple[Link, ...] = ()
    roles: tuple[str, ...] = ()
    title: str = ""
    caption: str = ""
    colours: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> str:
        nodes, links = self.nodes, ranked(self.links)
        placed = arrange_circuit(nodes, self.roles or tuple(dict.fromkeys(node.role for node in nodes)))
        ends = [ends_of(link, placed) for link in links]
        groups = tuple(dict.fromkeys(node.group for node in nodes if node.group))
        colours = {**group_colours(groups), **self.colours}
        boxes = [
            (box, colours.get(box.node.group, NEUTRAL), evidence_of(box.node, links, ends)) for box in placed.boxes
        ]
        sizes = {group: len({node.name for node in nodes if node.group == group}) for group in groups}
        given = {link.input for link in links}
        signs = [("for", "carries the answer")] if any((link.effect or 0.0) > 0 for link in links) else []
        signs += [("against", "works against it")] if any((link.effect or 0.0) < 0 for link in links) else []
        return drawn(
            "circuit",
            self,
            self.title or circuit_finding(nodes, links),
            min(START, len(links)),
            placed,
            _paths(links, ends, placed),
            boxes,
            [(group, colours.get(group, NEUTRAL), size) for group, size in sizes.items()],
            [(name, _DASHES[kind]) for kind, name in INPUTS.items() if kind in given],
            signs,
        )


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
        title, caption: plain text; computed where left out.
        colours: of groups, by name.
    """
    said = evidence or {}
    nodes = [
        Node(member.short, member.layer, role, group.name, said.get(member.short, ""))
        for group in circuit.groups
        for member in group.nodes
        for role in ([EVERYWHERE] if group.roles == "all" else group.roles)
    ]
    links = tuple(
        Link(
            edge.sender.short,
            edge.receiver.short,
            edge.input,
            edge.effect,
            edge.low,
            edge.high,
            edge.role,
            tuple(node.short for node in edge.shared),
            amount_of(edge.effect, circuit.attrs),
        )
        for edge in circuit.edges
    )
    roles = _order([*(node.role for node in nodes), *(link.role for link in links if link.role)], places or {})
    nodes += _outside(links, roles)
    return CircuitDrawing(
        tuple(nodes), links, roles, title, caption or _drawn_caption(links, circuit.attrs), colours or {}
    )


def group_colours(groups: Sequence[str]) -> dict[str, str]:
    """A colour for each group, in order; the same list gives the same colours. From the ninth on they are grey."""
    return {name: PALETTE[place] if place < len(PALETTE) else NEUTRAL for place, name in enumerate(groups)}


def _order(named: Sequence[str], places: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Roles by their mean position; those without one before `end`, as they are named."""
    roles = list(dict.fromkeys(named))
    known = {role: float(np.mean(list(at))) for role, at in places.items() if len(at)}
    last = max(known.values(), default=0.0)
    return tuple(sorted(roles, key=lambda role: known.get(role, last + 0.5 if role != "end" else last + 1.0)))


def _outside(links: Sequence[Link], roles: Sequence[str]) -> list[Node]:
    """The nodes that no group holds: embeddings where a path starts in them, the logits where one ends."""
    made: dict[tuple[str, str], Node] = {}
    for link in links:
        for name in {link.sender, link.receiver} & set(_OUTSIDE):
            role = roles[-1] if name == LOGITS else link.role or roles[0]
            made[name, role] = Node(name, -1, role)
    return list(made.values())


def _drawn_caption(links: Sequence[Link], attrs: Mapping[str, str | int | float]) -> str:
    text = "Columns are roles in the order of the prompt, rows are layers."
    if not any(link.effect is not None for link in links):
        return text
    widest = ranked(links)[0]
    amount = f" ({widest.amount})" if widest.amount else ""
    said = f"The widest path has an effect of {number(widest.size)}{amount}; effects are shares of the gap"
    return f"{text} {'; '.join(filter(None, [said, halves_said(attrs)]))}."


_DASHES = {"": "", "q": "5 3", "k": "1 3.5", "v": "11 3"}
_PORT = {"q": -0.28, "k": 0.0, "v": 0.28, "": 0.0}
_THINNEST, _WIDEST = 0.9, 6.0


def _paths(links: Sequence[Link], ends: Sequence[Ends], placed: Arranged) -> list[dict[str, object]]:
    """What the template writes of each path that joins two boxes, the strongest first."""
    largest = max((link.size for link in links), default=0.0)
    made = []
    for rank, (link, joined) in enumerate(zip(links, ends, strict=True)):
        if not joined:
            continue
        share = link.size / largest if largest > 0 and link.size >= 0 else 0.0
        look = {
            "kind": "plain" if link.effect is None else "for" if link.effect >= 0 else "against",
            "width": f"{_THINNEST + (_WIDEST - _THINNEST) * share:.2f}",
            "opacity": f"{0.45 + 0.5 * share:.2f}",
            "dash": _DASHES[link.input],
            "size": "" if link.effect is None else f"{link.size:.4g}",
            "curve": _curve(placed.boxes[joined[0]], placed.boxes[joined[1]], link.input),
        }
        made.append({"rank": rank, "ends": joined, "text": told(link), **look})
    return made


def _curve(start: Placed, end: Placed, kind: str) -> str:
    """From the top of one box to the bottom of another; sideways out of the way of the boxes between them."""
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
