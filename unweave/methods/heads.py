"""Heads as users name them: `(9, 6)`, `"9.6"` or `"L9H6"`, layer first.

At `k` and `v` the number is that of a key/value head, which several query heads may share. Where they do, results call
it `9.kv1`, and it may be written so.

Rows of `uw.top`, and the names that it prints (`"z 23.3"`, `"23.kv1"`), are taken wherever heads are.

The numbers may be Python's, numpy's or a tensor's, and the pair a tuple, a list or a row of an array, as other
libraries return them.
"""

import operator
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
from torch import Tensor

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.sites import SITES, check_head, check_layer
from unweave.results.top import Row, Top

Head = tuple[int, int]
# One head as a user writes it, and one or several, also as the rows of an array.
HeadName = str | Sequence[SupportsIndex] | np.ndarray | Tensor | Row
Heads = HeadName | Sequence[HeadName] | Top
# Knockouts one by one, each of one head or of those in a list of its own.
Knockouts = Heads | Sequence[Heads]

# A site may stand before it, as in addresses and in results of several sites.
_NAME = re.compile(r"(?:(?:z|q|pattern|result) )?(?:(-?\d+)\.(kv)?(\d+)|L(\d+)H(\d+))")


def parse_head(config: Config, head: HeadName, site: str = "z") -> Head:
    """A head of this model at a site, its layer counted from the front; at `k` and `v` a key/value head.

    Raises:
        InputError: what is no head, or a head that the site lacks.
    """
    if isinstance(head, str):
        match = _NAME.fullmatch(head.strip())
        numbers = [int(number) for number in match.groups() if number and number != "kv"] if match else []
        if match and match[2] and SITES[site].rows != "kv_head":
            raise InputError(f"heads: {head!r} is a key/value head, which k and v have; {site} has query heads: '9.6'")
    else:
        numbers = list(head) if is_head(head) else []  # pyright: ignore[reportArgumentType]
    if not numbers:
        raise InputError(f"heads: {head!r} is not a head; write (9, 6) or '9.6', layer first")
    return check_layer(config, numbers[0]), check_head(config, SITES[site], numbers[1])


def parse_heads(config: Config, heads: Heads) -> tuple[Head, ...]:
    """Heads of this model, in the order given.

    Raises:
        InputError: no head, one that the model lacks, or one that is named twice.
    """
    found = tuple(one for head in listed(heads) for one in _query_heads(config, head))
    if isinstance(heads, Top):  # of several sites and places it names a head several times
        found = tuple(dict.fromkeys(found))
    if not found:
        raise InputError(f"heads: expected a list such as [(9, 6), '9.9'], got {heads!r}")
    check_once([head_name(head) for head in found])
    return found


def _query_heads(config: Config, head: HeadName) -> list[Head]:
    """A head, wherever it was patched; of a key/value head, `"9.kv1"` or `"v 9.1"`, the query heads that share it."""
    name = head.partition(" @")[0].split() if isinstance(head, str) else []
    site = name[0] if len(name) == 2 and name[0] in ("k", "v") else "k" if ".kv" in "".join(name) else "z"
    if site == "z":
        return [parse_head(config, " ".join(name) or head)]
    layer, number = parse_head(config, name[-1], site)
    return [(layer, number * config.heads_per_kv + place) for place in range(config.heads_per_kv)]


def written(given: Any) -> Any:
    """A row of `uw.top` as the address that it names, `"k 9.kv1 @S2"`; anything else as it is."""
    if not isinstance(given, Row):
        return given
    unit, _, place = given.label.partition(" @ ")
    unit = unit.removeprefix(f"{given.site} ")
    alone = re.fullmatch(r"layer (\d+)|(\d+\.(?:kv)?\d+)|(\d+)\.n(\d+)", unit)
    if alone and given.site:
        unit = f"{given.site} {'.'.join(filter(None, alone.groups()))}"
    return f"{unit} @{place}" if place else unit


def listed(heads: Knockouts) -> list[Any]:
    """What was named, one thing or several, as a list. Raises InputError for what is neither."""
    if isinstance(heads, str | Row) or is_head(heads):
        return [written(heads)]
    if not isinstance(heads, Iterable):
        raise InputError(f"heads: expected a list such as [(9, 6), '9.9'], got {heads!r}")
    return [written(head) for head in heads]


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


def shared_note(config: Config, sites: Collection[str]) -> str:
    """What a result says of keys and values that query heads share; empty where no such site is among `sites`."""
    if not config.grouped or not {"k", "v"} & set(sites):
        return ""
    return f"heads of k and v are key/value heads, each shared by {config.heads_per_kv} query heads"


def head_name_at(config: Config, site: str, head: Head) -> str:
    """As `head_name`; `9.kv1` for a key/value head of a model whose query heads share them."""
    return f"{head[0]}.{'kv' if config.grouped and SITES[site].rows == 'kv_head' else ''}{head[1]}"
