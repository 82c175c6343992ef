"""The runs that the tests of a circuit compare: the circuit without K, and the whole model without K."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.circuits.ablation import Ablation
from unweave.circuits.circuit import Circuit
from unweave.circuits.masked_runs import MaskedRuns
from unweave.methods.heads import Head
from unweave.metrics.contrast import Contrast

Heads = frozenset[Head]


@dataclass
class CircuitRuns:
    """Scores of a circuit's subsets; each is computed once.

    `whole` are the runs around the model, F(M); `own` those around the circuit, F(C).
    """

    circuit: Circuit
    ablation: Ablation
    whole: MaskedRuns = field(init=False)
    own: MaskedRuns = field(init=False)
    _known: dict[tuple[str, Heads], Float[Tensor, " prompt"]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.whole = MaskedRuns(self.ablation, self.ablation.all_but(()))
        self.own = MaskedRuns(self.ablation, self.ablation.only(self.circuit.heads))

    @property
    def pair(self) -> Contrast:
        return self.ablation.pair

    def circuit_without(self, sets: Sequence[Iterable[Head]]) -> Float[Tensor, "set prompt"]:
        """F(C \\ K) for each K."""
        new = self._new("circuit", sets)
        masks = [self.ablation.only(head for head in self.circuit.heads if head not in one) for one in new]
        return self._with("circuit", sets, new, self.own.scores(masks))

    def model_without(self, sets: Sequence[Iterable[Head]]) -> Float[Tensor, "set prompt"]:
        """F(M \\ K) for each K."""
        new = self._new("model", sets)
        return self._with("model", sets, new, self.whole.scores([self.ablation.all_but(one) for one in new]))

    def _new(self, kind: str, sets: Sequence[Iterable[Head]]) -> list[Heads]:
        return [one for one in dict.fromkeys(map(frozenset, sets)) if (kind, one) not in self._known]

    def _with(
        self, kind: str, sets: Sequence[Iterable[Head]], new: list[Heads], scores: Float[Tensor, "new prompt"]
    ) -> Float[Tensor, "set prompt"]:
        self._known |= {(kind, one): row for one, row in zip(new, scores, strict=True)}
        return torch.stack([self._known[kind, frozenset(one)] for one in sets])
