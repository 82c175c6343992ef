"""A circuit on SmolLM2 in float32: ablated runs equal plain runs with edits."""

import pytest
import torch

import unweave as uw
from unweave.circuits.ablation import ablation_of
from unweave.circuits.circuit import Circuit, Group
from unweave.circuits.runs import CircuitRuns
from unweave.metrics.metric import read_logits

CIRCUIT = Circuit(
    (
        Group("late", ((29, 2), (23, 3), (20, 1)), ("end",)),
        Group("middle", ((14, 4), (10, 0)), ("S2",)),
        Group("early", ((3, 5),), ("S1+1",)),
    ),
    model="smollm2-135m",
    shape=(30, 9),
    task="ioi",
)


@pytest.mark.real
def test_ablated_runs_equal_plain_runs_with_edits(smollm2: uw.Model) -> None:
    task = uw.tasks.ioi(smollm2, n_prompts=3, seed=1, bos=True)
    pair = uw.Contrast(smollm2, task.prompts, task.corrupt("ABC"), uw.LogitDiff())
    ablation = ablation_of(CIRCUIT, pair, "mean")
    instead = ablation.values(range(3))
    runs = CircuitRuns(CIRCUIT, ablation)
    removed = ((23, 3), (10, 0), (3, 5))
    edits = [
        uw.Edit("z", layer, instead["z", layer][torch.arange(3), place, head], head=head, pos=place)
        for (layer, head), role in zip(removed, ("end", "S2", "S1+1"), strict=True)
        for place in [pair.prompts.role(role)]
    ]
    logits = read_logits(smollm2.run(pair.prompts, edits=edits), pair.metric, pair.prompts)
    expected = pair.metric.score(logits, pair.prompts)
    torch.testing.assert_close(runs.model_without([removed])[0], expected, rtol=0, atol=2e-3)
    everything = [uw.Edit(site, layer, values) for (site, layer), values in instead.items()]
    logits = read_logits(smollm2.run(pair.prompts, edits=everything), pair.metric, pair.prompts)
    expected = pair.metric.score(logits, pair.prompts)
    torch.testing.assert_close(runs.circuit_without([CIRCUIT.heads])[0], expected, rtol=0, atol=2e-3)
    assert float((runs.own.values - pair.clean_scores).abs().max()) > 0.5
