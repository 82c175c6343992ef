"""The curve of faithfulness: how much of the circuit's score its best few heads give.

F(C) says nothing of how few heads give it. So:

1. the prompts are halved (`unweave.circuits.halves`);
2. on the one half the heads are put in order. From no head on, the head joins that takes F furthest in the good
   direction of the metric, for the first few; the rest follow in the order of what each would have added last;
3. on the other half F is measured with only the first k heads, and with the circuit without them. On the prompts
   that chose them, the first heads would look better than they are.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from unweave.circuits.runs import CircuitRuns
from unweave.circuits.tables import SCALES, mean, scales, table
from unweave.nodes import Head, head_name
from unweave.registry import ENOUGH, Method, register

CURVE = register(
    Method(
        "faithfulness curve",
        ENOUGH,
        picture="unweave.views.evaluation_pictures:evaluation_blocks",
        dims=("prompt", "size"),
    )
)

# Heads that are tried in each step after the first: those that added most in the step before.
TRIED = 20
# All sizes are measured up to this one, and as many larger ones, evenly spaced on a logarithmic scale.
EVERY_SIZE = 12


def curve(runs: CircuitRuns, best: int = 6) -> xr.Dataset:
    """Scores of the circuit's first k heads, and of the circuit without them.

    Args:
        runs: the circuit's runs.
        best: how many heads are searched for one by one.

    Returns:
        `score` = F(the first k heads) and `rest` = F(C without them), (prompt, size), on the prompts that did not
        choose the order; coordinates along `size` (k): `address`, the head that joined last ("" for none), `members`,
        and `scales` of both, those of `rest` with `rest_` before their names.
    """
    order = ordered(runs, best)
    sizes = sizes_of(len(order))
    first = [frozenset(order[:size]) for size in sizes]
    score, rest = runs.only(first, runs.measured), runs.circuit_without(first, runs.measured)
    beside = {f"rest_{name}": values for name, values in scales(runs, rest).items()}
    coords = {
        "address": ["", *map(head_name, (order[size - 1] for size in sizes[1:]))],
        "members": [" ".join(map(head_name, order[:size])) for size in sizes],
        **scales(runs, score),
        **beside,
    }
    attrs = {
        "method": CURVE.name,
        "convention": SCALES,
        "order": f"the first {min(best, len(order))} by what each adds to those before it, the rest by what they would",
        **runs.halved,
    }
    return table(runs, ("size", sizes), {"score": score, "rest": rest}, coords, attrs)


def ordered(runs: CircuitRuns, best: int) -> list[Head]:
    """The circuit's heads, the best first."""
    good = 1 if runs.pair.metric.higher_is_better else -1
    found: list[Head] = []
    rest = sorted(runs.circuit.heads)
    for step in range(min(best, len(rest))):
        tried = rest[:TRIED] if step else rest
        score = good * mean(runs.only([frozenset([*found, head]) for head in tried], runs.chosen))
        rest = [*(tried[place] for place in np.argsort(-score, kind="stable")), *rest[len(tried) :]]
        found.append(rest.pop(0))
    return [*found, *rest]


def sizes_of(n_heads: int) -> list[int]:
    """The numbers of heads that are measured, from 0 to all."""
    larger = np.geomspace(EVERY_SIZE, n_heads, EVERY_SIZE).round().astype(int) if n_heads > EVERY_SIZE else []
    return sorted({*range(min(n_heads, EVERY_SIZE) + 1), *map(int, larger)})
