"""Faithfulness: does the circuit alone do what the model does?

Wang et al. 2022 (arXiv 2211.00593), section 4: F(M) - F(C) should be small, F being the metric's mean over prompts.
Also F(C) / F(M), and the share above the floor, (F(C) - F(no head)) / (F(M) - F(no head)), since a metric may be far
from 0 with every head ablated: prompts have a prior. Nothing is clamped: a circuit may do more than the model. The
control is F of random circuits of the same groups and sizes.
"""

from __future__ import annotations

import random
from dataclasses import replace

import torch
import xarray as xr

from unweave.circuits.ablation import Kept, places_of
from unweave.circuits.circuit import Circuit
from unweave.circuits.runs import CircuitRuns
from unweave.circuits.tables import SCALES, names, scales, table
from unweave.models.config import Config
from unweave.registry import ENOUGH, Method, register

FAITHFULNESS = register(
    Method(
        "faithfulness",
        ENOUGH,
        picture="unweave.views.evaluation_pictures:evaluation_blocks",
        dims=("prompt", "kept"),
    )
)


def faithfulness(runs: CircuitRuns, controls: int = 20, seed: int = 0) -> xr.Dataset:
    """Scores of the model, the circuit and the controls.

    Args:
        runs: the circuit's runs.
        controls: random circuits.
        seed: of their draws.

    Returns:
        `score` (prompt, kept), where `kept` is "model", "circuit", "nothing", "random 1", …; coordinates along `kept`:
        `members`, `heads` (their number), and `scales` of the scores.
    """
    union = runs.ablation.about["positions"] != "each prompt's own"
    others = random_circuits(runs.circuit, runs.pair.model.config, controls, seed)
    kept = [Kept(places_of(other, runs.pair.prompts, union)) for other in others]
    bases = torch.stack([runs.whole.values, runs.own.values, runs.none.values])
    score = torch.cat([bases, runs.none.scores(kept)])
    n_all = runs.pair.model.config.n_layers * runs.pair.model.config.n_heads
    coords = {
        "heads": [n_all, len(runs.circuit.heads), 0, *(len(other.heads) for other in others)],
        "members": ["all", names(runs.circuit.heads), "", *(names(other.heads) for other in others)],
        **scales(runs, score),
    }
    labels = ["model", "circuit", "nothing", *(f"random {number}" for number in range(1, controls + 1))]
    attrs = {"method": FAITHFULNESS.name, "convention": SCALES, "controls_seed": seed}
    return table(runs, ("kept", labels), {"score": score}, coords, attrs)


def random_circuits(circuit: Circuit, config: Config, count: int, seed: int) -> list[Circuit]:
    """Circuits of the same groups, sizes and roles, whose heads are drawn from all of the model's."""
    rng = random.Random(f"{seed} controls")
    every = [(layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]
    return [_redrawn(circuit, rng.sample(every, len(circuit.heads))) for _ in range(count)]


def _redrawn(circuit: Circuit, heads: list[tuple[int, int]]) -> Circuit:
    rest = iter(heads)
    groups = tuple(replace(group, heads=tuple(next(rest) for _ in group.heads)) for group in circuit.groups)
    return replace(circuit, groups=groups, edges=(), minimality={})
