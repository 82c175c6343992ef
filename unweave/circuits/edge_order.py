"""In which order edges join a circuit.

By:

    size      the largest effects in size first
    signed    the effects that carry the answer most first; edges that work against it come last
    greedy    from the logits backwards: of the edges into what is in the circuit, always the largest
"""

from collections import defaultdict
from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from jaxtyping import Bool, Float
from torch import Tensor

from unweave.engine.edge_graph import Mask
from unweave.errors import InputError, did_you_mean

BY = ("size", "signed", "greedy")


def in_order(
    joined: Mask,
    feeds: Bool[Tensor, "receiver sender"],
    effects: Float[Tensor, "sender receiver"],
    by: str,
    carries: int = -1,
) -> list[tuple[int, int]]:
    """All edges that are `joined` as numbers of senders and receivers, the first to keep first.

    Args:
        effects: of each edge, 0 if it is not known.
        carries: the sign of an effect that carries the answer, for "signed".

    Raises:
        InputError: an unknown `by`.
    """
    if by not in BY:
        raise InputError(f"by: expected one of {', '.join(BY)}, got {by!r}.{did_you_mean(str(by), BY)}")
    sizes = effects[joined]
    sizes = sizes * carries if by == "signed" else sizes.abs()
    order = [tuple(edge) for edge in joined.nonzero()[sizes.argsort(descending=True, stable=True)].tolist()]
    return _greedy(feeds, order) if by == "greedy" else order


def _greedy(feeds: Bool[Tensor, "receiver sender"], order: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """From the logits, the last receiver, backwards, the largest edge into what is there already."""
    into = defaultdict(list)
    for place, (_, receiver) in enumerate(order):
        into[receiver].append(place)
    logits = len(feeds) - 1
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
