"""What is measured: the sweeps, how often they patch, and how much faster than the other side they should be."""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from unweave.models.config import Config

SWAP = "swap"
ABC = "ABC"


class Cell(NamedTuple):
    """One patch: the activation, and where it is patched (`layer`, `head`, `pos`)."""

    site: str
    index: tuple[int, ...]


@dataclass(frozen=True)
class Sweep:
    """One call of `uw.patch`, and the loop of the other side that gives the same table.

    `goal` is the ratio of the two times to reach, by corruption.
    """

    name: str
    sites: tuple[str, ...]
    over: tuple[str, ...]
    goal: Mapping[str, float]

    def cells(self, config: Config, n_pos: int) -> list[Cell]:
        """Every patch of the sweep, site by site. Keys and values have one head for each group of query heads."""
        return [
            Cell(site, index)
            for site in self.sites
            for index in itertools.product(*(range(_size(axis, site, config, n_pos)) for axis in self.over))
        ]


SWEEPS = (
    Sweep("residual", ("resid_pre",), ("layer", "pos"), {SWAP: 40, ABC: 8}),
    Sweep("heads", ("z",), ("layer", "head"), {SWAP: 10, ABC: 3.5}),
    Sweep("five-sites", ("z", "q", "k", "v", "pattern"), ("layer", "head"), {SWAP: 10, ABC: 3.5}),
    Sweep("heads-by-position", ("z",), ("layer", "head", "pos"), {SWAP: 40, ABC: 8}),
)


def pick(cells: list[Cell], sample: int, seed: int) -> list[Cell]:
    """`sample` of the cells at random, in their order; all of them where `sample` is 0 or not smaller."""
    if sample == 0 or sample >= len(cells):
        return cells
    chosen = random.Random(seed).sample(range(len(cells)), sample)
    return [cells[at] for at in sorted(chosen)]


def _size(axis: str, site: str, config: Config, n_pos: int) -> int:
    heads = config.n_kv_heads if site in ("k", "v") else config.n_heads
    return {"layer": config.n_layers, "head": heads, "pos": n_pos}[axis]
