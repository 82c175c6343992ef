"""Heads as users name them: `(9, 6)` or `"9.6"`, layer first."""

import re
from collections.abc import Sequence

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.sites import SITES, check_head, check_layer

Head = tuple[int, int]


def parse_head(config: Config, head: Head | str) -> Head:
    """A head of this model, its layer counted from the front. Raises InputError otherwise."""
    if isinstance(head, str):
        match = re.fullmatch(r"(-?\d+)\.(\d+)", head.strip())
        if not match:
            raise InputError(f"heads: {head!r} is not a head; write (9, 6) or '9.6', layer first")
        head = int(match[1]), int(match[2])
    if not isinstance(head, tuple) or len(head) != 2 or not all(isinstance(part, int) for part in head):
        raise InputError(f"heads: {head!r} is not a head; write (9, 6) or '9.6', layer first")
    return check_layer(config, head[0]), check_head(config, SITES["z"], head[1])


def parse_heads(config: Config, heads: Sequence[Head | str]) -> tuple[Head, ...]:
    """Heads of this model, in the order given.

    Raises:
        InputError: no head, one that the model lacks, or one that is named twice.
    """
    if isinstance(heads, str) or not heads:
        raise InputError(f"heads: expected a list such as [(9, 6), '9.9'], got {heads!r}")
    found = tuple(parse_head(config, head) for head in heads)
    check_once([head_name(head) for head in found])
    return found


def check_once(names: Sequence[str]) -> None:
    """Raises InputError where a name stands twice."""
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise InputError(f"heads: {twice} is named twice; name each head once")


def head_name(head: Head) -> str:
    """`9.6` for layer 9, head 6."""
    return f"{head[0]}.{head[1]}"
