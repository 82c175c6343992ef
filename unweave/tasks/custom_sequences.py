"""Sequences of values given by hand, between START and END, for a classifier of palindromes."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models.prompts import Prompts
from unweave.tasks.palindromes import framed, palindromic, value_texts

Values = Sequence[int] | Sequence[Sequence[int]] | Int[Tensor, "prompt value"]


def sequence(values: Values, max_value: int = 30) -> Prompts:
    """Prompts of values, one sequence or several of one length; START and END are put around them.

        uw.tasks.sequence([1, 2, 3, 4, 5] * 4)

    Args:
        values: from 0 to `max_value`. START (`max_value + 1`) and END (`max_value + 2`) may stand there already.
        max_value: the largest value of the classifier.

    Returns:
        Prompts whose answer is the class of each: 1 a palindrome, 0 not. Roles: `start`, `end`.

    Raises:
        InputError: no sequence, sequences of different length, or a value that is not one of the classifier's.
    """
    tokens = _framed(_table(values), max_value)
    inner = tokens[:, 1:-1]
    if inner.shape[1] == 0 or int(inner.min()) < 0 or int(inner.max()) > max_value:
        raise InputError(f"values: expected values from 0 to {max_value}, got {inner.tolist()}; max_value=… sets it")
    labels = palindromic(inner).long()
    prompts = Prompts.from_tokens(tokens, labels, 1 - labels, roles={"start": [0] * len(tokens)})
    words = value_texts(tokens, max_value)
    texts = tuple("|".join(row) for row in words)
    return replace(prompts, str_tokens=words, texts=texts, source={"task": "sequence"})


def _table(values: Values) -> Int[Tensor, "prompt given"]:
    rows: list = values.tolist() if isinstance(values, Tensor) else list(values)
    if not rows:
        raise InputError("values: expected at least one sequence, got none")
    if isinstance(rows[0], int):
        rows = [rows]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise InputError(f"values: expected sequences of one length, got lengths {lengths}")
    return torch.tensor(rows, dtype=torch.long).reshape(len(rows), lengths[0])


def _framed(tokens: Int[Tensor, "prompt given"], max_value: int) -> Int[Tensor, "prompt pos"]:
    """START and END around each row, where they do not stand around all rows yet."""
    if tokens.shape[1] < 2:
        return framed(tokens, max_value)
    there = (tokens[:, 0] == max_value + 1) & (tokens[:, -1] == max_value + 2)
    return tokens if bool(there.all()) else framed(tokens, max_value)
