"""`unweave evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unweave.cli import circuits, output, reading
from unweave.cli.circuit_page import write_page
from unweave.cli.options import Memory
from unweave.cli.question import Question, asking
from unweave.cli.terminal import stoppable
from unweave.errors import InputError, Interrupted

if TYPE_CHECKING:
    from unweave.methods.replacement import Replacement
    from unweave.metrics.contrast import Contrast

QUESTION = "Do these heads do the task by themselves, and is each of them needed?"


@stoppable
@asking
def run(
    circuit: Annotated[
        str, typer.Argument(help="A circuit's .json file, or a published one: ioi-gpt2-small, ioi-gpt2-small-naive.")
    ],
    question: Question,
    how: Annotated[
        Literal["template", "mean", "zero", "resample"] | None,
        typer.Option(help="What stands in for other heads; their mean by template where the task has templates."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            "--source",
            help="Whose means: clean, corrupted, or a number of prompts a template, drawn on as the task's own. "
            "Left out: the corrupted ones, drawn on where they are too few.",
        ),
    ] = None,
    lone: Annotated[
        Literal["refuse", "keep"],
        typer.Option(help="A template of one prompt, whose mean is that prompt: refuse it, or keep it as it is."),
    ] = "refuse",
    controls: Annotated[int, typer.Option(min=0, help="Random circuits of the same size.")] = 20,
    best: Annotated[int, typer.Option(min=0, help="Heads whose order is searched for, for the curve.")] = 6,
    subsets: Annotated[int, typer.Option(min=0, help="Random subsets, for completeness.")] = 10,
    searches: Annotated[int, typer.Option(min=0, help="Greedy searches, for completeness.")] = 2,
    steps: Annotated[int, typer.Option(min=0, help="Steps of each search.")] = 10,
    memory: Memory = None,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.nc and evaluation.html.")] = None,
) -> None:
    """Whether a circuit is one: faithful, complete and minimal, every other head ablated.

    Example: unweave evaluate found/circuit.json --prompts 16 --corruption ABC --out found
    """
    from unweave.circuits.evaluate import EvaluationOptions, evaluate
    from unweave.results import save

    if out is not None:
        for name in (circuits.SCORE, circuits.PAGE):
            output.check_file(out / name)
    tested = circuits.read(circuit)
    whose = _side_or_number(reference)
    budget = reading.memory(memory)
    effort = EvaluationOptions(controls=controls, best=best, subsets=subsets, searches=searches, steps=steps)
    pair = question.contrast()
    tested.check(pair)
    try:
        score = evaluate(tested, pair, how=_standing_in(pair, how, whose, lone), effort=effort, memory=budget)
    except Interrupted as stop:
        raise circuits.kept_score(stop, out) from None
    tests = circuits.tests_of(score)
    try:
        if out is not None:
            save(score, out / circuits.SCORE)
            (out / circuits.PARTIAL_SCORE).unlink(missing_ok=True)
            write_page(out / circuits.PAGE, QUESTION, tested, pair, list(tests.values()))
    except KeyboardInterrupt:
        raise Interrupted(f"the evaluation is kept in {out}; it was not drawn") from None
    finally:  # also where it cannot be kept: it was the work of minutes
        circuits.give_score(tests)
    if out is not None:
        output.say(f"kept in {out / circuits.SCORE}, shown in {out / circuits.PAGE}")


def _side_or_number(reference: str | None) -> str | int | None:
    if reference in (None, "clean", "corrupted"):
        return reference
    if not reference.isdecimal():
        raise InputError(f"--reference: expected clean, corrupted, or prompts a template such as 6, got {reference!r}")
    if int(reference) < 2:
        raise InputError(f"--reference: the mean of one prompt is that prompt; give 2 or more, got {reference}")
    return int(reference)


def _standing_in(
    pair: "Contrast", how: str | None, reference: str | int | None, lone: str
) -> "str | Replacement | None":
    """What stands in for heads that are ablated: the library's choice, where nothing but a kind is asked for."""
    from unweave.circuits.ablation import reference_prompts
    from unweave.methods.replacement import Replacement

    if reference is None and lone == "refuse":
        return how
    kind = how or ("mean" if pair.prompts.groups is None else "template")
    whose = reference_prompts(pair, reference) if isinstance(reference, int) else reference
    return Replacement(kind, whose, lone=lone)
