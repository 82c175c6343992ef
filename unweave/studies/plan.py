"""A plan of steps, carried out in order: results are saved as they come, and Ctrl-C ends the plan, not the study.

1. A step makes one result, from the results before it if need be.
2. It is saved under `results/` in the study's folder.
3. A step that does not fit this model or these prompts says why, and is left out. Ctrl-C leaves out the rest; what a
   sweep had finished by then is saved as `NAME.partial.nc`.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from unweave.errors import InputError, Interrupted
from unweave.progress import Progress, shown
from unweave.results import save

Result = xr.DataArray | xr.Dataset
Results = Mapping[str, Result]
FOLDER = "results"


@dataclass(frozen=True)
class Step:
    """One result of a study. `make` gets the results so far and what to report progress to."""

    name: str
    title: str
    make: Callable[[Results, Progress | bool], Result]


@dataclass
class Record:
    """What a study has found so far, and how: results and seconds by step, reasons of what was left out, warnings."""

    results: dict[str, Result] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    warned: list[str] = field(default_factory=list)
    stopped: str = ""


def carry_out(steps: Sequence[Step], out: Path, tell: Callable[[Step, Result, float], None]) -> Record:
    """Results of the steps.

    Args:
        steps: in order.
        out: the study's folder; results go to `results/` in it.
        tell: called with each step, its result and its seconds.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:  # what an earlier study left here is not what this report will show
        for name in (f"{step.name}.nc", f"{step.name}.partial.nc"):
            (folder / name).unlink(missing_ok=True)
    record = Record()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for place, step in enumerate(steps):
            try:
                _carry_out(step, record, folder, tell)
            except KeyboardInterrupt as stop:
                record.stopped = step.name
                kept = _keep_partial(stop, folder / f"{step.name}.partial.nc")
                for other in steps[place:]:
                    record.left_out[other.name] = "the study was stopped before it"
                record.left_out[step.name] = f"the study was stopped in it{kept}"
                break
        record.warned = list(dict.fromkeys(f"{w.category.__name__}: {w.message}" for w in caught))
    return record


def _carry_out(step: Step, record: Record, folder: Path, tell: Callable[[Step, Result, float], None]) -> None:
    start = time.perf_counter()
    try:
        with shown(None, step.title) as progress:
            result = step.make(record.results, progress or False)
    except InputError as error:
        record.left_out[step.name] = str(error)
        return
    save(result, folder / f"{step.name}.nc")
    record.results[step.name] = result
    record.seconds[step.name] = time.perf_counter() - start
    tell(step, result, record.seconds[step.name])


def _keep_partial(stop: KeyboardInterrupt, path: Path) -> str:
    partial = stop.partial if isinstance(stop, Interrupted) else None
    share = finished(partial)
    if not share:
        return ""
    save(partial, path)  # type: ignore[arg-type]
    return f"; {share:.0%} of it is in {FOLDER}/{path.name}"


def finished(result: object) -> float:
    """The share of a result's cells that were reached."""
    if result is None:
        return 0.0
    arrays = [np.asarray(part) for part in (result.data_vars.values() if isinstance(result, xr.Dataset) else [result])]
    return sum(int(np.isfinite(part).sum()) for part in arrays) / max(1, sum(part.size for part in arrays))
