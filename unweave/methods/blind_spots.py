"""Blind spots of a classifier: changes of a prompt that should change its class, and that the model does not notice.

Steps: at each position in turn, one token of each prompt is replaced; a change is missed where the model's class stays
what it was. Where single changes are missed, several at once make adversarial prompts; each is run again by itself, and
kept only if the model still gives the old class. That the replacement does change the true class is the caller's to
know: one mismatch makes a palindrome none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.reading import read_at
from unweave.errors import InputError, Interrupted
from unweave.methods.to_xarray import array_of, run_to_xarray
from unweave.models.forward import unembed
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.progress import Progress, shown
from unweave.registry import Method, register

SINGLE = register(
    Method(
        "single changes",
        quantity="share of changes missed",
        unit="share",
        zero="every change is noticed",
        one="none is",
        picture="unweave.views.classifier_pictures:missed_blocks",
        dims=("prompt", "pos"),
    )
)


@dataclass(frozen=True, eq=False)
class Adversarial:
    """Prompts that are still given `label` after changes at `positions`, the most certain first."""

    prompts: Prompts
    probability: Float[Tensor, " prompt"]
    label: int
    positions: tuple[int, ...]
    tried: int

    def __repr__(self) -> str:
        span = f"{float(self.probability.min()):.3f} to {float(self.probability.max()):.3f}"
        changed = ", ".join(map(str, self.positions))
        return f"Adversarial({len(self.prompts)} of {self.tried}, changed at {changed}, class {self.label} at {span})"


def other_tokens(tokens: Int[Tensor, "prompt pos"], values: int, seed: int = 0) -> Int[Tensor, "prompt pos"]:
    """For every token below `values` another one below `values`, uniformly drawn; further tokens stay as they are.

    Raises:
        InputError: fewer than 2 values, so that there is no other.
    """
    if values < 2:
        raise InputError(f"values: expected at least 2, so that there is another token, got {values}")
    step = torch.randint(1, values, tokens.shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(tokens < values, (tokens + step.to(tokens.device)) % values, tokens)


def class_probability(
    model: Model,
    prompts: Prompts | Int[Tensor, "prompt pos"],
    label: int,
    role: str = "end",
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> Float[Tensor, " prompt"]:
    """The probability `[prompt]` that the model gives one of its outputs, `label`, at a role of the prompts.

    `memory` and `progress` are as in `patch`.

    Raises:
        InputError: no such output, or no such role.
    """
    if not 0 <= label < model.config.d_vocab_out:
        raise InputError(f"label: {model.config.name} has outputs 0 to {model.config.d_vocab_out - 1}, got {label}")
    return _logits(model, model.prompts(prompts), role, memory, progress).softmax(-1)[:, label]


def blind_spots(
    model: Model,
    prompts: Prompts | Int[Tensor, "prompt pos"],
    label: int,
    replacements: Int[Tensor, "prompt pos"],
    positions: Sequence[int] | None = None,
    progress: Progress | bool | None = None,
    memory: int | float | None = None,
) -> xr.DataArray:
    """Which single changes leave the model's class as it is.

    Args:
        model: a classifier, or any model whose largest output counts.
        prompts: prompts of class `label`.
        label: the class that they have before the change, and should not have after it.
        replacements: what the token at each place is replaced by, `[prompt pos]`; see `other_tokens`.
        positions: the positions where a change is tried, one at a time; all by default.
        progress, memory: as in `patch`.

    Returns:
        1.0 where the change is missed and 0.0 where it is noticed, `[prompt, pos]`; the mean over prompts is the share
        missed. NaN where the replacement is the token itself, so that nothing changes. The coordinate `unchanged` is
        1.0 where the unchanged prompt is given `label`.

    Raises:
        InputError: positions, replacements or a class that do not fit.
        Interrupted: on Ctrl-C; `partial` holds the positions that were reached, the others are NaN.
    """
    batch = model.prompts(prompts)
    places = _places(batch, replacements, positions)
    class_probability(model, batch.take([0]), label)
    before = _given(model, batch, label, memory)
    missed = torch.full((len(batch), len(places)), float("nan"), dtype=before.dtype)
    done = 0
    try:
        with shown(progress, "single changes") as report:
            for done, place in enumerate(places):
                same = (replacements.to(batch.tokens) == batch.tokens)[:, place].cpu()
                missed[~same, done] = _given(model, changed(batch, [place], replacements), label, memory)[~same]
                if report is not None:
                    report(done + 1, len(places))
    except KeyboardInterrupt:
        partial = _labelled(model, batch, missed, places, label, before)
        raise Interrupted(f"stopped at position {done + 1} of {len(places)}", partial) from None
    return _labelled(model, batch, missed, places, label, before)


def adversarial_prompts(
    model: Model,
    prompts: Prompts | Int[Tensor, "prompt pos"],
    label: int,
    replacements: Int[Tensor, "prompt pos"],
    positions: Sequence[int],
    n: int = 4,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> Adversarial:
    """Prompts with all of some tokens changed that the model still gives `label`, at most `n`, the most certain first.

    Args:
        model, prompts, label, replacements: as in `blind_spots`.
        positions: where tokens are changed, all at once: where `blind_spots` found changes to be missed.
        n: how many to return.
        memory, progress: as in `patch`.

    Returns:
        The changed prompts, the probability `[prompt]` that the model still gives `label`, and how many were tried.

    Raises:
        InputError: positions, replacements or a class that do not fit; no prompt that fools the model.
    """
    batch = model.prompts(prompts)
    places = _places(batch, replacements, positions)
    made = changed(batch, places, replacements)
    fooled = _given(model, made, label, memory, progress).nonzero()[:, 0]
    if not len(fooled):
        raise InputError(
            f"positions: with changes at {', '.join(map(str, places))} the model gives class {label} to none of "
            f"{len(batch)} prompts; choose positions where blind_spots finds changes missed, or more prompts"
        )
    chosen = made.take(fooled.tolist())
    probability = class_probability(model, chosen, label, memory=memory, progress=False)
    best = probability.argsort(descending=True, stable=True)[:n]
    return Adversarial(chosen.take(best.tolist()), probability[best], label, tuple(places), len(batch))


def changed(batch: Prompts, positions: Sequence[int], replacements: Int[Tensor, "prompt pos"]) -> Prompts:
    """The prompts with the tokens at some positions replaced."""
    tokens = batch.tokens.clone()
    tokens[:, list(positions)] = replacements.to(tokens)[:, list(positions)]
    rows = zip(tokens.tolist(), batch.lengths.tolist(), strict=True)
    names = tuple(tuple(map(str, row[:length])) for row, length in rows)
    return replace(batch, tokens=tokens, str_tokens=names, texts=tuple(map(" ".join, names)))


def _logits(
    model: Model, batch: Prompts, role: str, memory: int | float | None, progress: Progress | bool | None
) -> Float[Tensor, "prompt d_vocab_out"]:
    final = ("final", -1)
    return unembed(model.weights, read_at(model, batch, [final], batch.role(role), memory, progress)[final])


def _given(
    model: Model,
    batch: Prompts,
    label: int,
    memory: int | float | None,
    progress: Progress | bool | None = False,
) -> Float[Tensor, " prompt"]:
    """1 if the model's largest output is `label`."""
    return (_logits(model, batch, "end", memory, progress).argmax(-1) == label).to(model.dtype).cpu()


def _places(batch: Prompts, replacements: Int[Tensor, "prompt pos"], positions: Sequence[int] | None) -> Sequence[int]:
    shortest = int(batch.lengths.min())
    if replacements.shape != batch.tokens.shape:
        raise InputError(
            f"replacements: expected one for each token, {list(batch.tokens.shape)}, got {list(replacements.shape)}"
        )
    places = list(range(shortest)) if positions is None else list(positions)
    if not places or not all(0 <= place < shortest for place in places) or len(set(places)) < len(places):
        raise InputError(f"positions: expected different positions of 0 to {shortest - 1}, got {places}")
    return places


def _labelled(
    model: Model,
    batch: Prompts,
    missed: Float[Tensor, "prompt pos"],
    places: Sequence[int],
    label: int,
    before: Float[Tensor, " prompt"],
) -> xr.DataArray:
    attrs = SINGLE.attrs(label=label)
    return run_to_xarray(model, batch, missed, {"pos": places}, attrs, {"unchanged": (("prompt",), array_of(before))})
