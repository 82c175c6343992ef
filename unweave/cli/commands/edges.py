"""`unweave edges`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unweave.cli import output, reading
from unweave.cli.options import Memory, Out, Rows
from unweave.cli.question import Question, asking
from unweave.cli.terminal import stoppable
from unweave.errors import Interrupted


@stoppable
@asking
def run(
    question: Question,
    how: Annotated[
        Literal["verified", "exact", "local", "gradient", "integrated", "integrated activations", "both ends"],
        typer.Option(
            help="exact: a run for each edge; gradient: EAP; integrated: EAP-IG; local: the receiver exactly, the "
            "rest linear; verified: the largest by gradient or local, exactly, and a random sample of the others."
        ),
    ] = "verified",
    senders: Annotated[
        str | None, typer.Option(help="Where edges begin: 'embed, 20.0, mlp 3'; everything, if left out.")
    ] = None,
    receivers: Annotated[
        str | None,
        typer.Option(help="Where they end: 'q 23.3, v 23.1, mlp 3, logits' (k, v: of key/value heads)."),
    ] = None,
    at: Annotated[str | None, typer.Option(help="A role where senders send; all positions, if left out.")] = None,
    direction: Annotated[
        Literal["noise", "denoise"],
        typer.Option(help="noise: corrupted values into the clean run; denoise: the other way round."),
    ] = "noise",
    verify: Annotated[
        int, typer.Option(min=1, help="How many of the largest edges are run, with --how verified.")
    ] = 1000,
    control: Annotated[int, typer.Option(min=0, help="How many others, drawn at random, are run as a control.")] = 500,
    circuit: Annotated[
        Path | None, typer.Option(help="Keep the largest edges as a circuit in this file (.json), without dead ends.")
    ] = None,
    first: Annotated[int, typer.Option(min=1, help="How many edges --circuit takes, the largest first.")] = 200,
    memory: Memory = None,
    out: Out = None,
    top: Rows = 10,
) -> None:
    """Edges: how much each component acts through what it writes to each later one.

    Example: unweave edges --how exact --receivers 'q 23.3' --prompts 16
    """
    from unweave.circuits.circuit import Circuit
    from unweave.methods.edges import edges

    output.check_file(out)
    output.check_file(circuit, (".json",))
    budget = reading.memory(memory)
    sends = None if senders is None else reading.names(senders, "--senders")
    receives = None if receivers is None else reading.names(receivers, "--receivers")
    pair = question.contrast()
    try:
        result = edges(
            pair,
            how,
            direction=direction,
            senders=sends,
            receivers=receives,
            at=at,
            verify=verify,
            control=control,
            memory=budget,
        )
    except Interrupted as stop:
        raise output.kept(stop, out or Path("edges.nc")) from None
    output.give(result, out, top)
    if circuit is not None:
        made = Circuit.from_edges(result, first)
        made.save(circuit)
        output.say(f"{made.notes}: {len(made.edges)} edges, kept in {circuit}")
