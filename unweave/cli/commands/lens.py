"""`unweave lens`."""

from typing import Annotated, Literal

import typer

from unweave.cli import output, reading
from unweave.cli.options import Memory, Out
from unweave.cli.question import Question, asking
from unweave.cli.terminal import stoppable


@stoppable
@asking
def run(
    question: Question,
    mid: Annotated[bool, typer.Option("--mid/--no-mid", help="Read between attention and MLP too.")] = True,
    norm: Annotated[
        Literal["final", "own"], typer.Option(help="The norm's scale: of the last stage, or of each stage itself.")
    ] = "final",
    memory: Memory = None,
    out: Out = None,
) -> None:
    """Logit lens: the answer that the residual stream holds after every layer.

    Example: unweave lens --task ioi-fixed --out lens.html
    """
    from unweave.methods.attribution import logit_lens

    output.check_file(out)
    budget = reading.memory(memory)
    output.give(logit_lens(question.contrast(), mid, norm, budget), out)
