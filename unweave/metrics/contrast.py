"""A contrast: clean and corrupted prompts, both scored, and the scale between them.

An effect is a change of the metric on the scale of the two baselines, taken over the mean of the prompts, so that the
mean effect is the ratio of mean differences that the field's notebooks print:

    denoise (recipient corrupted, donor clean):   (m - corrupted) / (mean clean - mean corrupted)    0 .. 1
    noise   (recipient clean, donor corrupted):   (m - clean)     / (mean clean - mean corrupted)    0 .. -1
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.errors import InputError
from unweave.metrics.metric import Metric, read_logits
from unweave.models.cache_policy import cached_sites
from unweave.models.inputs import shown
from unweave.models.model import Model
from unweave.models.precision import without_autocast
from unweave.models.prompts import Prompts, check_pairs, pair_clusters
from unweave.models.run import Run


@final
@dataclass(frozen=True, eq=False)
class Contrast:
    """`Contrast(model, prompts, corrupted, metric)` runs both once and scores them.

    Roles, answers and positions are those of the clean prompts. `clean_scores[prompt]` and `corrupted_scores[prompt]`
    are the baselines in the metric's unit; `gap` is mean clean minus mean corrupted; `reference` are the clean run's
    logits at the metric's role if the metric compares with them. `clean_run` and `corrupted_run` keep what sweeps read
    of them, if that takes a small part of the free memory; else a sweep runs its prompts again.

    Prompts that share tokens, or are each other's corruption, become clusters if the prompts name none.

    Raises:
        InputError: prompts of different number or lengths, a prompt that is its own corruption, answers that are
            missing or equal to the wrong ones, or baselines that coincide or are not finite.
    """

    model: Model
    prompts: Prompts
    corrupted: Prompts
    metric: Metric
    clean_scores: Float[Tensor, " prompt"] = field(init=False, repr=False)
    corrupted_scores: Float[Tensor, " prompt"] = field(init=False, repr=False)
    clean_run: Run = field(init=False, repr=False)
    corrupted_run: Run = field(init=False, repr=False)
    reference: Float[Tensor, "prompt column"] | None = field(init=False, repr=False)

    @without_autocast
    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        self._check_kinds()
        clean, corrupted = self.model.prompts(self.prompts), self._corrupted_prompts()
        check_pairs(clean, corrupted)
        found = pair_clusters(clean, corrupted) if clean.clusters is None else clean.clusters
        clusters = None if found is None else found.to(clean.tokens.device)
        n_pos = int(clean.lengths.max())  # either may be padded further, and each its own way
        put("prompts", replace(clean, tokens=clean.tokens[:, :n_pos], clusters=clusters))
        put("corrupted", replace(corrupted, tokens=corrupted.tokens[:, :n_pos], clusters=clusters))
        cached = cached_sites(self.model.config, self.prompts, self.model.dtype.itemsize)
        put("clean_run", self.model.run(self.prompts, cached))
        put("corrupted_run", self.model.run(self.corrupted, cached))
        clean_logits = read_logits(self.clean_run, self.metric, self.prompts)
        put("reference", clean_logits if self.metric.needs_reference else None)
        put("clean_scores", self.metric.score(clean_logits, self.prompts, self.reference))
        logits = read_logits(self.corrupted_run, self.metric, self.prompts)
        put("corrupted_scores", self.metric.score(logits, self.prompts, self.reference))
        _check_finite("clean", self.metric, clean_logits, self.clean_scores)
        _check_finite("corrupted", self.metric, logits, self.corrupted_scores)
        scale = float(torch.stack([self.clean_scores, self.corrupted_scores]).abs().max())
        if not abs(self.gap) > 1e-5 * max(scale, 1e-5):
            raise InputError(
                f"contrast: the clean and the corrupted prompts score alike ({self.metric.name} "
                f"{float(self.clean_scores.mean()):.4g} and {float(self.corrupted_scores.mean()):.4g} on average), "
                f"so an effect has no scale; choose another corruption or metric"
            )

    def _check_kinds(self) -> None:
        if not isinstance(self.model, Model):
            raise InputError(f"model: expected a Model, got {shown(self.model)}; uw.load_model makes one")
        if isinstance(self.metric, type) or not isinstance(self.metric, Metric):
            raise InputError(f"metric: expected a metric such as uw.LogitDiff(), got {shown(self.metric)}")
        if isinstance(self.corrupted, str) and not isinstance(self.prompts, str):
            raise InputError(f"corrupted: expected prompts, such as task.corrupt({self.corrupted!r}), got a text")

    def _corrupted_prompts(self) -> Prompts:
        try:
            return self.model.prompts(self.corrupted)
        except InputError as error:
            raise InputError(f"corrupted: {str(error).removeprefix('prompts: ')}") from error

    def __repr__(self) -> str:
        scores = f"{float(self.clean_scores.mean()):.3g} clean, {float(self.corrupted_scores.mean()):.3g} corrupted"
        return f"Contrast({self.model.config.name!r}, {self.prompts!r}, {self.metric.name} {scores})"

    @property
    def gap(self) -> float:
        """Mean clean minus mean corrupted baseline, in the metric's unit."""
        return float(self.clean_scores.mean() - self.corrupted_scores.mean())

    def side(self, name: str) -> Prompts:
        """The clean or the corrupted prompts. Raises InputError for any other name."""
        if name not in ("clean", "corrupted"):
            raise InputError(f"prompts: expected 'clean' or 'corrupted', got {name!r}")
        return self.prompts if name == "clean" else self.corrupted

    def sides(self, direction: str) -> tuple[Run, Run, Float[Tensor, " prompt"]]:
        """The runs of recipient and donor, and the recipient's baseline."""
        if direction == "denoise":
            return self.corrupted_run, self.clean_run, self.corrupted_scores
        if direction == "noise":
            return self.clean_run, self.corrupted_run, self.clean_scores
        raise InputError(f"direction: expected 'denoise' or 'noise', got {direction!r}")

    def effect(self, values: Float[Tensor, "*cell prompt"], direction: str) -> Float[Tensor, "*cell prompt"]:
        """Metric values of patched runs as effects: exactly 0 where a value is the recipient's baseline."""
        return (values - self.sides(direction)[2]) / self.gap


def check_pair(pair: object) -> None:
    """Raises InputError where a method that compares two runs is given anything but a contrast."""
    if not isinstance(pair, Contrast):
        raise InputError(
            f"pair: expected a Contrast, got {shown(pair)}; make one of a model, its prompts and their corruption: "
            "uw.Contrast(model, task.prompts, task.corrupt(), uw.LogitDiff())"
        )


def _check_finite(
    side: str, metric: Metric, logits: Float[Tensor, "prompt column"], scores: Float[Tensor, " prompt"]
) -> None:
    """Raises InputError naming the prompts whose score, or logits that a rank or a share would hide, are no numbers."""
    unread = logits.isnan().any(1)
    numbers = [number + 1 for number in (unread | ~scores.isfinite()).nonzero()[:, 0].tolist()]
    if numbers:
        value = "nan" if unread[numbers[0] - 1] else float(scores[numbers[0] - 1])
        first = ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")
        raise InputError(
            f"contrast: {metric.name} is {value} for {len(numbers)} of the {len(scores)} {side} prompts ({first}), so "
            "an effect has no scale; look for NaN in model.run(prompts).logits: half precision overflows where "
            "dtype='float32' does not"
        )
