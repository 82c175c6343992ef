"""Palindromes: is the second half of a sequence its first half, read backwards?

The task of a published small classifier, with its draws in its order, so that a seed gives the published sequences bit
for bit. A sequence is START, `2 * half_length` values from 0 to `max_value`, END; START is `max_value + 1`, END
`max_value + 2`. Class 1 is a palindrome, class 0 is not. All draws come from one CPU generator:

1. the first halves of the other sequences;
2. a random value for each place of their second halves;
3. a fair coin for each of these places: it takes the random value, or the mirrored one;
4. the first halves of the palindromes;
5. the order in which both are put.

A sequence of the first kind is a palindrome where no coin or value changed it: classes are read off the sequences.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from einops import repeat
from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.models.weights import abbreviated
from unweave.tasks.task import Task
from unweave.tasks.texts import TextModel


class LabelledSequences(NamedTuple):
    """Token ids and the class of each sequence."""

    tokens: Int[Tensor, "prompt pos"]
    labels: Int[Tensor, " prompt"]

    __repr__ = abbreviated


def draw_palindromes(n: int, seed: int = 42, half_length: int = 10, max_value: int = 30) -> LabelledSequences:
    """Sequences to train on: half of them palindromes, in random order.

    Args:
        n: how many; of an odd number the odd one is a palindrome.
        seed: of the draws; the same seed gives the same sequences on any machine.
        half_length: values in each half.
        max_value: the largest value; the vocabulary has `max_value + 3` entries.

    Returns:
        Tokens `[prompt, 2 * half_length + 2]`, and labels `[prompt]`: 1 a palindrome, 0 not.

    Raises:
        InputError: a number that is too small.
    """
    for name, value, least in (("n", n, 1), ("half_length", half_length, 1), ("max_value", max_value, 1)):
        if value < least:
            raise InputError(f"{name}: expected at least {least}, got {value}")
    draw = torch.Generator().manual_seed(seed)

    def values(rows: int, below: int = max_value + 1) -> Tensor:
        return torch.randint(0, below, (rows, half_length), generator=draw)

    n_others = n // 2
    first, random, changed = values(n_others), values(n_others), values(n_others, below=2).bool()
    others = torch.cat([first, torch.where(changed, random, first.flip(1))], dim=1)
    half = values(n - n_others)
    ordered = torch.cat([torch.cat([half, half.flip(1)], dim=1), others])
    sequences = ordered[torch.randperm(n, generator=draw)]
    return LabelledSequences(framed(sequences, max_value), palindromic(sequences).long())


def palindromes(
    n: int = 100, seed: int = 42, half_length: int = 10, max_value: int = 30, *, only_palindromes: bool = False
) -> Task:
    """Palindromes and other sequences, for a classifier that reads token ids.

    Args:
        n: how many sequences.
        seed: of the draws, those of the corruption included.
        half_length, max_value: as in `draw_palindromes`.
        only_palindromes: the first `n` palindromes of `2 n` sequences, instead of both classes.

    Returns:
        A task whose answers are classes. `corrupt("other_class")` gives a palindrome one wrong value at a random place
        of its second half, and makes another sequence the palindrome of its first half. Roles: `start`; `mismatch`, the
        first place where a sequence and its corruption differ; `mirror`, the place that this one mirrors; `end`.

    Raises:
        InputError: a number that is too small.
    """
    tokens, labels = draw_palindromes(2 * n if only_palindromes else n, seed, half_length, max_value)
    if only_palindromes:
        tokens, labels = tokens[labels == 1][:n], labels[labels == 1][:n]
    corrupted = _other_class(tokens, labels, max_value, seed)
    source = {"task": "palindromes", "seed": seed}
    return Task(
        name="palindromes",
        prompts=replace(_named(tokens, labels, corrupted, max_value), source=source),
        corruptions=("other_class",),
        make=lambda _: _named(corrupted, labels, tokens, max_value),
        description=f"Is it a palindrome? {2 * half_length} values from 0 to {max_value}, between START and END.",
        question="Are the values between START and END a palindrome? Which parts of the model compare the two halves?",
        title="Palindromes",
    )


def palindromes_for(model: TextModel, n_prompts: int = 100, seed: int = 42) -> Task:
    """`palindromes` of the size that a classifier reads. Raises InputError where the model is no such classifier."""
    half_length, max_value = sizes_of(model.config)
    return palindromes(n_prompts, seed, half_length, max_value)


def sizes_of(config: Config) -> tuple[int, int]:
    """`half_length` and `max_value` of the sequences that fill a classifier's context and vocabulary.

    Raises:
        InputError: a model that has not two classes, or not an even context.
    """
    if config.d_vocab_out != 2 or config.n_ctx % 2 or config.n_ctx < 4 or config.d_vocab < 4:
        raise InputError(
            f"palindromes: they need a classifier of 2 classes and an even number of positions; {config.name} has "
            f"{config.d_vocab_out} outputs and {config.n_ctx} positions; load one that was trained for them"
        )
    return config.n_ctx // 2 - 1, config.d_vocab - 3


def framed(values: Int[Tensor, "prompt value"], max_value: int) -> Int[Tensor, "prompt pos"]:
    """Values between START and END."""
    start, end = (repeat(torch.tensor(token), "-> n 1", n=len(values)) for token in (max_value + 1, max_value + 2))
    return torch.cat([start, values, end], dim=1)


def palindromic(values: Int[Tensor, "prompt value"]) -> Tensor:
    """Whether each row reads the same backwards, `[prompt]`."""
    return (values == values.flip(1)).all(dim=1)


def value_texts(tokens: Int[Tensor, "prompt pos"], max_value: int) -> tuple[tuple[str, ...], ...]:
    """The text of each token: `START`, values with as many digits as the largest has, `END`."""
    digits = len(str(max_value))
    names = [*(f"{value:0{digits}}" for value in range(max_value + 1)), "START", "END"]
    return tuple(tuple(names[token] for token in row) for row in tokens.tolist())


def _other_class(
    tokens: Int[Tensor, "prompt pos"], labels: Int[Tensor, " prompt"], max_value: int, seed: int
) -> Int[Tensor, "prompt pos"]:
    """Palindromes with one wrong value in the second half; others with their second half mirrored."""
    n, length = tokens.shape
    half = length // 2 - 1
    draw = torch.Generator().manual_seed(seed)
    place = torch.randint(half + 1, length - 1, (n,), generator=draw)
    # One of the other values, each as likely: a step of 1 to max_value around the circle of values.
    step = torch.randint(1, max_value + 1, (n,), generator=draw)
    rows = torch.arange(n)
    broken = tokens.clone()
    broken[rows, place] = (tokens[rows, place] + step) % (max_value + 1)
    mended = tokens.clone()
    mended[:, half + 1 : -1] = tokens[:, 1 : half + 1].flip(1)
    return torch.where((labels == 1)[:, None], broken, mended)


def _named(
    tokens: Int[Tensor, "prompt pos"], labels: Int[Tensor, " prompt"], twin: Int[Tensor, "prompt pos"], max_value: int
) -> Prompts:
    n, length = tokens.shape
    mismatch = (tokens != twin).long().argmax(dim=1)
    roles = {
        "start": torch.zeros(n, dtype=torch.long),
        "mirror": length - 1 - mismatch,
        "mismatch": mismatch,
        "end": torch.full((n,), length - 1),
    }
    words = value_texts(tokens, max_value)
    prompts = Prompts.from_tokens(tokens, answers=labels, wrong=1 - labels, roles=roles)
    return replace(prompts, str_tokens=words, texts=tuple("|".join(row) for row in words))
