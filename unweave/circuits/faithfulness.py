"""Faithfulness: does the circuit by itself do what the model does?

Wang et al. 2022 (arXiv 2211.00593), section 4: F(M) - F(C) should be small, F being the metric's mean over prompts.
Also F(C) / F(M), and the share above the floor, (F(C) - F(no head)) / (F(M) - F(no head)), since a metric may be far
from 0 with every head ablated: prompts have a prior. Nothing is clamped: a circuit may do more than the model. The
control is F of random circuits of the same groups and sizes.

The curve says how much of the circuit's score its best few heads give:

1. the prompts are halved (`unweave.circuits.halves`);
2. on the one half the heads are put in order. From no head on, the head joins that takes F furthest in the good
   direction of the metric, for the first few; the rest follow in the order of what each would have added last;
3. on the other half F is measured with only the first k heads, and with the circuit without them. On the prompts
   that chose them, the first heads would look better than they are.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import torch
import xarray as xr

from unweave.circuits.ablation import Kept, places_of
from unweave.circuits.circuit import Circuit
from unweave.circuits.halves import halves_attrs
from unweave.circuits.runs import CircuitRuns
from unweave.circuits.tables import SCALES, compared, mean, names, scales, table
from unweave.models.config import Config
from unweave.nodes import Head, head_name
from unweave.registry import ENOUGH, Method, register

FAITHFULNESS = register(
    Method(
        "faithfulness",
        ENOUGH,
        picture="unweave.views.evaluation_pictures:evaluation_blocks",
        dims=("prompt", "kept"),
    )
)
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


def faithfulness(runs: CircuitRuns, controls: int = 20, seed: int = 0) -> xr.Dataset:
    """Scores of the model, the circuit and the controls.

    Args:
        runs: the circuit's runs.
        controls: random circuits.
        seed: of their draws.

    Returns:
        `score` (prompt, kept), where `kept` is "model", "circuit", "nothing", "random 1", …; coordinates along `kept`:
        `heads` (their number), and `scales` of the scores. The attribute `members` names the heads of each.
    """
    config = runs.pair.model.config
    union = runs.ablation.about["positions"] != "each prompt's own"
    others = random_circuits(runs.circuit, config, controls, seed)
    kept = [Kept(places_of(other, runs.pair.prompts, union)) for other in others]
    bases = torch.stack([runs.whole.values, runs.own.values, runs.none.values])
    score = torch.cat([bases, runs.scored(runs.none, kept)])
    labels = ["model", "circuit", "nothing", *(f"random {number}" for number in range(1, controls + 1))]
    members = [every_head(config), runs.circuit.heads, (), *(other.heads for other in others)]
    coords = {"heads": [*map(len, members)], **scales(runs.tested, score)}
    attrs = {
        "method": FAITHFULNESS.name,
        "convention": SCALES,
        "controls_seed": seed,
        "members": {label: names(heads) for label, heads in zip(labels, members, strict=True)},
    }
    return table(runs.tested, ("kept", labels), {"score": score}, coords, attrs)


def random_circuits(circuit: Circuit, config: Config, count: int, seed: int) -> list[Circuit]:
    """Circuits of the same groups, sizes and roles, whose heads are drawn from all of the model's."""
    rng, drawn = random.Random(f"{seed} controls"), []
    for _ in range(count):
        rest = iter(rng.sample(every_head(config), len(circuit.heads)))
        groups = tuple(replace(group, heads=tuple(next(rest) for _ in group.heads)) for group in circuit.groups)
        drawn.append(replace(circuit, groups=groups, edges=(), minimality={}))
    return drawn


def every_head(config: Config) -> list[Head]:
    """All heads of a model, layer by layer."""
    return [(layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]


def curve(runs: CircuitRuns, best: int = 6) -> xr.Dataset:
    """Scores of the circuit's first k heads, and of the circuit without them.

    Args:
        runs: the circuit's runs.
        best: how many heads are searched for one by one.

    Returns:
        `score` = F(the first k heads) and `rest` = F(C without them), (prompt, size), on the prompts that did not
        choose the order; coordinates along `size` (k): `address`, the head that joined last ("" for none), and `scales`
        of both, those of `rest` with `rest_` before their names. The attribute `members` names the heads of each size.
    """
    order = ordered(runs, best)
    sizes = sizes_of(len(order))
    first = [frozenset(order[:size]) for size in sizes]
    score, rest = runs.only(first, runs.measured), runs.circuit_without(first, runs.measured)
    coords = {
        "address": ["", *map(head_name, (order[size - 1] for size in sizes[1:]))],
        **scales(runs.tested, score),
        **{f"rest_{name}": values for name, values in scales(runs.tested, rest).items()},
    }
    attrs = {
        "members": {str(size): [*map(head_name, order[:size])] for size in sizes},
        "method": CURVE.name,
        "convention": SCALES,
        "order": f"the first {min(best, len(order))} by what each adds to those before it, the rest by what they would",
        **halves_attrs(len(runs.chosen), len(runs.measured), runs.chosen == runs.measured),
    }
    return table(runs.tested, ("size", sizes), {"score": score, "rest": rest}, coords, attrs)


def ordered(runs: CircuitRuns, best: int) -> list[Head]:
    """The circuit's heads, the best first."""
    good = 1 if runs.pair.metric.higher_is_better else -1
    found: list[Head] = []
    rest = sorted(runs.circuit.heads)
    for step in range(min(best, len(rest))):
        tried = rest[:TRIED] if step else rest
        score = compared(good * mean(runs.only([frozenset([*found, head]) for head in tried], runs.chosen)))
        rest = [*(tried[place] for place in np.argsort(-score, kind="stable")), *rest[len(tried) :]]
        found.append(rest.pop(0))
    return [*found, *rest]


def sizes_of(n_heads: int) -> list[int]:
    """The numbers of heads that are measured, from 0 to all."""
    larger = np.geomspace(EVERY_SIZE, n_heads, EVERY_SIZE).round().astype(int) if n_heads > EVERY_SIZE else []
    return sorted({*range(min(n_heads, EVERY_SIZE) + 1), *map(int, larger)})
