"""`unweave study`: a whole investigation of one task in one model, its results in files, and its report.

1. The model, the prompts and their baselines.
2. Whether the model does the task; if not, only what it answers is looked at, and the report says why.
3. The steps, each told as soon as it is done.

A study with steps of its own is a function from settings to a `Study`, and its line in `STUDIES`; every other task of
pairs gets the standard one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from unweave.errors import InputError, did_you_mean
from unweave.studies.findings import finding_of
from unweave.studies.ioi import ioi_study
from unweave.studies.palindrome.palindrome_study import palindrome_study
from unweave.studies.plan import Record, Settings, Step, Study, carry_out, reported
from unweave.studies.standard import standard_study
from unweave.studies.study_report import report_of
from unweave.tasks import TASKS
from unweave.tasks.pair_files import SUFFIXES
from unweave.views.page import write_page

BY_QUICK = "left out by --quick"


@dataclass(frozen=True)
class StudyKind:
    """What makes a study, and which settings it has no use for, with the reason."""

    make: Callable[[Settings], Study]
    refuses: dict[str, str] = field(default_factory=lambda: {"config": "it goes with `study palindrome` only"})


_NO_CHOICE = "`study palindrome` has none to choose"
STUDIES = {
    "ioi": StudyKind(ioi_study),
    "palindrome": StudyKind(palindrome_study, {"corruption": _NO_CHOICE, "bos": _NO_CHOICE}),
}
STANDARD = StudyKind(standard_study)


@dataclass(frozen=True)
class Outcome:
    """Where the report is; `shortfall` says why the task was not studied, and is empty if it was."""

    report: Path
    shortfall: str = ""


def study(settings: Settings, tell: Callable[[str], None] = print) -> Outcome:
    """Run a study, save its results and write its report.

    Args:
        settings: task, model, prompts, seed, corruption, and the folder that everything goes to.
        tell: gets a line for each finding, as soon as it is there.

    Returns:
        The report, `index.html` in the folder. If the model does not do the task and the settings do not say `anyway`,
        only its answers were looked at, and `shortfall` says why.

    Raises:
        InputError, ModelError: settings that cannot be met.
        Interrupted: Ctrl-C; the report holds what was finished by then.
    """
    start = time.perf_counter()
    check(settings)
    plan = STUDIES.get(settings.task, STANDARD).make(settings)
    if plan.first:
        tell(plan.first)
    steps = (
        plan.steps[: plan.answers]
        if plan.stays
        else [step for step in plan.steps if not (settings.quick and step.long)]
    )

    def told(step: Step, record: Record) -> None:
        found = record.results
        finding = step.finding(found) if step.finding else finding_of(found[step.name])
        tell(f"{step.title} ({record.seconds[step.name]:.0f} s): {finding}")

    record = carry_out(steps, settings.out, told) if steps else Record()
    if plan.stays:
        record.left_out["every sweep"] = "the model does not do the task; --anyway goes on"
    elif settings.quick:
        record.left_out |= {step.title: BY_QUICK for step in plan.steps if step.long}
        record.left_out |= dict.fromkeys(plan.shorter, BY_QUICK)
    with reported(record, len(steps), settings.out) as path:
        write_page(report_of(plan, record, time.perf_counter() - start), path)
    if plan.last(record.results):
        tell(plan.last(record.results))
    tell(f"The report: {path}")
    return Outcome(path, plan.shortfall if plan.stays else "")


def check(settings: Settings) -> None:
    """Raises InputError for a task that is not known, or an option that its study does not have; nothing is loaded."""
    task, known = settings.task, {**TASKS, **STUDIES}
    if task not in known and not Path(task).suffix:
        raise InputError(
            f"TASK: there is no {task!r}.{did_you_mean(task, known)} Choose among {', '.join(known)}; or give a file "
            f"of pairs: {', '.join(SUFFIXES)}"
        )
    if task not in known and (Path(task).suffix not in SUFFIXES or not Path(task).is_file()):
        raise InputError(f"task: there is no file {task}; a file of pairs ends in {', '.join(SUFFIXES)}")
    for name, why in STUDIES.get(task, STANDARD).refuses.items():
        if getattr(settings, name) is not None:
            raise InputError(f"{name}: {why}; leave --{name} out")
