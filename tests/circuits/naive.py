"""Circuit evaluation prompt by prompt, with one edit for each head and position: slow, and plain to read."""

from collections.abc import Iterable

import torch
from torch import Tensor

from unweave.circuits.circuit import Circuit
from unweave.metrics.contrast import Contrast
from unweave.metrics.metric import read_logits
from unweave.models.prompts import Prompts
from unweave.models.run import Edit
from unweave.nodes import Head


def alone(prompts: Prompts, row: int) -> Prompts:
    """One prompt without padding."""
    one = prompts.take([row])
    return Prompts.from_tokens(
        one.tokens[:, : int(one.lengths[0])],
        answers=one.answers,
        wrong=one.wrong,
        roles=dict(one.roles),
    )


class Naive:
    """Scores of `pair` with parts ablated. `of_template[row]` are the reference rows whose mean replaces them."""

    def __init__(self, pair: Contrast, reference: Prompts, of_template: dict[int, list[int]]) -> None:
        self.pair, self.model = pair, pair.model
        runs = [self.model.run(alone(reference, row), keep="z") for row in range(len(reference))]
        self.z = [[run["z", layer][0] for layer in range(self.model.config.n_layers)] for run in runs]
        self.of_template = of_template

    def mean(self, row: int, layer: int, head: int, pos: int) -> Tensor:
        long = [z[layer][pos, head] for z in map(self.z.__getitem__, self.of_template[row]) if len(z[layer]) > pos]
        return torch.stack(long).mean(0)

    def score(self, row: int, ablated: Iterable[tuple[int, int, int]]) -> float:
        """The metric of one prompt, with `z` of each (layer, head, position) replaced."""
        edits = [Edit("z", layer, self.mean(row, layer, head, pos), head=head, pos=pos) for layer, head, pos in ablated]
        prompt = alone(self.pair.prompts, row)
        logits = read_logits(self.model.run(prompt, edits=edits), self.pair.metric, prompt)
        return float(self.pair.metric.score(logits, prompt))

    def places(self, circuit: Circuit, row: int, head: Head) -> set[int]:
        group = next(group for group in circuit.groups if head in group.heads)
        if group.roles == "all":
            return set(range(int(self.pair.prompts.lengths[row])))
        return {int(self.pair.prompts.roles[role][row]) for role in group.roles}

    def circuit(self, circuit: Circuit, without: Iterable[Head] = ()) -> Tensor:
        """F(C \\ K) of every prompt."""
        gone, config, scores = set(without), self.model.config, []
        for row, length in enumerate(self.pair.prompts.lengths.tolist()):
            kept = {
                (*head, pos) for head in circuit.heads if head not in gone for pos in self.places(circuit, row, head)
            }
            every = [
                (layer, head, pos)
                for layer in range(config.n_layers)
                for head in range(config.n_heads)
                for pos in range(length)
            ]
            scores.append(self.score(row, [one for one in every if one not in kept]))
        return torch.tensor(scores, dtype=torch.float64)

    def model_without(self, circuit: Circuit, heads: Iterable[Head]) -> Tensor:
        """F(M \\ K) of every prompt."""
        heads = list(heads)
        return torch.tensor(
            [
                self.score(row, [(*head, pos) for head in heads for pos in self.places(circuit, row, head)])
                for row in range(len(self.pair.prompts))
            ],
            dtype=torch.float64,
        )
