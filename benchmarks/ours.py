"""Our side: `uw.patch` or `uw.path_patch` on the same prompts, its time, its peak memory, and the numbers."""

import time
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
import xarray as xr

import unweave as uw
from benchmarks.machine import peak_memory
from benchmarks.sweeps import Cell, Paths, Sweep

# Seconds after which a sweep is not run once more.
LONG = 60


@dataclass(frozen=True)
class Measured:
    """Seconds of each call, of making each contrast before it, the largest peak of memory among them, and the table."""

    times: tuple[float, ...]
    contrasts: tuple[float, ...]
    peak_bytes: int
    result: xr.DataArray | xr.Dataset

    @property
    def seconds(self) -> float:
        return median(self.times)

    @property
    def before(self) -> float:
        return median(self.contrasts)


def run(pair: uw.Contrast, sweep: Sweep | Paths, memory: int, repeats: int) -> Measured:
    """The sweep, `repeats` times or until `LONG` is over; timed is the one call.

    Each time the contrast is made anew, which runs both prompt sets: that stands before the clock, as their runs do,
    and what it keeps of the prompts counts as memory beyond the model.
    """
    times: list[float] = []
    contrasts: list[float] = []
    peaks: list[int] = []
    result: xr.DataArray | xr.Dataset = xr.Dataset()
    while len(times) < repeats and sum(times) < LONG:
        with peak_memory() as peak:
            begin = time.perf_counter()
            fresh = uw.Contrast(pair.model, pair.prompts, pair.corrupted, pair.metric)
            start = time.perf_counter()
            result = _ask(fresh, sweep, memory)
            times.append(time.perf_counter() - start)
            contrasts.append(start - begin)
        peaks.append(peak.bytes)
    return Measured(tuple(times), tuple(contrasts), max(peaks), result)


def _ask(pair: uw.Contrast, sweep: Sweep | Paths, memory: int) -> xr.DataArray | xr.Dataset:
    if isinstance(sweep, Sweep):
        return uw.patch(pair, list(sweep.sites), over=sweep.over, memory=memory, progress=False)
    return uw.path_patch(pair, sweep.receivers or "logits", memory=memory, progress=False)


def effect_at(result: xr.DataArray | xr.Dataset, over: tuple[str, ...], cell: Cell) -> torch.Tensor:
    """`[prompt]` effects of one patch."""
    table = result[cell.site] if isinstance(result, xr.Dataset) else result
    axes = [axis if axis in table.dims else "kv_head" for axis in over]
    values = table.sel(dict(zip(axes, cell.index, strict=True)))
    return torch.from_numpy(np.ascontiguousarray(values.values))
