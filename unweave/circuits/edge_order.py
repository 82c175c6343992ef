"""Which edges a circuit of n edges keeps, and which of those lead anywhere.

    size      the n largest effects in size
    signed    the n whose effects carry the answer most; edges that work against it come last
    greedy    from the logits backwards: of the edges into what is in the circuit, the largest, n times

A dead end is an edge whose receiver leads to no logits, or whose sender nothing leads to from the embeddings. A head is
one node: what its query, key or value reads leads to what it writes. A key or value that heads share leads to each.
"""

from collections import defaultdict
from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unweave.engine.edge_graph import EdgeGraph
from unweave.errors import InputError
from unweave.nodes import Node

BY = ("size", "signed", "greedy")
Table = Float[Tensor, "sender receiver"]
Mask = Bool[Tensor, "sender receiver"]


def in_order(graph: EdgeGraph, effects: Table, by: str, carries: int = -1) -> list[tuple[int, int]]:
    """All edges as numbers of senders and receivers, the first to keep first.

    Args:
        effects: of each edge, 0 if it is not known.
        carries: the sign of an effect that carries the answer, for "signed".

    Raises:
        InputError: an unknown `by`.
    """
    if by not in BY:
        raise InputError(f"by: expected one of {', '.join(BY)}, got {by!r}")
    edges = graph.joined.nonzero()
    sizes = effects[graph.joined]
    sizes = sizes * carries if by == "signed" else sizes.abs()
    order = [tuple(edge) for edge in edges[sizes.argsort(descending=True, stable=True)].tolist()]
    return _greedy(graph, order) if by == "greedy" else order


def _greedy(graph: EdgeGraph, order: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """From the logits backwards, the largest edge into what is there already."""
    feeds, into = _feeds(graph), defaultdict(list)
    for place, (_, receiver) in enumerate(order):
        into[receiver].append(place)
    logits = len(graph.receivers) - 1
    waiting, reached, found = [*into[logits]], {logits}, []
    heapify(waiting)
    while waiting:
        found.append(order[heappop(waiting)])
        for receiver in feeds[:, found[-1][0]].nonzero()[:, 0].tolist():
            if receiver not in reached:
                reached.add(receiver)
                for place in into[receiver]:
                    heappush(waiting, place)
    return found


def _feeds(graph: EdgeGraph) -> Bool[Tensor, "receiver sender"]:
    """Which receivers are inputs of what writes as which senders."""
    number = {sender: n for n, sender in enumerate(graph.senders)}
    feeds, share = torch.zeros(len(graph.receivers), len(graph.senders), dtype=torch.bool), graph.config.heads_per_kv
    for row, receiver in enumerate(graph.receivers):
        if receiver.site == "mlp_out":
            feeds[row, number[receiver]] = True
        elif receiver.part is not None:
            first, count = (receiver.part, 1) if receiver.site == "q" else (receiver.part * share, share)
            feeds[row, [number[Node("z", receiver.layer, first + n)] for n in range(count)]] = True
    return feeds


def without_dead_ends(graph: EdgeGraph, mask: Mask) -> Mask:
    """The edges that stand on a way from the embeddings to the logits."""
    feeds = _feeds(graph).float()
    while True:
        sent, received = mask.any(1), mask.any(0)
        written = (received.float() @ feeds) > 0  # something leads to the sender
        written[0] = True
        leads = (feeds @ sent.float()) > 0  # the receiver leads to something
        leads[-1] = True
        left = mask & written[:, None] & leads
        if torch.equal(left, mask):
            return mask
        mask = left
