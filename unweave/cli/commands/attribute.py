"""`unweave attribute`."""

from typing import Annotated, Literal

import typer

from unweave.cli import output
from unweave.cli.options import Out, Rows
from unweave.cli.question import Question, asking
from unweave.cli.terminal import stoppable


@stoppable
@asking
def run(
    question: Question,
    by: Annotated[
        Literal["component", "layer", "head", "neuron"], typer.Option(help="The parts that share out the answer.")
    ] = "head",
    out: Out = None,
    top: Rows = 10,
) -> None:
    """Direct logit attribution: what each part adds to the answer by itself, the largest printed.

    Example: unweave attribute --by component --prompts 16
    """
    from unweave.methods.attribution import attribute

    output.check_file(out)
    output.give(attribute(question.contrast(), by), out, top)
