"""The drawing of a circuit: heads at the roles where they act, and the paths between them.

Columns are roles in the order of the sentence, rows are layers, early ones at the bottom. The drawing is markup made
here, each head and path with its evidence as a text, so that it can be read on paper and without scripts; this
package's own script (unweave/views/assets/circuit.js) adds pointing, arrow keys and a slider that hides weak paths.

`Node` and `Link` say all that is drawn. `circuit_drawing` makes them from a circuit.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unweave.circuits.circuit import Circuit
from unweave.results.labels import number
from unweave.views.blocks import CIRCUIT, caption, heading
from unweave.views.circuit.layout import LOGITS, Node, arrange_circuit
from unweave.views.circuit.paths import Link, amount_of, ends_of, evidence_of, halves_said, ranked, told
from unweave.views.circuit.svg import legend, svg
from unweave.views.circuit.titles import circuit_finding
from unweave.views.theme import NEUTRAL, PALETTE

__all__ = ["CircuitDrawing", "Link", "Node", "circuit_drawing", "group_colours"]

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
        says = [evidence_of(node, links, ends) for node in nodes]
        drawn = svg(placed, links, ends, colours, says, [told(link) for link in links])
        key = legend(nodes, links, colours)
        name = html.escape("circuit: " + (self.title or circuit_finding(nodes, links)), quote=True)
        view = f'<div class="scroll circuit-view" role="group" aria-label="{name}">{drawn}</div>'
        title = heading(self.title or circuit_finding(nodes, links))
        start = min(START, len(links))
        return f'<figure class="circuit" data-start="{start}">{title}{view}{key}{caption(self.caption)}</figure>'

    def needs(self) -> frozenset[str]:
        return frozenset({CIRCUIT})


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
    return CircuitDrawing(tuple(nodes), links, roles, title, caption or _caption(links, circuit.attrs), colours or {})


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


def _caption(links: Sequence[Link], attrs: Mapping[str, str | int | float]) -> str:
    text = "Columns are roles in the order of the prompt, rows are layers."
    if not any(link.effect is not None for link in links):
        return text
    widest = ranked(links)[0]
    amount = f" ({widest.amount})" if widest.amount else ""
    said = f"The widest path has an effect of {number(widest.size)}{amount}; effects are shares of the gap"
    return f"{text} {'; '.join(filter(None, [said, halves_said(attrs)]))}."
