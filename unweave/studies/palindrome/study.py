"""Runs the palindrome study: asks the model, carries out the steps, writes the report."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from unweave.studies.palindrome.behaviour import right
from unweave.studies.palindrome.palindrome_findings import FINDINGS, shortfall
from unweave.studies.palindrome.palindrome_report import palindrome_report
from unweave.studies.palindrome.steps import palindrome_steps
from unweave.studies.palindrome.subject import PalindromeSettings, ask
from unweave.studies.plan import Result, Step, carry_out, reported
from unweave.views.report import write

BY_QUICK = "left out by --quick"
# The first steps: what the model answers.
N_ANSWERS = 2


class PalindromeOutcome(NamedTuple):
    """The report, and why nothing was swept, if nothing was."""

    path: Path
    shortfall: str = ""


def study_palindrome(settings: PalindromeSettings, tell: Callable[[str], None] = print) -> PalindromeOutcome:
    """Run the study, save its results and write its report.

    Args:
        settings: model, sequences, seed, and the folder that everything goes to.
        tell: gets a line for each finding, as soon as it is there.

    Returns:
        The report, `index.html` in the folder. Where the model does not do the task, only its answers were looked at,
        and `shortfall` says why, unless the settings say to go on anyway.

    Raises:
        InputError, ModelError: settings that cannot be met.
        Interrupted: Ctrl-C; the report holds what was finished by then.
    """
    start = time.perf_counter()
    subject = ask(settings)
    lacks = shortfall(right(subject))
    stays = bool(lacks) and not settings.anyway
    every = palindrome_steps(subject)
    # Of a model that does not do the task, only what it answers is looked at: nothing else means anything.
    steps = every[:N_ANSWERS] if stays else [step for step in every if not (settings.quick and step.long)]
    found: dict[str, Result] = {}

    def said(step: Step, result: Result, seconds: float) -> None:
        found[step.name] = result
        tell(f"{step.title} ({seconds:.0f} s): {FINDINGS[step.name](found)}")

    record = carry_out(steps, settings.out, said)
    record.left_out |= {step.title: BY_QUICK for step in every if settings.quick and step.long and not stays}
    with reported(record, len(steps), settings.out) as path:
        write(palindrome_report(subject, record, time.perf_counter() - start, lacks), path)
    tell(f"The report: {path}")
    return PalindromeOutcome(path, lacks if stays else "")
