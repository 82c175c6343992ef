"""Completeness: does the circuit hold all that the model uses?

Wang et al. 2022 (arXiv 2211.00593), section 4. A circuit that is complete behaves as the model does whatever is taken
out of both: |F(C \\ K) - F(M \\ K)| is small for every K of its heads. K is

1. nothing, and each group;
2. random subsets: each head with probability 1/2;
3. what a greedy search finds: from the empty set, in each step some heads are drawn that are not in K yet, and the one
   that widens the gap most joins it, if any does. These sets are the worst that were found, so their gap says how bad
   it can be, not how bad it is on average.

The search is on one half of the prompts, and all gaps are reported on the other (`unweave.circuits.halves`): on the
prompts that it searched, its gaps would be too wide.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from unweave.circuits.halves import halves_attrs
from unweave.circuits.runs import CircuitRuns, Heads
from unweave.circuits.tables import compared, gaps_of, mean, names, table
from unweave.registry import ENOUGH, Method, register

COMPLETENESS = register(
    Method(
        "completeness",
        ENOUGH,
        picture="unweave.views.evaluation_pictures:evaluation_blocks",
        dims=("prompt", "removed"),
    )
)


@dataclass(frozen=True)
class Removed:
    """A set K: its label, and "none", "group", "random" or "greedy"."""

    label: str
    kind: str
    heads: Heads


def completeness(
    runs: CircuitRuns,
    subsets: int = 10,
    greedy: tuple[int, int, int] = (2, 10, 5),
    seed: int = 0,
) -> xr.Dataset:
    """The gap between circuit and model without K, for many K.

    Args:
        runs: the circuit's runs.
        subsets: random subsets.
        greedy: searches, steps of each, and heads drawn in each step.
        seed: of the draws.

    Returns:
        `circuit` = F(C \\ K) and `model` = F(M \\ K), (prompt, removed), where `removed` is "none", a group's name,
        "random 1", "greedy 1", …; coordinates along `removed`: `kind`, `size`, `difference` = F(C \\ K) -
        F(M \\ K) of means over prompts with `_low` and `_high`, and `gap`, its size. The attribute `members` names the
        heads of each K.
    """
    sets = [Removed("none", "none", frozenset())]
    sets += [Removed(group.name, "group", frozenset(group.heads)) for group in runs.circuit.groups if group.heads]
    sets += _numbered("random", random_subsets(runs.circuit.heads, subsets, seed))
    sets += _numbered("greedy", greedy_search(runs, *greedy, seed=seed))
    removed = [one.heads for one in sets]
    circuit, model = (ask(removed, runs.measured) for ask in (runs.circuit_without, runs.model_without))
    coords = {
        "kind": [one.kind for one in sets],
        "size": [len(one.heads) for one in sets],
        **gaps_of(runs.tested, circuit, model),
    }
    attrs = {
        "method": COMPLETENESS.name,
        "convention": "difference = F(C \\ K) - F(M \\ K), of means over prompts; "
        "in M, heads of K are ablated only where they count in the circuit",
        "subsets": subsets,
        "greedy": "{} searches of {} steps, {} heads drawn in each".format(*greedy),
        "subsets_seed": seed,
        "members": {one.label: names(one.heads) for one in sets},
        **halves_attrs(len(runs.chosen), len(runs.measured), runs.chosen == runs.measured),
    }
    columns = {"circuit": circuit, "model": model}
    return table(runs.tested, ("removed", [one.label for one in sets]), columns, coords, attrs)


def _numbered(kind: str, sets: Sequence[Heads]) -> list[Removed]:
    return [Removed(f"{kind} {number}", kind, one) for number, one in enumerate(sets, start=1)]


def random_subsets(heads: Sequence[tuple[int, int]], count: int, seed: int) -> list[Heads]:
    """Each head with probability 1/2, in each subset."""
    rng = random.Random(f"{seed} subsets")
    return [frozenset(head for head in heads if rng.random() < 0.5) for _ in range(count)]


def greedy_search(runs: CircuitRuns, searches: int, steps: int, candidates: int, seed: int) -> list[Heads]:
    """Sets K with a wide gap between circuit and model; the searches go on side by side, so that runs are shared."""
    draws = [random.Random(f"{seed} greedy {number}") for number in range(searches)]
    found: list[Heads] = [frozenset()] * searches
    widest = [float(gaps(runs, [frozenset()])[0])] * searches
    for _ in range(steps):
        tried = [_tried(runs, found[number], candidates, draws[number]) for number in range(searches)]
        gap = iter(gaps(runs, [one for some in tried for one in some]))
        for number, some in enumerate(tried):
            best, chosen = max(((float(next(gap)), one) for one in some), key=lambda pair: pair[0], default=(0.0, None))
            if chosen is not None and best > widest[number]:
                found[number], widest[number] = chosen, best
    return found


def gaps(runs: CircuitRuns, sets: Sequence[Heads]) -> np.ndarray:
    """|F(C \\ K) - F(M \\ K)| of means over the prompts that are searched on, for each K."""
    if not sets:
        return np.zeros(0)
    return compared(np.abs(mean(runs.circuit_without(sets, runs.chosen) - runs.model_without(sets, runs.chosen))))


def _tried(runs: CircuitRuns, found: Heads, candidates: int, rng: random.Random) -> list[Heads]:
    rest = sorted(set(runs.circuit.heads) - found)
    return [found | {head} for head in rng.sample(rest, min(candidates, len(rest)))]
