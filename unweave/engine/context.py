"""The context of patched runs: which run is patched, where patched values come from, what a patch can affect, how runs
are scored.

A patch affects layers from its entry on, and positions from the first difference to the one that is read: that holds of
a causal model. If attention sees both ways, a change anywhere may affect every position of its prompt.

Patched values are those of a donor: a run of prompts, or tensors that were made beforehand (means, zeros). Changes
enter the residual stream before a *stage* (see `unweave.models.forward.halves`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.engine.memory import PORTION
from unweave.metrics.contrast import Contrast
from unweave.metrics.metric import Metric, logits_of
from unweave.models.config import Config
from unweave.models.forward import norm, read_by, reads, stage_written
from unweave.models.prompts import Prompts
from unweave.models.run import Key, Run, run_model
from unweave.models.sites import SITES
from unweave.models.weights import Weights


@dataclass(frozen=True)
class AffectedSpan:
    """Of a prompt: the positions that a patch may change and that lead to the one that the metric `read`s.

    There are none if nothing that differs can matter.
    """

    positions: range
    read: int


def entry_stage(config: Config, site: str, layer: int) -> int:
    """The stage before which a change of this site enters the residual stream."""
    if site in ("resid_pre", "resid_post"):
        return 2 * layer + (2 if site == "resid_post" else 0)
    return stage_written(config, "mlp" if site in ("mlp_post", "mlp_out") else "attention", layer)


def last_attention(config: Config) -> int:
    """The stage of the last attention: what enters later matters only at the position that is read."""
    return 2 * config.n_layers - 2


@runtime_checkable
class Donor(Protocol):
    """Gives values for some of the recipient's prompts, and says where they begin to differ."""

    def first(self, recipient: Prompts) -> tuple[int, ...]:
        """Of each of the recipient's prompts, the first position where a value may differ from its own."""
        ...

    def values(self, config: Config, weights: Weights, keys: Iterable[Key], batch: Sequence[int]) -> dict[Key, Tensor]:
        """The values at these sites and layers, of the prompts `batch`."""
        ...


@dataclass(frozen=True)
class RunDonor:
    """The run of some prompts. Before the first token that differs a causal model does the same with both.

    `PatchContext.spans` sees to models that are not causal. `run` was made of the same prompts before: what it
    kept is used, and the prompts are run again for the rest.
    """

    prompts: Prompts
    run: Run | None = None

    def first(self, recipient: Prompts) -> tuple[int, ...]:
        differ = recipient.tokens != self.prompts.tokens
        first = differ.int().argmax(1)
        first[~differ.any(1)] = differ.shape[1]
        return tuple(first.tolist())

    def values(self, config: Config, weights: Weights, keys: Iterable[Key], batch: Sequence[int]) -> dict[Key, Tensor]:
        wanted = list(keys)
        kept = {} if self.run is None else self.run.kept
        lacking = [key for key in wanted if key not in kept]
        made = run_model(config, weights, self.prompts.take(batch), lacking).kept if lacking else {}
        together = list(batch) == list(range(batch[0], batch[-1] + 1))
        rows = slice(batch[0], batch[-1] + 1) if together else list(batch)  # a slice is no copy
        return {key: kept[key][rows] if key in kept else made[key] for key in wanted}


@dataclass(frozen=True)
class GivenDonor:
    """Values that `make` gives for some prompts, and that may differ from the recipient's everywhere."""

    make: Callable[[Sequence[int]], Mapping[Key, Tensor]]

    def first(self, recipient: Prompts) -> tuple[int, ...]:
        return (0,) * len(recipient)

    def values(self, config: Config, weights: Weights, keys: Iterable[Key], batch: Sequence[int]) -> dict[Key, Tensor]:
        made = self.make(batch)
        return {key: made[key] for key in keys}


_AXES = {"attention": "n p -> n 1 p 1", "resid": "n p -> n p 1", "neuron": "n p -> n p 1"}


@dataclass(frozen=True)
class MaskedDonor:
    """A donor that gives what `given` gives where `mask` is true; of a pattern, at these destinations.

    The recipient's values come from where the runs have them, so that a change outside the mask is exactly 0.
    """

    given: Donor
    recipient: RunDonor
    mask: Bool[Tensor, "prompt pos"]

    def first(self, recipient: Prompts) -> tuple[int, ...]:
        first = self.mask.int().argmax(1)
        first[~self.mask.any(1)] = self.mask.shape[1]
        return tuple(first.tolist())

    def values(self, config: Config, weights: Weights, keys: Iterable[Key], batch: Sequence[int]) -> dict[Key, Tensor]:
        wanted, rows = list(keys), list(batch)
        own, given = (donor.values(config, weights, wanted, rows) for donor in (self.recipient, self.given))
        return {key: torch.where(self._over(key[0], rows), given[key], own[key]) for key in wanted}

    def _over(self, site: str, rows: list[int]) -> Tensor:
        """The mask, laid out for a site's tensor."""
        return rearrange(self.mask[rows], _AXES.get(SITES[site].rows, "n p -> n p 1 1"))


@dataclass(frozen=True)
class PatchContext:
    """Prompts, and with what their runs are patched.

    Args:
        recipient: the prompts whose runs are patched.
        own, donor: give the recipient's values, and those that are patched in.
        prompts: the clean ones, whose roles and answers count.
        baseline: the recipient's own scores.
        reference: the clean run's logits, if the metric compares with them.
        itemsize: bytes of one number of an activation.
    """

    config: Config
    weights: Weights
    recipient: Prompts
    own: RunDonor
    donor: Donor
    prompts: Prompts
    metric: Metric
    baseline: Float[Tensor, " prompt"]
    reference: Float[Tensor, "prompt column"] | None
    itemsize: int

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
        recipient=recipient.prompts,
        own=RunDonor(recipient.prompts, recipient),
        donor=RunDonor(other.prompts, other) if donor is None else donor,
        prompts=pair.prompts,
        metric=pair.metric,
        baseline=baseline,
        reference=pair.reference,
        itemsize=pair.model.weights.w_e.element_size(),
    )
