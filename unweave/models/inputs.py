"""What users give as prompts: texts or token ids, in whatever holds them.

A list, a tuple, a generator, an array or a column of a table holds one entry per prompt. What iterates over something
else (a dict and a table over their names, a set in any order, a file over its lines) is refused, but for a tokenizer's
output: its `input_ids` are taken, without what its `attention_mask` leaves out.
"""

import textwrap
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from unweave.errors import InputError

_PROMPTS = "prompts, texts, token ids [prompt, pos], or a tokenizer's output"
_SEVERAL = "; a metric reads one answer per prompt: of several right ones, uw.Custom can sum the probabilities"


def column(name: str, given: object, n_prompts: int | None = None, of: str = "") -> list[Any]:
    """A column as a list, with an entry for each of `n_prompts`. Raises InputError naming the column otherwise."""
    wanted = f"{name}: expected {of or 'a list'}"
    if n_prompts is not None:
        wanted += f" with one entry for each of the {n_prompts} prompts"
    if hasattr(given, "columns"):
        raise InputError(f"{wanted}, got a table ({type(given).__name__}); give one of its columns")
    other = isinstance(given, (str, bytes, Mapping)) or hasattr(given, "read") or getattr(given, "ndim", 1) == 0
    if not isinstance(given, Iterable) or other:
        raise InputError(f"{wanted}, got {shown(given)}")
    if isinstance(given, Set):
        raise InputError(f"{wanted}, got {shown(given)}, which has no order; give a list")
    entries = given.tolist() if isinstance(given, (Tensor, np.ndarray)) else list(given)
    if not entries and n_prompts is None:
        raise InputError(f"{name}: expected at least one entry, got none")
    if n_prompts is not None and len(entries) != n_prompts:
        raise InputError(f"{wanted}, got {len(entries)}")
    return entries


def numbers(name: str, given: object, n_prompts: int) -> Int[Tensor, " prompt"]:
    """A column of whole numbers. Raises InputError naming the column and the prompt that has none."""
    entries = column(name, given, n_prompts)
    for number, entry in enumerate(entries, start=1):
        if not _is_whole(entry):
            several = _SEVERAL if name in ("answers", "wrong") and isinstance(entry, (Set, list, tuple)) else ""
            raise InputError(
                f"{name}: expected a whole number for each prompt, got {shown(entry)} for prompt {number}{several}"
            )
    return torch.tensor([int(entry) for entry in entries], dtype=torch.long)


def texts_of(given: object) -> list[str] | None:
    """The texts that are given, or None if it is token ids. Raises InputError for what is neither."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, Tensor) or (isinstance(given, Mapping) and "input_ids" in given):
        return None
    entries = column("prompts", given, of=_PROMPTS)
    strange = next((n for n, entry in enumerate(entries) if not isinstance(entry, str)), None)
    if strange is None:
        return entries
    rows = all(isinstance(entry, (list, tuple, Tensor, np.ndarray)) for entry in entries)
    if not rows or getattr(given, "ndim", 2) != 2:
        hint = "; the ids of one prompt are [[…]]" if _is_whole(entries[strange]) else ""
        raise InputError(f"prompts: expected {_PROMPTS}, got {shown(entries[strange])} as prompt {strange + 1}{hint}")
    return None


def token_rows(given: object) -> tuple[Int[Tensor, "prompt pos"], Int[Tensor, " prompt"]]:
    """Token ids right-padded with 0, and how many of each row count.

    Rows that are not equally long, and what a tokenizer pads on either side, are put at the beginning of their row.

    Raises:
        InputError: no ids, an empty row, ids that are not whole numbers, or a mask that leaves out the middle of a row.
    """
    if isinstance(given, Mapping):
        return _of_tokenizer(given)
    if isinstance(given, (Tensor, np.ndarray)) and given.dtype != object:
        tokens = torch.as_tensor(given)
        if tokens.ndim != 2 or 0 in tokens.shape:
            hint = "; the ids of one prompt are tokens[None]" if tokens.ndim == 1 else ""
            raise InputError(
                f"tokens: expected [prompt, pos] with at least one of each, got shape {tuple(tokens.shape)}{hint}"
            )
        return _whole(tokens), torch.full((len(tokens),), tokens.shape[1])
    rows = [_row(entry, n) for n, entry in enumerate(column("tokens", given, of="rows of token ids"), start=1)]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def shown(given: object) -> str:
    """A value as a message names it: short, with its type."""
    if isinstance(given, type):
        return f"the class {given.__name__}"
    return f"{textwrap.shorten(repr(given), 60, placeholder=' …')} ({type(given).__name__})"


def _of_tokenizer(given: Mapping) -> tuple[Int[Tensor, "prompt pos"], Int[Tensor, " prompt"]]:
    """The `input_ids` that the `attention_mask` keeps; those of a single text are one row."""
    if "input_ids" not in given:
        raise InputError(f"tokens: expected token ids under 'input_ids', got {shown(given)}")
    ids, mask = given["input_ids"], given.get("attention_mask")
    if len(ids) and _is_whole(ids[0]):
        ids, mask = [ids], None if mask is None else [mask]
    tokens, lengths = token_rows(ids)
    if mask is None:
        return tokens, lengths
    try:
        marks = [torch.tensor([bool(mark) for mark in row]) for row in mask]
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"attention_mask: expected a row of 0 and 1 per prompt, got {shown(mask)}") from error
    if [len(row) for row in marks] != lengths.tolist():
        raise InputError("attention_mask: expected one entry for each of the input_ids")
    kept = [row.nonzero()[:, 0] for row in marks]
    for number, at in enumerate(kept, start=1):
        if len(at) == 0 or len(at) != int(at[-1] - at[0]) + 1:
            raise InputError(
                f"attention_mask: prompt {number} has {'no token' if len(at) == 0 else 'gaps between its tokens'}; "
                "only padding before or after a prompt can be left out"
            )
    return token_rows([row[at] for row, at in zip(tokens, kept, strict=True)])


def _row(entry: object, number: int) -> Int[Tensor, " pos"]:
    if isinstance(entry, (Tensor, np.ndarray)) or (isinstance(entry, (list, tuple)) and all(map(_is_whole, entry))):
        row = torch.as_tensor(entry)
        if row.ndim == 1 and len(row):
            return _whole(row)
    hint = "; the ids of one prompt are [[…]]" if _is_whole(entry) else ""
    raise InputError(
        f"tokens: expected a row of token ids for each prompt, got {shown(entry)} for prompt {number}{hint}"
    )


def _whole(tokens: Tensor) -> Tensor:
    if tokens.dtype == torch.bool or tokens.is_floating_point() or tokens.is_complex():
        raise InputError(f"tokens: expected token ids, which are whole numbers, got {tokens.dtype}")
    return tokens.long()


def _is_whole(entry: object) -> bool:
    if isinstance(entry, Tensor):
        return entry.ndim == 0 and not (entry.is_floating_point() or entry.dtype == torch.bool)
    return isinstance(entry, (int, np.integer)) and not isinstance(entry, bool)
