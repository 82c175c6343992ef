"""Minimality: is every head of the circuit needed?

Wang et al. 2022 (arXiv 2211.00593), section 4. For each head v there should be a K of other heads of the circuit such
that v matters without them: |F(C \\ K) - F(C \\ (K + v))| / F(M) is large. Heads of one kind replace each other,
so K is the rest of v's group, unless the circuit's `minimality` names another.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.circuits.runs import CircuitRuns, Heads
from unweave.circuits.tables import interval, mean, names, ratio_interval, table
from unweave.nodes import Head, head_name
from unweave.registry import ENOUGH, Method, register

MINIMALITY = register(
    Method(
        "minimality",
        ENOUGH,
        picture="unweave.views.evaluation_pictures:evaluation_blocks",
        dims=("prompt", "address"),
    )
)


def minimality(runs: CircuitRuns) -> xr.Dataset:
    """What each head adds to the circuit without its K.

    Returns:
        `without_k` = F(C \\ K) and `without_both` = F(C \\ (K + v)), (prompt, address), in the metric's unit, and
        `change`, their difference as a share of F(M); coordinates along `address` ("9.9"): `group`, `share` = mean
        `change` with `share_low` and `share_high`, `size`, its absolute value, and `difference`, the same in the
        metric's unit. The attribute `members` names the heads of each K.
    """
    heads = runs.circuit.heads
    others = [without_for(runs.circuit, head) for head in heads]
    both = [one | {head} for one, head in zip(others, heads, strict=True)]
    scores = runs.circuit_without([*others, *both])
    without_k, without_both = scores[: len(heads)], scores[len(heads) :]
    whole = runs.whole.values
    change = without_k - without_both
    share = mean(change) / mean(whole[None])
    low, high = ratio_interval(runs.tested, change, whole)
    change_low, change_high = interval(runs.tested, change)
    coords = {
        "group": [runs.circuit.group_of(head).name for head in heads],
        "share": share,
        "share_low": low,
        "share_high": high,
        "size": np.abs(share),
        "difference": mean(change),
        "difference_low": change_low,
        "difference_high": change_high,
    }
    columns = {
        "change": change / whole.mean(),
        "without_k": without_k,
        "without_both": without_both,
    }
    attrs = {
        "method": MINIMALITY.name,
        "convention": "share = (F(C \\ K) - F(C \\ (K + v))) / F(M), of means over prompts; size is its absolute value",
        "members": {head_name(head): names(one) for head, one in zip(heads, others, strict=True)},
        "rule": "K is what the circuit names for the head, else the other heads of its group",
    }
    return table(runs.tested, ("address", [head_name(head) for head in heads]), columns, coords, attrs)


def without_for(circuit: Circuit, head: Head) -> Heads:
    """The set K with which a head is tried."""
    if head in circuit.minimality:
        return frozenset(circuit.minimality[head])
    return frozenset(circuit.group_of(head).heads) - {head}
