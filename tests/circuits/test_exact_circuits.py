"""Circuits on the reference library's own models: ablated runs equal one hooked forward pass each, in float64."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from jaxtyping import Bool
from torch import Tensor

import unweave as uw
from tests.oracle.both import Both, both
from tests.oracle.hooks import Edit, run
from tests.oracle.models import FAMILIES
from tests.oracle.sweeps import logit_difference
from unweave.circuits.ablation import ablation_of
from unweave.circuits.circuit import Circuit, Group
from unweave.circuits.runs import CircuitRuns
from unweave.nodes import Head

CIRCUIT = Circuit(
    (
        Group("late", ((1, 0), (1, 2)), ("end",)),
        Group("early", ((0, 1), (0, 2)), ("S2",)),
        Group("wide", ((1, 1),), ("S1", "end")),
    )
)
SETS: list[tuple[Head, ...]] = [(), ((0, 1),), ((1, 0), (1, 1)), ((0, 2), (1, 2)), CIRCUIT.heads]
PROMPTS = ((None, "unequal"), ((0, 1, 0), "equal"))
CASES = [(name, PROMPTS[number % 2]) for number, name in enumerate(FAMILIES)]


def asked(case: tuple[str, tuple[tuple[int, ...] | None, str]]) -> tuple[Both, uw.Contrast]:
    """Both sides; the prompts of equal length have templates."""
    name, (groups, lengths) = case
    side = both(name, lengths, "ABC")
    pair = side.contrast
    if groups is None:
        return side, pair
    sides = [replace(prompts, groups=torch.tensor(groups)) for prompts in (pair.prompts, pair.corrupted)]
    return side, uw.Contrast(pair.model, sides[0], sides[1], uw.LogitDiff())


def means(side: Both, pair: uw.Contrast) -> list[Tensor]:
    """What replaces `z` of every layer: the mean of the corrupted prompts by template and position."""
    kept = run(side.hf, side.pair.corrupted, keep=["z"]).sites
    groups = torch.zeros(len(pair.prompts)) if pair.prompts.groups is None else pair.prompts.groups
    out = []
    for layer in range(side.hf.config.num_hidden_layers):
        z, laid = kept["z", layer], torch.zeros_like(kept["z", layer])
        for row, pos in product(range(z.shape[0]), range(z.shape[1])):
            alike = (groups == groups[row]) & (side.pair.lengths > pos)
            laid[row, pos] = z[alike, pos].mean(0) if alike.any() else 0
        out.append(laid)
    return out


def hooked(side: Both, instead: list[Tensor], ablated: Bool[Tensor, "layer prompt pos head"]) -> Tensor:
    """The scores of one forward pass with `z` replaced where `ablated`."""
    edits = [Edit("z", layer, mask.nonzero(as_tuple=True), instead[layer]) for layer, mask in enumerate(ablated)]
    return logit_difference(side.pair)(run(side.hf, side.pair.clean, edits).logits)


def counts(side: Both, heads: set[Head], n_heads: int) -> Bool[Tensor, "layer prompt pos head"]:
    """Where these heads of the circuit count, prompt by prompt."""
    mask = torch.zeros(side.hf.config.num_hidden_layers, *side.pair.clean.shape, n_heads, dtype=torch.bool)
    for group in CIRCUIT.groups:
        for (layer, head), role, row in product(group.heads, group.roles, range(len(side.pair.lengths))):
            if (layer, head) in heads:
                mask[layer, row, int(side.pair.roles[role][row]), head] = True
    return mask


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1][1]}")
def test_circuit_and_model_without_every_set(case: tuple[str, tuple[tuple[int, ...] | None, str]]) -> None:
    side, pair = asked(case)
    how = uw.Replacement("template", lone="keep") if pair.prompts.groups is not None else None
    runs = CircuitRuns(CIRCUIT, ablation_of(CIRCUIT, pair, how))
    instead, n_heads = means(side, pair), side.hf.config.num_attention_heads
    got = zip(SETS, runs.circuit_without(SETS), runs.model_without(SETS), strict=True)
    for removed, circuit, model in got:
        kept = counts(side, set(CIRCUIT.heads) - set(removed), n_heads)
        torch.testing.assert_close(circuit, hooked(side, instead, ~kept), rtol=0, atol=1e-9)
        torch.testing.assert_close(model, hooked(side, instead, counts(side, set(removed), n_heads)), rtol=0, atol=1e-9)
    assert float((runs.own.values - runs.whole.values).abs().max()) > 1e-3
