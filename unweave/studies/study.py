"""A study: a whole investigation of one task in one model, its results in files, and its report.

1. The model, the prompts and their baselines.
2. Whether the model does the task; where it does not, the study ends here, with a report that says so.
3. The steps: those of `unweave.studies.standard`, and a task's own.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unweave.results import top
from unweave.studies.findings import N_LEADING, finding_of
from unweave.studies.gate import shortfall
from unweave.studies.ioi import IOI
from unweave.studies.plan import Record, Step, carry_out, reported
from unweave.studies.standard import BY_QUICK, SHORTER, standard_steps
from unweave.studies.study_report import study_report, task_line
from unweave.studies.subject import Kind, Settings, Subject, ask
from unweave.views.report import write

# Of tasks whose study has something of its own.
KINDS = {"ioi": IOI}


@dataclass(frozen=True)
class Outcome:
    """Where the report is; `shortfall` says why the task was not studied, and is empty where it was."""

    report: Path
    shortfall: str = ""


def study(settings: Settings, tell: Callable[[str], None] = print) -> Outcome:
    """Run a study, save its results and write its report.

    Args:
        settings: task, model, prompts, seed, corruption, and the folder that everything goes to.
        tell: gets a line for each finding, as soon as it is there.

    Returns:
        The report, `index.html` in the folder. Where the model does not do the task and the settings do not say
        `anyway`, nothing was swept, and `shortfall` says why.

    Raises:
        InputError, ModelError: settings that cannot be met.
        Interrupted: Ctrl-C; the report holds what was finished by then.
    """
    start = time.perf_counter()
    subject = ask(settings, KINDS.get(settings.task, Kind()))
    tell(task_line(subject))
    lacks = shortfall(subject.checked)
    stays = bool(lacks) and not settings.anyway
    steps, record = plan(subject), Record()
    if stays:
        record.left_out = {"every sweep": "the model does not do the task; --anyway goes on"}
    else:
        record = _carried_out(subject, steps, tell)
    with reported(record, len(steps), settings.out) as path:
        write(study_report(subject, record, time.perf_counter() - start, lacks), path)
    if "heads" in record.results:
        tell(str(top(record.results["heads"]["z"], N_LEADING)))
    tell(f"The report: {path}")
    return Outcome(path, lacks if stays else "")


def plan(subject: Subject) -> list[Step]:
    """The standard steps, and the task's own among them."""
    steps, own = standard_steps(subject), subject.kind.own_steps
    return own(subject, steps) if own else steps


def _carried_out(subject: Subject, steps: list[Step], tell: Callable[[str], None]) -> Record:
    quick = subject.settings.quick
    record = carry_out(
        [step for step in steps if not (quick and step.long)],
        subject.settings.out,
        lambda step, result, seconds: tell(f"{step.title} ({seconds:.0f} s): {finding_of(result)}"),
    )
    if quick:
        record.left_out |= {step.title: BY_QUICK for step in steps if step.long} | SHORTER
    return record
