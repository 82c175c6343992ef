"""What a study is: settings, and steps over public calls, each with its place in the report; and how it is carried out.

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
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.errors import InputError, Interrupted
from unweave.methods.head_types import HeadTypes
from unweave.progress import Progress, shown
from unweave.results import save
from unweave.views.blocks import Block, Fact, Table

Result = xr.DataArray | xr.Dataset | xr.DataTree | Circuit | HeadTypes
# A step knows what kind of result the steps before it made.
Results = Mapping[str, Any]
Report = Progress | bool
Item = TypeVar("Item")
FOLDER = "results"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a study is run with; its report repeats it.

    `task` is a name of `unweave.tasks.TASKS`, a study of its own, or a file of pairs. `prompts` is the number that the
    sweeps take. `model`, `seed`, `corruption` and `bos` are the study's usual ones if None. `config` is the shape of a
    model that is weights only. `anyway` goes on if the model does not do the task.
    """

    task: str = "ioi"
    model: str | None = None
    config: Path | None = None
    prompts: int | None = None
    seed: int | None = None
    corruption: str | None = None
    out: Path = Path("report")
    device: str | None = None
    dtype: str = "float32"
    bos: bool | None = None
    quick: bool = False
    anyway: bool = False


@dataclass(frozen=True)
class Step:
    """One result of a study.

    Args:
        name: of the result and its file.
        title: what is done, as it is told.
        make: from the results so far, and what to report progress to.
        long: a quick study leaves it out.
        section: of the report; the method's, if left out.
        finding: what the result shows, in a line, from the results so far; if left out, what its picture's title says.
        blocks: what the report shows, from all results; the result's pictures, if left out.
    """

    name: str
    title: str
    make: Callable[[Results, Report], Result]
    long: bool = False
    section: str = ""
    finding: Callable[[Results], str] | None = None
    blocks: Callable[[Results], Sequence[Block]] | None = None


@dataclass(frozen=True, kw_only=True)
class Study:
    """An investigation of one task in one model. What is a function of results is given all that there are in the end.

    Args:
        settings: what it is run with.
        title, question: of the report.
        steps: in order.
        table: the settings, as the report repeats them.
        about: facts of model and prompts.
        shortfall: why the model does not do the task, or "".
        answers: how many of the steps are carried out even then, since they say what the model answers.
        facts: of the answer, most important first.
        texts: paragraphs of the report's sections, by section.
        blocks: what stands in a section before the steps' blocks, by section.
        device: that the model is on.
        drawing: stands in the answer.
        first, last: told before the first step, and after the last.
        shorter: what a quick study leaves out of its steps.
    """

    settings: Settings
    title: str
    question: str
    steps: Sequence[Step]
    table: Callable[[Results], Table]
    about: Callable[[Results], Sequence[Fact]]
    shortfall: str = ""
    answers: int = 0
    facts: Callable[[Results], Sequence[Fact]]
    texts: Callable[[Results], Mapping[str, Sequence[str]]]
    blocks: Callable[[Results], Mapping[str, Sequence[Block]]] = lambda found: {}
    device: str
    drawing: Callable[[Results], Block | None] = lambda found: None
    first: str = ""
    last: Callable[[Results], str] = lambda found: ""
    shorter: Sequence[str] = ()

    @property
    def stays(self) -> bool:
        """Whether the study ends with what the model answers, as it does not do the task."""
        return bool(self.shortfall) and not self.settings.anyway


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


def needed(found: Results, name: str) -> Any:
    """An earlier step's result. Raises InputError if there is none."""
    if name not in found:
        raise InputError(f"it needs the result `{name}`, which was left out")
    return found[name]


def each(items: Sequence[Item], report: Report) -> Iterator[Item]:
    """The items, with progress after each."""
    for n, item in enumerate(items, start=1):
        yield item
        if callable(report):
            report(n, len(items))


def carry_out(steps: Sequence[Step], out: Path, tell: Callable[[Step, Record], None]) -> Record:
    """Results of the steps.

    Args:
        steps: in order.
        out: the study's folder; results go to `results/` in it.
        tell: called after each step that has a result, with the record so far.
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


def _carry_out(step: Step, record: Record, folder: Path, tell: Callable[[Step, Record], None]) -> None:
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
    tell(step, record)


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
