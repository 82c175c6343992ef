"""One line of the table: a sweep on one corruption, by both sides, in this process."""

from dataclasses import dataclass
from typing import Any

import torch

import unweave as uw
from benchmarks import by_hand, ours, their_paths, theirs
from benchmarks.machine import product_rate
from benchmarks.needed import operations
from benchmarks.sweeps import Cell, Paths, Sweep, pick

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Options:
    """`sample` patches of the other side's loop (0: all), `repeats` of our sweep, each within `memory` bytes."""

    sample: int
    repeats: int
    memory: int
    seed: int


@dataclass(frozen=True)
class Rate:
    """Operations that the sweep needs, operations a second that it reached, and those of a large matrix product."""

    needed: int
    reached: float
    machine: float

    @property
    def share(self) -> float:
        return self.reached / self.machine


@dataclass(frozen=True)
class Row:
    """Seconds of both sides (theirs scaled from `sampled` to all `patches`), and their effects' largest difference.

    Both run the two prompt sets once before the clock, which takes the seconds `before`.
    """

    corruption: str
    sweep: str
    patches: int
    sampled: int
    theirs_seconds: float
    ours_seconds: float
    ours_times: tuple[float, ...]
    theirs_before: float
    ours_before: float
    goal: float
    difference: float
    peak_bytes: int
    memory_bytes: int
    rate: Rate
    hand_seconds: float | None = None

    @property
    def hand_ratio(self) -> float | None:
        """How much faster than hooks on transformers' model, 32 patches a pass; None if those do not reach it all."""
        return None if self.hand_seconds is None else self.hand_seconds / self.ours_seconds

    @property
    def ratio(self) -> float:
        return self.theirs_seconds / self.ours_seconds

    @property
    def whole_ratio(self) -> float:
        """The ratio with the runs that stand before the clock."""
        return (self.theirs_before + self.theirs_seconds) / (self.ours_before + self.ours_seconds)

    @property
    def agrees(self) -> bool:
        return self.difference <= TOLERANCE


def compare(
    pair: uw.Contrast, reference: theirs.Reference, hf: Any, corruption: str, sweep: Sweep | Paths, options: Options
) -> Row:
    """Run a sweep on both sides, and by hand on transformers' model `hf` if that can be."""
    cells = sweep.cells(pair.model.config, pair.prompts.tokens.shape[1])
    chosen = pick(cells, options.sample, options.seed)
    mine = ours.run(pair, sweep, options.memory, options.repeats)
    rate = _rate(pair, sweep, mine.seconds)
    loop = _loop(reference, chosen, sweep)
    distances = [_distance(ours.effect_at(mine.result, sweep.over, cell), loop.effects[cell]) for cell in chosen]
    return Row(
        corruption=corruption,
        sweep=sweep.name,
        patches=len(cells),
        sampled=len(chosen),
        theirs_seconds=loop.seconds * len(cells) / len(chosen),
        ours_seconds=mine.seconds,
        ours_times=mine.times,
        theirs_before=loop.before,
        ours_before=mine.before,
        goal=sweep.goal[corruption],
        difference=max(distances),
        peak_bytes=mine.peak_bytes,
        memory_bytes=options.memory,
        rate=rate,
        hand_seconds=_by_hand(pair, hf, sweep, cells, chosen),
    )


def _loop(reference: theirs.Reference, cells: list[Cell], sweep: Sweep | Paths) -> theirs.Loop:
    if isinstance(sweep, Paths):
        return their_paths.run(reference, cells, sweep.receivers)
    return theirs.run(reference, cells, sweep.over)


def _by_hand(pair: uw.Contrast, hf: Any, sweep: Sweep | Paths, cells: list[Cell], chosen: list[Cell]) -> float | None:
    """Seconds of all patches, scaled from those chosen, whole passes of them."""
    if not by_hand.can(sweep):
        return None
    whole = chosen[: max(1, len(chosen) // by_hand.PATCHES) * by_hand.PATCHES]
    passes = by_hand.run(hf, pair.prompts, pair.corrupted, whole, sweep.over)
    return passes.seconds * len(cells) / len(whole)


def _rate(pair: uw.Contrast, sweep: Sweep | Paths, seconds: float) -> Rate:
    needed = operations(pair.model.config, sweep, pair.prompts, pair.corrupted)
    return Rate(needed, needed / seconds, product_rate())


def _distance(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left.double() - right.double()).abs().max())
