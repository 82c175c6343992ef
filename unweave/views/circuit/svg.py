"""The markup of a circuit's drawing. Every text in it is escaped here."""

import html
from collections.abc import Mapping, Sequence

from unweave.views.circuit.layout import Arranged, Node, Placed
from unweave.views.circuit.paths import INPUTS, Ends, Link
from unweave.views.theme import NEUTRAL

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
        _link(rank, link, placed.boxes[joined[0]], placed.boxes[joined[1]], joined, text, largest)
        for rank, (link, joined, text) in rows
        if joined
    ]
    boxes = [_box(place, box, colours, says[place]) for place, box in enumerate(placed.boxes)]
    width, height = f"{placed.width:.0f}", f"{placed.height:.0f}"
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" style="--natural:{width}px">'
        f"{_grid(placed)}"
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
        items.append(f"<li>{_line('plain', _DASHES[kind])}{INPUTS[kind]}</li>")
    if any((link.effect or 0.0) > 0 for link in links):
        items.append(f"<li>{_line('for', '')}carries the answer</li>")
    if any((link.effect or 0.0) < 0 for link in links):
        items.append(f"<li>{_line('against', '')}works against it</li>")
    return f'<ul class="circuit-key">{"".join(items)}</ul>'


def _line(kind: str, dashes: str) -> str:
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        '<svg class="key-line" width="30" height="8" aria-hidden="true">'
        f'<path class="{kind}" d="M1 4H29" stroke-width="2.5"{dash}/></svg>'
    )


def _grid(placed: Arranged) -> str:
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


def _box(place: int, box: Placed, colours: Mapping[str, str], says: str) -> str:
    x, y = box.x - box.width / 2, box.y - box.height / 2
    colour = _colour(colours, box.node.group)
    inner = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="4"/>'
        f'<text x="{box.x:.1f}" y="{box.y + 4:.1f}" text-anchor="middle">{html.escape(box.node.shown)}</text>'
    )
    kind = "node" if box.node.group else "node outside"
    title = f"<title>{html.escape(says)}</title>"
    return f'<g class="{kind}" role="img" data-node="{place}" style="--c:{colour}">{title}{inner}</g>'


def _link(rank: int, link: Link, start: Placed, end: Placed, joined: tuple[int, int], text: str, largest: float) -> str:
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
