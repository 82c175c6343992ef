"""`unweave path`."""

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
    receivers: Annotated[
        str,
        typer.Option(
            help="Where paths end: logits, or inputs together: '8.10 q, 8.1 v, mlp 9' (k, v: of key/value heads)."
        ),
    ] = "logits",
    senders: Annotated[
        str,
        typer.Option(
            help="Where they begin: heads or mlps, each in turn, or a list: '9.6, mlp 3, embed'; 9.6+9.9 send together."
        ),
    ] = "heads",
    at: Annotated[
        str | None,
        typer.Option(
            help="A role (a named position such as end) where both stand, or the sender's and the receiver's, S2:end; "
            "all positions, if left out."
        ),
    ] = None,
    direction: Annotated[
        Literal["noise", "denoise"],
        typer.Option(help="noise: corrupted values into the clean run; denoise: the other way round."),
    ] = "noise",
    mlps: Annotated[
        Literal["live", "frozen"],
        typer.Option(help="live: paths go through MLPs, as in arXiv 2211.00593; frozen: the direct edge alone."),
    ] = "live",
    attention: Annotated[
        Literal["z", "qkv"],
        typer.Option(help="What is held in other heads: z, their outputs, as there; qkv, their inputs."),
    ] = "z",
    measure: Annotated[
        Literal["effect", "drop", "change"],
        typer.Option(
            help="effect: share of the gap between clean and corrupted; drop: share of the clean score; "
            "change: in the metric's unit."
        ),
    ] = "effect",
    memory: Memory = None,
    out: Out = None,
    top: Rows = 10,
) -> None:
    """Path patching: how much each sender acts through chosen receivers, all other heads held as they were.

    Example: unweave path --receivers '23.3 q' --at end --prompts 16
    """
    from unweave.methods.path_patching import path_patch

    output.check_file(out)
    budget = reading.memory(memory)
    ends = (
        reading.nodes(receivers, "--receivers", reading.RECEIVERS),
        reading.nodes(senders, "--senders", reading.SENDERS),
        reading.sides(at),
    )
    pair = question.contrast()
    try:
        result = path_patch(
            pair,
            *ends,
            direction=direction,
            mlps=mlps,
            attention=attention,
            measure=measure,
            memory=budget,
        )
    except Interrupted as stop:
        raise output.kept(stop, out or Path("path.nc")) from None
    output.give(result, out, top)
