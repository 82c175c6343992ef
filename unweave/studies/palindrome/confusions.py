"""Which values the model takes for one another, and sequences that are made of them to fool it.

1. every value in place of every other, one wrong value a sequence, at all places of the second half;
2. palindromes of the values that are confused most, each of them against the value that it is taken for: as many wrong
   values at once as still fool the model, at the places where single changes are missed most;
3. each of these sequences run again, by itself.
"""

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.methods.blind_spots import adversarial_prompts, changed, class_probability
from unweave.methods.to_xarray import Coords, run_to_xarray, weights_to_xarray
from unweave.models.prompts import Prompts
from unweave.registry import BLIND, Method, register
from unweave.studies.palindrome.sequences import PALINDROME, PalindromeSubject
from unweave.studies.plan import Report, Results, each, needed
from unweave.tasks.custom_sequences import sequence
from unweave.tasks.palindromes import framed, palindromic

CONFUSIONS = register(
    Method(
        "confusions",
        BLIND,
        quantity="share of changes missed",
        unit="share",
        zero="always noticed",
        one="never noticed",
    )
)
ADVERSARIAL = register(Method("adversarial sequences", BLIND, quantity="token", zero="the value 0", one="the value 1"))

# Draws of the other values: of each, one sequence for every value in place of every other.
DRAWS, MOST_VALUES = (40, 10), 100
N_CONFUSED, N_TRIED, N_SHOWN = 6, 400, 4
# What the model must give the sequences that are shown, where it gives any so much.
SURE = 0.9


def confusions(subject: PalindromeSubject, report: Report) -> xr.DataArray:
    """1 where a wrong value in place of the right one is missed, `[prompt, wrong, right]`; NaN where they are equal.

    Each `prompt` is a draw of the other values, and a place: the places of the second half in turn.

    Raises:
        InputError: so many values that their pairs are too many to try.
    """
    n_values, draws = subject.max_value + 1, DRAWS[int(subject.settings.quick)]
    if n_values > MOST_VALUES:
        raise InputError(f"{n_values} values make too many pairs to try; at most {MOST_VALUES} are")
    draw = torch.Generator().manual_seed(subject.seed)
    places = [subject.second_half[n % subject.half_length] for n in range(draws)]
    values = torch.stack([_every_pair(subject, place, draw) for place in each(places, report)])
    values[:, range(n_values), range(n_values)] = float("nan")
    axes = {"prompt": range(draws), "wrong": range(n_values), "right": range(n_values)}
    attrs = CONFUSIONS.attrs(n_prompts=draws, seed=subject.seed)
    return weights_to_xarray(subject.model, values, axes, attrs)


def _every_pair(subject: PalindromeSubject, place: int, draw: torch.Generator) -> Tensor:
    """1 where a palindrome is still called one, for `[wrong, right]` values at a place of its second half."""
    n = subject.max_value + 1
    first = torch.randint(0, n, (n, subject.half_length), generator=draw)
    first[:, subject.mirror(place) - 1] = torch.arange(n)
    tokens = framed(torch.cat([first, first.flip(1)], 1), subject.max_value).repeat(n, 1)
    tokens[:, place] = torch.arange(n).repeat_interleave(n)
    called = (class_probability(subject.model, tokens, PALINDROME) > 0.5).to(torch.float64).cpu()
    return rearrange(called, "(wrong right) -> wrong right", wrong=n)


@dataclass(frozen=True)
class Bait:
    """Palindromes of values that are confused, what each value is replaced by, and places, the most promising first."""

    prompts: Prompts
    replacements: Int[Tensor, "prompt pos"]
    places: list[int]


@dataclass(frozen=True)
class Fooled:
    """Sequences that fool the model, what it gives them when each is run by itself, and the share of all tried."""

    tokens: Int[Tensor, "kept pos"]
    probability: Float[Tensor, " kept"]
    places: list[int]
    share: float


def adversarial(subject: PalindromeSubject, found: Results) -> xr.DataArray:
    """Sequences with as many wrong values as the model is still sure to see none of, `[prompt, pos]` token ids.

    `probability` is what each sequence is given when it is run by itself; `fooled` the share of those tried.

    Raises:
        InputError: no sequence that fools the model.
    """
    bait = _bait(subject, needed(found, "confusions").mean("prompt"), needed(found, "blind").mean("prompt"))
    fallback: Fooled | None = None
    # Together, changes are noticed more often than each alone, so that the most come first.
    for n in range(len(bait.places), 0, -1):
        fooled = _fooled(subject, bait, bait.places[:n])
        if fooled is not None and float(fooled.probability.min()) >= SURE:
            return _labelled(subject, fooled)
        fallback = fallback or fooled
    if fallback is None:
        raise InputError(f"none of {len(bait.prompts)} sequences with a wrong value fools the model")
    return _labelled(subject, fallback)


def _fooled(subject: PalindromeSubject, bait: Bait, places: list[int]) -> Fooled | None:
    """The surest of the sequences with wrong values at these places; None where too few fool the model."""
    try:
        made = adversarial_prompts(subject.model, bait.prompts, PALINDROME, bait.replacements, places, N_SHOWN)
    except InputError:
        return None
    alone = torch.cat([class_probability(subject.model, row[None], PALINDROME) for row in made.prompts.tokens]).cpu()
    kept = ~palindromic(made.prompts.tokens[:, 1:-1]) & (alone > 0.5)
    every = class_probability(subject.model, changed(bait.prompts, places, bait.replacements), PALINDROME)
    share = float((every > 0.5).double().mean())
    return Fooled(made.prompts.tokens[kept], alone[kept], places, share) if len(alone[kept]) else None


def _bait(subject: PalindromeSubject, missed: xr.DataArray, blind: xr.DataArray) -> Bait:
    """Palindromes of the values that have the best impostors."""
    table = np.nan_to_num(missed.transpose("right", "wrong").values)
    impostor = torch.from_numpy(table.argmax(1))
    values = torch.from_numpy(np.argsort(-table.max(1), kind="stable")[:N_CONFUSED].copy())
    draw = torch.Generator().manual_seed(subject.seed)
    first = values[torch.randint(0, len(values), (N_TRIED, subject.half_length), generator=draw)]
    prompts = sequence(torch.cat([first, first.flip(1)], 1), subject.max_value)
    replacements = prompts.tokens.clone()
    replacements[:, 1:-1] = impostor[prompts.tokens[:, 1:-1]]
    share = blind.sel(pos=list(subject.second_half))
    order = np.argsort(-share.values, kind="stable")
    return Bait(prompts, replacements, [int(pos) for pos in share["pos"].values[order]])


def _labelled(subject: PalindromeSubject, fooled: Fooled) -> xr.DataArray:
    tokens = fooled.tokens
    places = " ".join(map(str, sorted(fooled.places)))
    attrs = ADVERSARIAL.attrs(changed=places, tried=N_TRIED, fooled=fooled.share)
    extra: Coords = {"probability": (("prompt",), fooled.probability.numpy())}
    return run_to_xarray(
        subject.model, sequence(tokens, subject.max_value), tokens, {"pos": range(tokens.shape[1])}, attrs, extra
    )
