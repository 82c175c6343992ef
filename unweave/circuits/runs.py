"""The runs that the tests of a circuit compare: the circuit without K, and the whole model without K."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.circuits.ablation import NOTHING, Ablation, Kept
from unweave.circuits.circuit import Circuit
from unweave.circuits.halves import halves
from unweave.circuits.masked_runs import MaskedRuns
from unweave.metrics.contrast import Contrast
from unweave.nodes import Head

Heads = frozenset[Head]
Rows = tuple[int, ...] | None


@dataclass
class CircuitRuns:
    """Scores of a circuit's subsets; each is computed once.

    `whole` are the runs around the model, F(M); `own` those around the circuit, F(C); `none` those around no head.
    What is searched for, is searched for on the prompts `chosen`, and reported on those `measured`.
    """

    circuit: Circuit
    ablation: Ablation
    memory: int | float | None = None
    whole: MaskedRuns = field(init=False)
    own: MaskedRuns = field(init=False)
    none: MaskedRuns = field(init=False)
    chosen: tuple[int, ...] = field(init=False)
    measured: tuple[int, ...] = field(init=False)
    _known: dict[tuple, Float[Tensor, " prompt"]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.whole = MaskedRuns(self.ablation, self.ablation.all_but(()), self.memory)
        self.own = MaskedRuns(self.ablation, self.ablation.only(self.circuit.heads), self.memory)
        self.none = MaskedRuns(self.ablation, NOTHING, self.memory)
        self.chosen, self.measured = map(tuple, halves(self.pair.prompts))

    @property
    def pair(self) -> Contrast:
        return self.ablation.pair

    @property
    def halved(self) -> dict[str, str | int]:
        """Which prompts were searched on and which measured on, as attributes of a result."""
        same = self.chosen == self.measured
        return {
            "chosen_on": len(self.chosen),
            "measured_on": len(self.measured),
            "halves": "the same prompts" if same else "chosen on one half of the prompts, measured on the other",
        }

    def circuit_without(self, sets: Sequence[Iterable[Head]], of: Rows = None) -> Float[Tensor, "set prompt"]:
        """F(C \\ K) for each K. Prompts that are not among `of` are NaN, here and below."""
        heads = self.circuit.heads
        return self._scores(self.own, sets, of, lambda one: self.ablation.only(set(heads) - one))

    def model_without(self, sets: Sequence[Iterable[Head]], of: Rows = None) -> Float[Tensor, "set prompt"]:
        """F(M \\ K) for each K."""
        return self._scores(self.whole, sets, of, self.ablation.all_but)

    def only(self, sets: Sequence[Iterable[Head]], of: Rows = None) -> Float[Tensor, "set prompt"]:
        """F(K) for each K: only these heads of the circuit are kept."""
        return self._scores(self.none, sets, of, self.ablation.only)

    def _scores(
        self, runs: MaskedRuns, sets: Sequence[Iterable[Head]], of: Rows, kept: Callable[[Heads], Kept]
    ) -> Float[Tensor, "set prompt"]:
        keys = {one: (id(runs), one, of) for one in map(frozenset, sets)}
        new = [one for one, key in keys.items() if key not in self._known]
        scores = runs.scores([kept(one) for one in new], of)
        self._known |= {keys[one]: row for one, row in zip(new, scores, strict=True)}
        return torch.stack([self._known[keys[frozenset(one)]] for one in sets])
