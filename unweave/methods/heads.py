"""Heads as users name them: `(9, 6)`, `"9.6"` or `"L9H6"`, layer first.

The numbers may be Python's, numpy's or a tensor's, and the pair a tuple, a list or a row of an array, as other
libraries return them.
"""

import operator
import re
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

import numpy as np
from torch import Tensor

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.sites import SITES, check_head, check_layer

Head = tuple[int, int]
# One head as a user writes it, and one or several, also as the rows of an array.
HeadName = str | Sequence[SupportsIndex] | np.ndarray | Tensor
Heads = HeadName | Sequence[HeadName]

_NAME = re.compile(r"(-?\d+)\.(\d+)|L(\d+)H(\d+)")


def parse_head(config: Config, head: HeadName) -> Head:
    """A head of this model, its layer counted from the front. Raises InputError otherwise."""
    if isinstance(head, str):
        match = _NAME.fullmatch(head.strip())
        numbers = [int(number) for number in match.groups() if number] if match else []
    else:
        numbers = list(head) if is_head(head) else []
    if not numbers:
        raise InputError(f"heads: {head!r} is not a head; write (9, 6) or '9.6', layer first")
    return check_layer(config, numbers[0]), check_head(config, SITES["z"], numbers[1])


def parse_heads(config: Config, heads: Heads) -> tuple[Head, ...]:
    """Heads of this model, in the order given.

    Raises:
        InputError: no head, one that the model lacks, or one that is named twice.
    """
    found = tuple(parse_head(config, head) for head in listed(heads))
    if not found:
        raise InputError(f"heads: expected a list such as [(9, 6), '9.9'], got {heads!r}")
    check_once([head_name(head) for head in found])
    return found


def listed(heads: Heads) -> list[HeadName]:
    """What was named, one thing or several, as a list. Raises InputError for what is neither."""
    if isinstance(heads, str) or is_head(heads):
        return [heads]  # pyright: ignore[reportReturnType]
    if not isinstance(heads, Iterable):
        raise InputError(f"heads: expected a list such as [(9, 6), '9.9'], got {heads!r}")
    return list(heads)  # pyright: ignore[reportReturnType]


def is_head(given: object) -> bool:
    """Whether this is a pair of whole numbers."""
    try:
        numbers = [operator.index(number) for number in given]  # pyright: ignore[reportGeneralTypeIssues]
    except TypeError:
        return False
    return len(numbers) == 2


def is_head_name(text: str) -> bool:
    """Whether a text is written as a head's name."""
    return _NAME.fullmatch(text.strip()) is not None


def check_once(names: Sequence[str]) -> None:
    """Raises InputError where a name stands twice."""
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise InputError(f"heads: {twice} is named twice; name each head once")


def head_name(head: Head) -> str:
    """`9.6` for layer 9, head 6."""
    return f"{head[0]}.{head[1]}"
