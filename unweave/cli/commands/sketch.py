"""`unweave sketch`."""

from pathlib import Path
from typing import Annotated

import typer

from unweave.cli import circuits, output, reading
from unweave.cli.circuit_page import names_of, write_page
from unweave.cli.options import Memory, Rows
from unweave.cli.question import Question, asking
from unweave.cli.terminal import stoppable
from unweave.errors import Interrupted

QUESTION = "Which heads do the task, at which roles, and through which paths?"


@stoppable
@asking
def run(
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
        typer.Option(help="Roles (named positions) where keys and values are followed, 'S1, S2'; all, if left out."),
    ] = None,
    names: Annotated[
        bool,
        typer.Option("--names", help="Say in the drawing what its heads do (indirect objects alone); takes a while."),
    ] = False,
    memory: Memory = None,
    out: Annotated[Path, typer.Option(help="Folder for circuit.json and circuit.html.")] = Path("circuit"),
    top: Rows = 10,
) -> None:
    """A circuit, found by path patching backwards from the logits; 16 prompts or more tell small effects from 0.

    Example: unweave sketch --prompts 16 --corruption ABC --out found
    """
    from unweave.circuits.sketch import SketchOptions, sketch
    from unweave.methods.path_patching import path_patch

    for name in (circuits.CIRCUIT, circuits.DRAWING):
        output.check_file(out / name, (".json", ".html"))
    budget = reading.memory(memory)
    followed = None if roles is None else reading.names(roles, "--roles")
    rules = SketchOptions(
        threshold=threshold,
        edge_threshold=edge_threshold,
        alpha=alpha,
        attends=attends,
        levels=levels,
        screen=screen,
    )
    pair = question.contrast()
    try:
        circuit = sketch(pair, rules, followed, budget)
    except Interrupted as stop:
        raise circuits.kept(stop, out) from None
    file = out / circuits.CIRCUIT
    try:
        circuit.save(file)
        (out / circuits.PARTIAL).unlink(missing_ok=True)
        direct = path_patch(pair, at=pair.metric.role, memory=budget)
        named, why_not = names_of(pair, circuit) if names else (None, "")
        write_page(out / circuits.DRAWING, QUESTION, circuit, pair, [direct], named)
    except KeyboardInterrupt:
        raise Interrupted(f"the circuit is kept in {file}; it was not drawn") from None
    finally:  # also where it cannot be kept: it was the work of minutes
        circuits.give(circuit, top)
    if why_not:
        output.say(why_not)
    output.say(f"kept in {file}, drawn in {out / circuits.DRAWING}")
