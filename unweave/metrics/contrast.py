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
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.metrics.protocol import Metric
from unweave.models.forward import unembed
from unweave.models.keeping import lent_keys
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.models.run import Run
from unweave.models.weights import Weights


@final
@dataclass(frozen=True, eq=False)
class Contrast:
    """`Contrast(model, prompts, corrupted, metric)` runs both once and scores them.

    Roles, answers and positions are those of the clean prompts. `clean[prompt]` and `spoiled[prompt]` are the
    baselines in the metric's unit; `gap` is mean clean minus mean corrupted; `reference` are the clean run's logits
    at the metric's role where the metric compares with them. `clean_run` and `spoiled_run` keep what sweeps read of
    them, where that takes a small part of the free memory; else a sweep runs its prompts again.

    Raises:
        InputError: prompts of different number or lengths, missing answers, or baselines that coincide.
    """

    model: Model
    prompts: Prompts
    corrupted: Prompts
    metric: Metric
    clean: Float[Tensor, " prompt"] = field(init=False, repr=False)
    spoiled: Float[Tensor, " prompt"] = field(init=False, repr=False)
    clean_run: Run = field(init=False, repr=False)
    spoiled_run: Run = field(init=False, repr=False)
    reference: Float[Tensor, "prompt column"] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        self._check_kinds()
        clean, corrupted = self.model.prompts(self.prompts), self.model.prompts(self.corrupted)
        _check_alike(clean, corrupted)
        n_pos = int(clean.lengths.max())  # either may be padded further, and each its own way
        put("prompts", replace(clean, tokens=clean.tokens[:, :n_pos]))
        put("corrupted", replace(corrupted, tokens=corrupted.tokens[:, :n_pos]))
        lent = lent_keys(self.model.config, self.prompts, self.model.dtype.itemsize)
        put("clean_run", self.model.run(self.prompts, lent))
        put("spoiled_run", self.model.run(self.corrupted, lent))
        clean_logits = read_logits(self.clean_run, self.metric, self.prompts)
        put("reference", clean_logits if self.metric.needs_reference else None)
        put("clean", self.metric.score(clean_logits, self.prompts, self.reference))
        logits = read_logits(self.spoiled_run, self.metric, self.prompts)
        put("spoiled", self.metric.score(logits, self.prompts, self.reference))
        scale = float(torch.stack([self.clean, self.spoiled]).abs().max())
        if not abs(self.gap) > 1e-5 * max(scale, 1e-5):
            raise InputError(
                f"contrast: the clean and the corrupted prompts score alike ({self.metric.name} "
                f"{float(self.clean.mean()):.4g} and {float(self.spoiled.mean()):.4g} on average), so an effect has "
                f"no scale; choose another corruption or metric"
            )

    def _check_kinds(self) -> None:
        if not isinstance(self.model, Model):
            raise InputError(f"model: expected a Model, got {_kind(self.model)}; uw.load_model makes one")
        if isinstance(self.metric, type) or not isinstance(self.metric, Metric):
            raise InputError(f"metric: expected a metric such as uw.LogitDiff(), got {_kind(self.metric)}")
        for name, given, instead in (
            ("prompts", self.prompts, "task.prompts"),
            ("corrupted", self.corrupted, "task.corrupt()"),
        ):
            texts = isinstance(self.prompts, str) and isinstance(given, str)
            if not texts and not isinstance(given, (Prompts, Tensor, list, tuple)):
                raise InputError(f"{name}: expected prompts, such as {instead}, got {_kind(given)}")

    def __repr__(self) -> str:
        scores = f"{float(self.clean.mean()):.3g} clean, {float(self.spoiled.mean()):.3g} corrupted"
        return f"Contrast({self.model.config.name!r}, {self.prompts!r}, {self.metric.name} {scores})"

    @property
    def gap(self) -> float:
        """Mean clean minus mean corrupted baseline, in the metric's unit."""
        return float(self.clean.mean() - self.spoiled.mean())

    def side(self, name: str) -> Prompts:
        """The clean or the corrupted prompts. Raises InputError for any other name."""
        if name not in ("clean", "corrupted"):
            raise InputError(f"prompts: expected 'clean' or 'corrupted', got {name!r}")
        return self.prompts if name == "clean" else self.corrupted

    def sides(self, direction: str) -> tuple[Run, Run, Float[Tensor, " prompt"]]:
        """The runs of recipient and donor, and the recipient's baseline."""
        if direction == "denoise":
            return self.spoiled_run, self.clean_run, self.spoiled
        if direction == "noise":
            return self.clean_run, self.spoiled_run, self.clean
        raise InputError(f"direction: expected 'denoise' or 'noise', got {direction!r}")

    def effect(self, values: Float[Tensor, "*cell prompt"], direction: str) -> Float[Tensor, "*cell prompt"]:
        """Metric values of patched runs as effects: exactly 0 where a value is the recipient's baseline."""
        return (values - self.sides(direction)[2]) / self.gap


def check_pair(pair: object) -> None:
    """Raises InputError where a method that compares two runs is given anything but a contrast."""
    if not isinstance(pair, Contrast):
        raise InputError(
            f"pair: expected a Contrast, got {_kind(pair)}; make one of a model, its prompts and their corruption: "
            "uw.Contrast(model, task.prompts, task.corrupt(), uw.LogitDiff())"
        )


def _kind(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"


def read_logits(run: Run, metric: Metric, prompts: Prompts) -> Float[Tensor, "prompt column"]:
    """The logits that a metric reads of a run: at its role in `prompts`, and of the vocabulary only what it names."""
    rows = torch.arange(len(prompts), device=run.final.device)
    columns = metric.columns(prompts)
    final = run.final[rows, prompts.role(metric.role).to(rows.device)]
    return logits_of(run.weights, final, None if columns is None else columns.to(rows.device))


def logits_of(
    weights: Weights, final: Float[Tensor, "row d_model"], columns: Int[Tensor, "row column"] | None
) -> Float[Tensor, "row column"]:
    """Each row's logits, at `columns` alone where they are given, in float32 or wider.

    In bfloat16 logits around 20 are 1/8 apart, which is more than most patches change them by.
    """
    wide = torch.promote_types(final.dtype, torch.float32)
    if columns is None:
        return unembed(weights, final).to(wide)
    logits = einsum(final.to(wide), F.embedding(columns, weights.w_u).to(wide), "row d, row column d -> row column")
    return logits if weights.b_u is None else logits + weights.b_u[columns]


def _check_alike(clean: Prompts, corrupted: Prompts) -> None:
    if len(clean) != len(corrupted):
        raise InputError(
            f"corrupted: {len(corrupted)} prompts, and there are {len(clean)} clean ones; each needs its own"
        )
    unlike = (clean.lengths != corrupted.lengths).nonzero()[:, 0].tolist()
    if unlike:
        n = unlike[0]
        raise InputError(
            f"corrupted: prompt {n + 1} has {int(corrupted.lengths[n])} tokens, and its clean prompt has "
            f"{int(clean.lengths[n])}; a patch needs equal positions, so make them equally long"
        )
