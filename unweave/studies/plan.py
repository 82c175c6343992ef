"""A plan of steps, carried out in order: results are saved as they come, and Ctrl-C ends the plan, not the study.

1. A step makes one result, from the results before it if need be.
2. It is saved under `results/` in the study's folder: `NAME.nc`, or `NAME.json` for a circuit.
3. A step that does not fit this model or these prompts says why, and is left out. Ctrl-C leaves out the rest; what the
   step had finished by then is saved as `NAME.partial.nc` (`.json`).
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.errors import InputError, Interrupted
from unweave.methods.head_types import HeadTypes
from unweave.progress import Progress, shown
from unweave.results import save

Result = xr.DataArray | xr.Dataset | xr.DataTree | Circuit | HeadTypes
# A step knows what kind of result the steps before it made.
Results = Mapping[str, Any]
FOLDER = "results"


@dataclass(frozen=True)
class Step:
    """One result of a study. `make` gets the results so far and what to report progress to. A quick study leaves out
    the steps that are `long`.
    """

    name: str
    title: str
    make: Callable[[Results, Progress | bool], Result]
    long: bool = False


@dataclass
class Record:
    """What a study has found so far, and how: results, their files and seconds by step, reasons of what was left out,
    warnings.
    """

    results: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
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
        for suffix in (".nc", ".json"):
            for name in (step.name, f"{step.name}.partial"):
                (folder / f"{name}{suffix}").unlink(missing_ok=True)
    record = Record()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for place, step in enumerate(steps):
            try:
                _carry_out(step, record, folder, tell)
            except KeyboardInterrupt as stop:
                record.stopped = step.name
                kept = _keep_partial(stop, folder, f"{step.name}.partial")
                for other in steps[place:]:
                    record.left_out[other.title] = "the study was stopped before it"
                record.left_out[step.title] = f"the study was stopped in it{kept}"
                break
        record.warned = list(dict.fromkeys(f"{w.category.__name__}: {w.message}" for w in caught))
    return record


def _carry_out(step: Step, record: Record, folder: Path, tell: Callable[[Step, Result, float], None]) -> None:
    start = time.perf_counter()
    try:
        with shown(None, step.title) as progress:
            result = step.make(record.results, progress or False)
    except InputError as error:
        record.left_out[step.title] = str(error)
        return
    record.files[step.name] = keep(result, folder, step.name)
    record.results[step.name] = result
    record.seconds[step.name] = time.perf_counter() - start
    tell(step, result, record.seconds[step.name])


@contextmanager
def reported(record: Record, n_steps: int, out: Path) -> Iterator[Path]:
    """The place of the report, which is written in the block.

    Raises:
        Interrupted: Ctrl-C, in a step or now: how many steps were finished, and where they are.
    """
    page, done = out / "index.html", f"{len(record.results)} of {n_steps} steps were finished"
    try:
        yield page
    except KeyboardInterrupt:
        where = f"{out / FOLDER}, without a report"
        raise Interrupted(f"while the report was written; {done} and are in {where}", record.results) from None
    if record.stopped:
        raise Interrupted(f"in the step {record.stopped!r}; {done} and are in {page}", record.results)


def keep(result: Result, folder: Path, name: str) -> Path:
    """Saves a result under `name`, with the suffix of its kind. Of named heads their measures are kept."""
    if isinstance(result, Circuit):
        return result.save(folder / f"{name}.json")
    return save(result.measures if isinstance(result, HeadTypes) else result, folder / f"{name}.nc")


def _keep_partial(stop: KeyboardInterrupt, folder: Path, name: str) -> str:
    partial = stop.partial if isinstance(stop, Interrupted) else None
    if isinstance(partial, Circuit) or (isinstance(partial, xr.DataTree) and partial.children):
        return f"; what it had found is in {FOLDER}/{keep(partial, folder, name).name}"
    share = finished(partial) if isinstance(partial, (xr.DataArray, xr.Dataset)) else 0.0
    if not share:
        return ""
    return f"; {share:.0%} of it is in {FOLDER}/{keep(partial, folder, name).name}"  # type: ignore[arg-type]


def finished(result: object) -> float:
    """The share of a result's cells that were reached."""
    if result is None:
        return 0.0
    arrays = [np.asarray(part) for part in (result.data_vars.values() if isinstance(result, xr.Dataset) else [result])]
    return sum(int(np.isfinite(part).sum()) for part in arrays) / max(1, sum(part.size for part in arrays))
