"""What is measured: the sweeps and the paths, how often they patch, and how much faster than the other side they should
be.
"""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from unweave.models.config import Config

SWAP = "swap"
ABC = "ABC"


# A head's input: layer, head, and `q`, `k` or `v`.
Input = tuple[int, int, str]


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


@dataclass(frozen=True)
class Paths:
    """One call of `uw.path_patch` with every head as sender, and the other side's loop that gives the same table.

    `receivers` are heads' inputs at all positions, in the order of their layers; none stands for the logits.
    """

    name: str
    receivers: tuple[Input, ...]
    goal: Mapping[str, float]
    over: tuple[str, ...] = ("layer", "head")

    def cells(self, config: Config, n_pos: int) -> list[Cell]:
        """Every head that comes before a receiver: nobody would run the others."""
        layers = range(max((layer for layer, _, _ in self.receivers), default=config.n_layers))
        return [Cell("z", index) for index in itertools.product(layers, range(config.n_heads))]


# The heads of SmolLM2 that act most through the queries of its name movers (23.3, 23.0, 29.1, 29.0) at the end, when S2
# is swapped, each with keys and values of its own: what the S-inhibition heads are in GPT-2 small.
S_INHIBITION = ((19, 2, "v"), (20, 0, "v"), (20, 5, "v"), (21, 5, "v"))

SWEEPS: tuple[Sweep | Paths, ...] = (
    Sweep("residual", ("resid_pre",), ("layer", "pos"), {SWAP: 40, ABC: 8}),
    Sweep("heads", ("z",), ("layer", "head"), {SWAP: 10, ABC: 3.5}),
    Sweep("five-sites", ("z", "q", "k", "v", "pattern"), ("layer", "head"), {SWAP: 10, ABC: 3.5}),
    Sweep("heads-by-position", ("z",), ("layer", "head", "pos"), {SWAP: 40, ABC: 8}),
    Paths("paths", (), {SWAP: 80, ABC: 80}),
    Paths("paths-to-values", S_INHIBITION, {SWAP: 12, ABC: 5}),
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
