"""Faithfulness: does the circuit alone do what the model does?

Wang et al. 2022 (arXiv 2211.00593), section 4: F(M) - F(C) should be small, F being the metric's mean over prompts.
Also F(C) / F(M). Neither is clamped: a circuit may do more than the model. Two controls stand beside them: F with
every head ablated, and F of random circuits of the same groups and sizes.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from unweave.circuits.ablation import places_of
from unweave.circuits.circuit import Circuit
from unweave.circuits.runs import CircuitRuns
from unweave.circuits.tables import interval, mean, names, ratio_interval, table
from unweave.models.config import Config

if TYPE_CHECKING:
    import xarray as xr


def faithfulness(runs: CircuitRuns, controls: int = 3, seed: int = 0) -> xr.Dataset:
    """Scores of the model, the circuit and the controls.

    Args:
        runs: the circuit's runs.
        controls: random circuits.
        seed: of their draws.

    Returns:
        `score` (prompt, kept), where `kept` is "model", "circuit", "nothing", "random 1", …; coordinates along `kept`:
        `members`, `heads` (their number), `difference` = F(M) - F and `ratio` = F / F(M), of means over prompts, each
        with `_low` and `_high`.
    """
    union = runs.ablation.about["positions"] != "each prompt's own"
    others = random_circuits(runs.circuit, runs.pair.model.config, controls, seed)
    masks = [runs.ablation.nothing]
    masks += [runs.ablation.keeping(places_of(other, runs.pair.prompts, union)) for other in others]
    score = torch.cat([runs.whole.values[None], runs.own.values[None], runs.own.scores(masks)])
    whole = runs.whole.values
    difference, ratio = interval(runs, whole - score), ratio_interval(runs, score, whole)
    n_all = runs.pair.model.config.n_layers * runs.pair.model.config.n_heads
    coords = {
        "heads": [n_all, len(runs.circuit.heads), 0, *(len(other.heads) for other in others)],
        "members": ["all", names(runs.circuit.heads), "", *(names(other.heads) for other in others)],
        "difference": mean(whole - score),
        "difference_low": difference[0],
        "difference_high": difference[1],
        "ratio": mean(score) / mean(whole[None]),
        "ratio_low": ratio[0],
        "ratio_high": ratio[1],
    }
    labels = ["model", "circuit", "nothing", *(f"random {number}" for number in range(1, controls + 1))]
    attrs = {
        "method": "faithfulness",
        "convention": "difference = F(M) - F, ratio = F / F(M), of means over prompts; neither is clamped",
        "controls_seed": seed,
    }
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
