"""The paths of a circuit's drawing: which boxes they join, and what is said of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unweave.nodes import Edge
from unweave.results.labels import number
from unweave.views.circuit.layout import LOGITS, Arranged, Node
from unweave.views.wording import counted, interval, listed

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
