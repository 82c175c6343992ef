"""What a sweep asks: which run is patched with which, and how the patched runs are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.donor import Donor, RunDonor
from unweave.engine.memory import PORTION
from unweave.engine.reach import Reach
from unweave.metrics.contrast import Contrast, logits_of
from unweave.metrics.protocol import Metric
from unweave.models.config import Config
from unweave.models.forward import norm, read_by, reads
from unweave.models.prompts import Prompts
from unweave.models.weights import Weights


@dataclass(frozen=True)
class Question:
    """`own` gives the recipient's values, `donor` those that are patched in.

    `baseline[prompt]` is the recipient's own score; `prompts` are the clean ones, whose roles and answers count.
    """

    config: Config
    weights: Weights
    own: RunDonor
    donor: Donor
    prompts: Prompts
    metric: Metric
    baseline: Float[Tensor, " prompt"]
    reference: Float[Tensor, "prompt column"] | None

    @property
    def recipient(self) -> Prompts:
        """The prompts whose run is patched."""
        return self.own.prompts

    @property
    def itemsize(self) -> int:
        """Bytes of one number of an activation."""
        return self.weights.w_e.element_size()

    @property
    def read_at(self) -> Int[Tensor, " prompt"]:
        """The position that the metric reads."""
        return self.prompts.role(self.metric.role)

    def reach(self, batch: Sequence[int]) -> Reach:
        """What patches of the prompts `batch` can change."""
        first, read = self.donor.first(self.recipient), self.read_at.tolist()
        at = tuple(read[n] for n in batch)
        spans = []
        for n, length in zip(batch, self.recipient.lengths[list(batch)].tolist(), strict=True):
            reached = read_by(self.config, first[n], range(length))
            spans.append(range(reached.start, reads(self.config, read[n], reached).stop) if reached else range(1, 1))
        return Reach(tuple(span.start for span in spans), tuple(span.stop - 1 for span in spans), at)

    def score(
        self, stream: Float[Tensor, "run d_model"], prompt: Int[Tensor, " run"], portion: int = PORTION
    ) -> Float[Tensor, " run"]:
        """Scores of runs of the prompts `prompt`, from their residual stream after the last block where it is read.

        They are scored in portions of so many logits or unembedding entries, one run at least.
        """
        columns = self.metric.columns(self.prompts)
        each = self.config.d_vocab_out if columns is None else columns.shape[1] * self.config.d_model
        size, scores = max(1, portion // each), []
        for start in range(0, len(prompt), size):
            rows = slice(start, start + size)
            final, at = norm(self.config, self.weights.norm_final, stream[rows]), prompt[rows]
            logits = logits_of(self.weights, final, None if columns is None else columns[at])
            reference = None if self.reference is None else self.reference[at]
            scores.append(self.metric.score(logits, self.prompts.take(at), reference))
        return torch.cat(scores)


def question_of(pair: Contrast, direction: str, donor: Donor | None = None) -> Question:
    """A contrast, asked in one direction; `donor` stands in for the other side's run."""
    recipient, other, baseline = pair.sides(direction)
    return Question(
        config=pair.model.config,
        weights=pair.model.weights,
        own=RunDonor(recipient.prompts, recipient),
        donor=RunDonor(other.prompts, other) if donor is None else donor,
        prompts=pair.prompts,
        metric=pair.metric,
        baseline=baseline,
        reference=pair.reference,
    )
