"""`unweave attribute`."""

from typing import Annotated, Literal

import typer

from unweave.cli import output, reading
from unweave.cli.options import Memory, Out, Rows
from unweave.cli.question import Question, asking
from unweave.cli.terminal import stoppable


@stoppable
@asking
def run(
    question: Question,
    by: Annotated[
        Literal["component", "layer", "head", "neuron"], typer.Option(help="The parts that share out the answer.")
    ] = "head",
    memory: Memory = None,
    out: Out = None,
    top: Rows = 10,
) -> None:
    """Direct logit attribution: what each part adds to the answer by itself, the largest printed.

    Example: unweave attribute --by component --prompts 16
    """
    from unweave.methods.attribution import attribute

    output.check_file(out)
    budget = reading.memory(memory)
    output.give(attribute(question.contrast(), by, memory=budget), out, top)
