"""`unweave lens`."""

from typing import Annotated

import typer

from unweave.cli import output
from unweave.cli.options import Out
from unweave.cli.question import Question, asking
from unweave.cli.terminal import stoppable


@stoppable
@asking
def run(
    question: Question,
    mid: Annotated[bool, typer.Option("--mid/--no-mid", help="Read between attention and MLP too.")] = True,
    out: Out = None,
) -> None:
    """Logit lens: the answer that the residual stream holds after every layer.

    Example: unweave lens --task ioi-fixed --out lens.html
    """
    from unweave.methods.attribution import logit_lens

    output.check_file(out)
    output.give(logit_lens(question.contrast(), mid), out)
