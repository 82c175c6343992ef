"""The context of patched runs: which run is patched with which, what a patch can affect, and how runs are scored.

A patch affects layers from its entry on, and positions from the first difference to the one that is read: that holds of
a causal model. If attention sees both ways, a change anywhere may affect every position of its prompt.

Changes enter the residual stream before a *stage* (see `unweave.models.forward.halves`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.donors import Donor, RunDonor
from unweave.engine.memory import PORTION
from unweave.metrics.contrast import Contrast, logits_of
from unweave.metrics.protocol import Metric
from unweave.models.config import Config
from unweave.models.forward import norm, read_by, reads, stage_written
from unweave.models.prompts import Prompts
from unweave.models.weights import Weights


@dataclass(frozen=True)
class AffectedSpan:
    """Of a prompt: the positions that a patch may change and that lead to the one that the metric `read`s.

    There are none if nothing that differs can matter.
    """

    positions: range
    read: int

    def computed(self, config: Config, first: int, stage: int) -> range:
        """The positions that a run is computed at, if it is changed from `first` on before a stage."""
        if stage > last_attention(config):
            return range(self.read, self.read + 1)
        return read_by(config, first, range(self.positions.stop))


def entry_stage(config: Config, site: str, layer: int) -> int:
    """The stage before which a change of this site enters the residual stream."""
    if site in ("resid_pre", "resid_post"):
        return 2 * layer + (2 if site == "resid_post" else 0)
    return stage_written(config, "mlp" if site in ("mlp_post", "mlp_out") else "attention", layer)


def last_attention(config: Config) -> int:
    """The stage of the last attention: what enters later matters only at the position that is read."""
    return 2 * config.n_layers - 2


@dataclass(frozen=True)
class PatchContext:
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

    def spans(self, prompts: Sequence[int]) -> list[AffectedSpan]:
        """What patches of these prompts can affect."""
        first, lengths = self.donor.first(self.recipient), self.recipient.lengths.tolist()
        read = self.prompts.role(self.metric.role).tolist()
        spans = []
        for n in prompts:
            affected = read_by(self.config, first[n], range(lengths[n]))
            spans.append(AffectedSpan(reads(self.config, read[n], affected) if affected else range(0), read[n]))
        return spans

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


def context_of(pair: Contrast, direction: str, donor: Donor | None = None) -> PatchContext:
    """The context of a contrast in one direction; `donor` replaces the other side's run."""
    recipient, other, baseline = pair.sides(direction)
    return PatchContext(
        config=pair.model.config,
        weights=pair.model.weights,
        own=RunDonor(recipient.prompts, recipient),
        donor=RunDonor(other.prompts, other) if donor is None else donor,
        prompts=pair.prompts,
        metric=pair.metric,
        baseline=baseline,
        reference=pair.reference,
    )
