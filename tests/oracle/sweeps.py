"""Naive sweeps: a loop over patches, one whole forward pass each, and the normalised effects.

A patch is (site, layer, index into the site's tensor). `grid` lists the patches of a table, `effects` runs them.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from tests.oracle.hooks import Edit, Index, Trace, n_heads, run, sites_of
from tests.oracle.pairs import Pair

# One number a prompt, from the logits at all positions.
Score = Callable[[Float[Tensor, "prompt pos d_vocab"]], Float[Tensor, " prompt"]]
EVERYWHERE = slice(None)


@dataclass(frozen=True)
class Patch:
    """One place whose value comes from the other run."""

    site: str
    layer: int
    index: Index


def logit_difference(pair: Pair, role: str = "end") -> Score:
    def score(logits: Float[Tensor, "prompt pos d_vocab"]) -> Float[Tensor, " prompt"]:
        read, rows = at_role(logits, pair, role), torch.arange(len(logits))
        return read[rows, pair.answers] - read[rows, pair.wrong]

    return score


def at_role(x: Float[Tensor, "prompt pos *rest"], pair: Pair, role: str = "end") -> Float[Tensor, "prompt *rest"]:
    return x[torch.arange(len(x)), pair.roles[role]]


def grid(
    hf: PreTrainedModel, pair: Pair, site: str, over: tuple[str, ...], neurons: Sequence[int] = ()
) -> tuple[tuple[int, ...], list[Patch]]:
    """All patches of `site` over the named axes, of which `layer` is the first, with the table's shape.

    `neurons` are the coordinates of the axis `neuron`. The last axis runs fastest.
    """
    positions = list(range(pair.clean.shape[1]))
    choices: dict[str, Sequence[int | Int[Tensor, " prompt"]]] = {
        "head": range(n_heads(hf, site)),
        "neuron": neurons,
        "role": list(pair.roles.values()),
        "pos": positions,
        "q_pos": positions,
        "k_pos": positions,
    }
    layers, axes = range(hf.config.num_hidden_layers), [choices[axis] for axis in over[1:]]
    patches = [
        Patch(site, layer, index_of(site, **dict(zip(over[1:], cell, strict=True))))
        for layer in layers
        for cell in itertools.product(*axes)
    ]
    return (len(layers), *(len(axis) for axis in axes)), patches


def index_of(site: str, **at: int | Int[Tensor, " prompt"]) -> Index:
    """Where a patch stands in its site's tensor. Axes that are not named are taken whole.

    A `role` is one position a prompt: of the destination, for a pattern.
    """
    place = at.get("role", at.get("pos", at.get("q_pos", EVERYWHERE)))
    prompts = torch.arange(len(place)) if isinstance(place, Tensor) else EVERYWHERE
    head = at.get("head", at.get("neuron", EVERYWHERE))
    if site == "pattern":
        return prompts, head, place, at.get("k_pos", EVERYWHERE)
    return prompts, place, head


@cache
def unpatched(hf: PreTrainedModel, pair: Pair) -> tuple[Trace, Trace]:
    """The clean and the corrupted prompts, every site kept: run once, since they are the same for every patch."""
    return run(hf, pair.clean, keep=sites_of(hf)), run(hf, pair.corrupted, keep=sites_of(hf))


def effects(
    hf: PreTrainedModel,
    pair: Pair,
    patches: Iterable[Patch | tuple[Patch, ...]],
    direction: str = "denoise",
    score: Score | None = None,
) -> Float[Tensor, "prompt patch"]:
    """Effect of each patch, one whole forward pass a patch; a tuple of patches is made at once.

    `denoise` runs the corrupted prompts with values of the clean ones: 0 as corrupted, 1 as clean. `noise` runs the
    clean prompts with values of the corrupted ones: 0 as clean, -1 as corrupted.
    """
    score = score or logit_difference(pair)
    clean, corrupted = unpatched(hf, pair)
    gap = (score(clean.logits) - score(corrupted.logits)).mean()
    recipient, base, given = (pair.corrupted, score(corrupted.logits), clean)
    if direction == "noise":
        recipient, base, given = (pair.clean, score(clean.logits), corrupted)
    columns = []
    for patch in patches:
        patch = patch if isinstance(patch, tuple) else (patch,)
        edits = [Edit(part.site, part.layer, part.index, given.sites[part.site, part.layer]) for part in patch]
        columns.append((score(run(hf, recipient, edits).logits) - base) / gap)
    return torch.stack(columns, dim=1)


def sweep(
    hf: PreTrainedModel,
    pair: Pair,
    site: str,
    over: tuple[str, ...],
    direction: str = "denoise",
    neurons: Sequence[int] = (),
    score: Score | None = None,
) -> Float[Tensor, "prompt *table"]:
    """The table of `grid`, of shape `[prompt, *over]`; NaN at positions that a prompt does not have."""
    shape, patches = grid(hf, pair, site, over, neurons)
    table = effects(hf, pair, patches, direction, score).reshape(len(pair.answers), *shape)
    return within(table, over, pair.lengths)


def within(
    table: Float[Tensor, "prompt *table"], over: tuple[str, ...], lengths: Int[Tensor, " prompt"]
) -> Float[Tensor, "prompt *table"]:
    """The table, NaN at positions that a prompt does not have, written prompt by prompt."""
    table = table.clone()
    for axis, name in enumerate(over):
        if name in ("pos", "q_pos", "k_pos"):
            for row, length in enumerate(lengths.tolist()):
                table[row].movedim(axis, 0)[length:] = float("nan")
    return table
