"""What is read off the weights: QK circuits of the first layer, and what pairs of heads compose by position."""

from collections.abc import Callable, Sequence

import xarray as xr

from unweave.methods.norm_scales import norm_scales
from unweave.methods.weights.composition_circuits import k_composition, mean_query, v_composition
from unweave.methods.weights.full_circuits import qk_circuit
from unweave.nodes import Head, head_name
from unweave.results.origin import stamped
from unweave.studies.palindrome.subject import PALINDROME, PalindromeSubject

Pair = tuple[Head, Head]
# Palindromes speak for the first output and against the second.
OUTPUTS = (PALINDROME, 0)
_SCALED = 500


def qk(subject: PalindromeSubject, over: str) -> xr.DataArray:
    """Attention of the first layer's heads as far as tokens alone, or positions alone, say; `[address, …]`."""
    few = subject.task.prompts.take(range(min(_SCALED, len(subject.task.prompts))))
    scale = float(norm_scales(subject.model, few).sel(layer=0).mean())
    heads = [(0, head) for head in range(subject.model.config.n_heads)]
    tokens = range(subject.max_value + 1) if over == "tokens" else None
    return qk_circuit(
        subject.model, heads, over, tokens=None if tokens is None else list(tokens), norm_scale=scale, softmax=True
    )


def k_circuits(subject: PalindromeSubject, pairs: Sequence[Pair]) -> xr.DataArray:
    """What each receiver asks, with its mean query at END, of what the sender moves from each position."""
    few = subject.task.prompts.take(range(min(_SCALED, len(subject.task.prompts))))

    def one(sender: Head, receiver: Head) -> xr.DataArray:
        return k_composition(subject.model, sender, receiver, query=mean_query(subject.model, few, receiver))

    return _row(pairs, one)


def v_circuits(subject: PalindromeSubject, pairs: Sequence[Pair]) -> xr.DataArray:
    """What each receiver says, for a palindrome, of what the sender moves from each position."""
    return _row(pairs, lambda sender, receiver: v_composition(subject.model, sender, receiver, outputs=OUTPUTS))


def pair_name(pair: Pair) -> str:
    """`0.0 → 1.1`"""
    return " → ".join(map(head_name, pair))


def _row(pairs: Sequence[Pair], make: Callable[[Head, Head], xr.DataArray]) -> xr.DataArray:
    rows = [make(*pair) for pair in pairs]
    joined = xr.concat(rows, "address", combine_attrs="drop_conflicts")
    return stamped(joined.assign_coords(address=[pair_name(pair) for pair in pairs]))
