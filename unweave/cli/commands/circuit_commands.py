"""The commands of circuits: finding one of heads or of edges, and testing one."""

from pathlib import Path
from typing import Annotated, Literal

import typer

import unweave as uw
from unweave.cli.options import Lone, Memory, Rows, check_file, listed
from unweave.cli.question import Question, asking
from unweave.errors import InputError, Interrupted

CIRCUIT, PARTIAL, DRAWING = "circuit.json", "circuit.partial.json", "circuit.html"
SCORE, PARTIAL_SCORE, PAGE = "evaluation.nc", "evaluation.partial.nc", "evaluation.html"
FIND = "Which heads do the task, at which roles, and through which paths?"
TEST = "Does this circuit do the task by itself, and is each part of it needed?"
First = Annotated[int, typer.Option(min=1, help="Of a file of edges (.nc): how many, the largest first.")]


@asking
def sketch(
    question: Question,
    levels: Annotated[int, typer.Option(min=1, help="How many levels back from the logits.")] = 3,
    threshold: Annotated[
        float,
        typer.Option(
            min=0, help="The smallest mean effect of a head through a level, as a share of the clean-corrupted gap."
        ),
    ] = 0.02,
    edge_threshold: Annotated[float, typer.Option(min=0, help="The same, through one receiver.")] = 0.005,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="The largest p-value of a head.")] = 0.05,
    attends: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="The smallest mean attention to a role for keys and values there to be followed."
        ),
    ] = 0.1,
    screen: Annotated[
        float,
        typer.Option(
            min=0, help="Heads are run whose estimated effect reaches this share of the threshold; 0 runs every head."
        ),
    ] = 0.5,
    roles: Annotated[
        str | None,
        listed("Roles (named positions) where keys and values are followed, 'S1, S2'; all, if left out."),
    ] = None,
    names: Annotated[
        bool,
        typer.Option("--names", help="Say in the drawing what its heads do (indirect objects only); takes a while."),
    ] = False,
    memory: Memory = None,
    out: Annotated[Path, typer.Option(help="Folder for circuit.json and circuit.html.")] = Path("circuit"),
    top: Rows = 10,
) -> None:
    """A circuit, found by path patching backwards from the logits; small effects need 16 prompts or more.

    Example: unweave sketch --prompts 16 --corruption ABC --out found
    """
    for name in (CIRCUIT, DRAWING):
        check_file(out / name, (".json", ".html"))
    options = uw.SketchOptions(threshold, edge_threshold, alpha, attends, levels, screen)
    pair = question.contrast()
    from unweave.cli import circuit_output, output

    try:
        circuit = uw.sketch(pair, options, roles, memory)
    except Interrupted as stop:
        raise circuit_output.kept(stop, out / PARTIAL) from None
    file = out / CIRCUIT
    try:
        circuit.save(file)
        (out / PARTIAL).unlink(missing_ok=True)
        direct = uw.path_patch(pair, at=pair.metric.role, memory=memory)
        named, why_not = circuit_output.names_of(pair, circuit) if names else (None, "")
        circuit_output.write_page(out / DRAWING, FIND, circuit, pair, [direct], named)
    except KeyboardInterrupt:
        raise Interrupted(f"the circuit is kept in {file}; it was not drawn") from None
    finally:  # also where it cannot be kept: it was the work of minutes
        circuit_output.give(circuit, top)
    if why_not:
        output.say(why_not)
    output.say(f"kept in {file}, drawn in {out / DRAWING}")


@asking
def prune(
    question: Question,
    threshold: Annotated[
        float, typer.Option(help="The loss that keeps an edge: in nats by kl, a share of the gap by metric.")
    ] = 0.01,
    by: Annotated[
        Literal["kl", "metric"],
        typer.Option(help="The loss: the KL divergence of the clean run to the circuit's, or what the metric loses."),
    ] = "kl",
    start: Annotated[
        str | None,
        typer.Option(
            help="What to prune: a circuit of edges (.json), or what `unweave edges --out` kept (.nc). Left out: the "
            "whole model, which takes a trial for every edge."
        ),
    ] = None,
    first: First = 1000,
    memory: Memory = None,
    out: Annotated[Path, typer.Option(help="The circuit's file.")] = Path("pruned.json"),
    top: Rows = 10,
) -> None:
    """A circuit of edges: every edge that costs less than a threshold is dropped, from the logits backwards (ACDC).

    Example: unweave prune --start edges.nc --first 500 --threshold 0.02 --by metric
    """
    check_file(out, (".json",))
    from unweave.cli import circuit_output, output

    begun = None if start is None else circuit_output.read(start, first)
    pair = question.contrast()
    try:
        circuit = uw.prune(pair, threshold, by, start=begun, memory=memory)
    except Interrupted as stop:
        raise circuit_output.kept(stop, out.with_name(f"{out.stem}.partial.json")) from None
    try:
        circuit.save(out)
    finally:  # also where it cannot be kept: it was the work of minutes
        circuit_output.give(circuit, top)
    output.say(f"kept in {out}")


@asking
def evaluate(
    circuit: Annotated[
        str,
        typer.Argument(
            help="A circuit's .json file, a published one (ioi-gpt2-small, ioi-gpt2-small-naive), or the .nc file of "
            "`unweave edges`."
        ),
    ],
    question: Question,
    first: First = 200,
    how: Annotated[
        Literal["template", "mean", "zero", "resample"] | None,
        typer.Option(
            help="What replaces other heads (their mean by template if the task has templates) or edges (the corrupted "
            "prompts' values)."
        ),
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
    lone: Lone = "refuse",
    controls: Annotated[int, typer.Option(min=0, help="Random circuits as large.")] = 20,
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
    if out is not None:
        for name in (SCORE, PAGE):
            check_file(out / name)
    whose = _side_or_number(reference)
    options = uw.EvaluationOptions(controls=controls, best=best, subsets=subsets, searches=searches, steps=steps)
    from unweave.cli import circuit_output, output

    tested = circuit_output.read(circuit, first)
    pair = question.contrast()
    tested.check(pair)
    try:
        score = uw.evaluate(tested, pair, how=_replacement(pair, how, whose, lone), effort=options, memory=memory)
    except Interrupted as stop:
        raise circuit_output.kept_score(stop, (out or Path()) / PARTIAL_SCORE) from None
    tests = circuit_output.tests_of(score)
    try:
        if out is not None:
            uw.save(score, out / SCORE)
            (out / PARTIAL_SCORE).unlink(missing_ok=True)
            circuit_output.write_page(out / PAGE, TEST, tested, pair, list(tests.values()))
    except KeyboardInterrupt:
        raise Interrupted(f"the evaluation is kept in {out}; it was not drawn") from None
    finally:  # also where it cannot be kept: it was the work of minutes
        circuit_output.give_score(tests)
    if out is not None:
        output.say(f"kept in {out / SCORE}, shown in {out / PAGE}")


def _side_or_number(reference: str | None) -> str | int | None:
    if reference in (None, "clean", "corrupted"):
        return reference
    if not reference.isdecimal():
        raise InputError(f"--reference: expected clean, corrupted, or prompts a template such as 6, got {reference!r}")
    if int(reference) < 2:
        raise InputError(f"--reference: the mean of one prompt is that prompt; give 2 or more, got {reference}")
    return int(reference)


def _replacement(
    pair: "uw.Contrast", how: str | None, reference: str | int | None, lone: str
) -> "str | uw.Replacement | None":
    """What replaces heads that are ablated: the library's choice, where nothing but a kind is asked for."""
    if reference is None and lone == "refuse":
        return how
    from unweave.circuits.ablation import reference_prompts

    kind = how or ("mean" if pair.prompts.groups is None else "template")
    whose = reference_prompts(pair, reference) if isinstance(reference, int) else reference
    return uw.Replacement(kind, whose, lone=lone)
