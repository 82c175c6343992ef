"""The drawing of a circuit: heads at the roles where they act, and the paths between them.

Columns are roles in the order of the sentence, rows are layers, early ones at the bottom. The drawing is markup made
here, each head and path with its evidence as a text, so that it can be read on paper and without scripts; this
package's own script (unweave/views/assets/circuit.js) adds pointing, arrow keys and a slider that hides weak paths.

`Node` and `Link` say all that is drawn. `circuit_drawing` makes them from anything that has the attributes of a
circuit (`CircuitLike`), since views know values and not the rooms that make them.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from unweave.results.labels import number
from unweave.views.blocks import CIRCUIT, caption, heading
from unweave.views.circuit_layout import (
    INPUTS,
    LOGITS,
    Arranged,
    EdgeLike,
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


@runtime_checkable
class GroupLike(Protocol):
    """Heads `(layer, head)` and MLPs (layers) of one kind, and the roles where they count, or `"all"`."""

    @property
    def name(self) -> str: ...
    @property
    def heads(self) -> Sequence[tuple[int, int]]: ...
    @property
    def roles(self) -> Sequence[str] | Literal["all"]: ...
    @property
    def mlps(self) -> Sequence[int]: ...


@runtime_checkable
class CircuitLike(Protocol):
    """What a circuit has that is drawn: groups and edges, and how these were measured."""

    @property
    def groups(self) -> Sequence[GroupLike]: ...
    @property
    def edges(self) -> Sequence[EdgeLike]: ...
    @property
    def attrs(self) -> Mapping[str, str | int | float]: ...


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
    circuit: CircuitLike,
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
        Node(name, layer, role, group.name, said.get(name, ""))
        for group in circuit.groups
        for layer, name in _members(group)
        for role in ([EVERYWHERE] if group.roles == "all" else group.roles)
    ]
    links = tuple(
        Link(
            edge.sender,
            edge.receiver,
            edge.input,
            edge.effect,
            edge.low,
            edge.high,
            edge.role,
            tuple(edge.shared),
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


def _members(group: GroupLike) -> list[tuple[int, str]]:
    """Layer and name of each head and MLP."""
    heads = [(layer, f"{layer}.{head}") for layer, head in group.heads]
    return heads + [(layer, f"{layer}_mlp") for layer in group.mlps]


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


def svg(
    placed: Arranged,
    links: Sequence[Link],
    ends: Sequence[Ends],
    colours: Mapping[str, str],
    says: Sequence[str],
    tells: Sequence[str],
) -> str:
    """The drawing: columns and rows, then paths, the strongest on top, then heads.

    Args:
        placed: where the nodes stand.
        links: the strongest first, with the numbers of the `ends` of each.
        colours: by group.
        says, tells: what is said of each node and of each path.
    """
    largest = max((link.size for link in links), default=0.0)
    rows = enumerate(zip(links, ends, tells, strict=True))
    drawn = [
        _path_svg(rank, link, placed.boxes[joined[0]], placed.boxes[joined[1]], joined, text, largest)
        for rank, (link, joined, text) in rows
        if joined
    ]
    boxes = [_box_svg(place, box, colours, says[place]) for place, box in enumerate(placed.boxes)]
    width, height = f"{placed.width:.0f}", f"{placed.height:.0f}"
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" style="--natural:{width}px">'
        f"{_grid_svg(placed)}"
        f'<g class="links">{"".join(reversed(drawn))}</g><g class="nodes">{"".join(boxes)}</g></svg>'
    )


def legend(nodes: Sequence[Node], links: Sequence[Link], colours: Mapping[str, str]) -> str:
    """What colours, dashes and widths mean: groups with their numbers of heads, inputs, signs."""
    groups = dict.fromkeys(node.group for node in nodes if node.group)
    items = []
    for group in groups:
        count = len({node.name for node in nodes if node.group == group})
        box = f'<i class="key-node" style="--c:{_colour(colours, group)}"></i>'
        items.append(f"<li>{box}{html.escape(group)} <b>{count}</b></li>")
    given = dict.fromkeys(link.input for link in links)
    for kind in (kind for kind in INPUTS if kind in given):
        items.append(f"<li>{_key_line('plain', _DASHES[kind])}{INPUTS[kind]}</li>")
    if any((link.effect or 0.0) > 0 for link in links):
        items.append(f"<li>{_key_line('for', '')}carries the answer</li>")
    if any((link.effect or 0.0) < 0 for link in links):
        items.append(f"<li>{_key_line('against', '')}works against it</li>")
    return f'<ul class="circuit-key">{"".join(items)}</ul>'


def _key_line(kind: str, dashes: str) -> str:
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        '<svg class="key-line" width="30" height="8" aria-hidden="true">'
        f'<path class="{kind}" d="M1 4H29" stroke-width="2.5"{dash}/></svg>'
    )


def _grid_svg(placed: Arranged) -> str:
    """Bands of the columns with their roles, and the rows' layers."""
    top, foot = 4.0, placed.height - 26
    parts = []
    for place, column in enumerate(placed.columns):
        if place % 2 == 0:
            size = f'width="{column.right - column.left:.1f}" height="{foot - top:.1f}"'
            parts.append(f'<rect class="band" x="{column.left:.1f}" y="{top}" {size}/>')
        middle = (column.left + column.right) / 2
        label = html.escape(column.role)
        parts.append(f'<text class="role" x="{middle:.1f}" y="{foot + 17:.1f}" text-anchor="middle">{label}</text>')
    parts += [
        f'<text class="layer" x="32" y="{y + 4:.1f}" text-anchor="end">{html.escape(name)}</text>'
        for name, y in placed.rows
    ]
    parts.append(f'<text class="layer" x="32" y="{foot + 17:.1f}" text-anchor="end">layer</text>')
    return f'<g class="grid" aria-hidden="true">{"".join(parts)}</g>'


def _box_svg(place: int, box: Placed, colours: Mapping[str, str], says: str) -> str:
    x, y = box.x - box.width / 2, box.y - box.height / 2
    colour = _colour(colours, box.node.group)
    inner = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="4"/>'
        f'<text x="{box.x:.1f}" y="{box.y + 4:.1f}" text-anchor="middle">{html.escape(box.node.shown)}</text>'
    )
    kind = "node" if box.node.group else "node outside"
    title = f"<title>{html.escape(says)}</title>"
    return f'<g class="{kind}" role="img" data-node="{place}" style="--c:{colour}">{title}{inner}</g>'


def _path_svg(
    rank: int, link: Link, start: Placed, end: Placed, joined: tuple[int, int], text: str, largest: float
) -> str:
    curve = _curve(start, end, link.input)
    kind = "plain" if link.effect is None else "for" if link.effect >= 0 else "against"
    share = link.size / largest if largest > 0 and link.size >= 0 else 0.0
    width = _THINNEST + (_WIDEST - _THINNEST) * share
    dash = f' stroke-dasharray="{_DASHES[link.input]}"' if _DASHES[link.input] else ""
    size = "" if link.effect is None else f' data-size="{link.size:.4g}"'
    look = f'stroke-width="{width:.2f}" opacity="{0.45 + 0.5 * share:.2f}"{dash}'
    return (
        f'<g class="link" role="img" data-rank="{rank}" data-from="{joined[0]}" data-to="{joined[1]}"{size}>'
        f'<title>{html.escape(text)}</title><path class="hit" d="{curve}"/>'
        f'<path class="line {kind}" d="{curve}" {look}/></g>'
    )


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


def _colour(colours: Mapping[str, str], group: str) -> str:
    return html.escape(colours.get(group, NEUTRAL), quote=True)
