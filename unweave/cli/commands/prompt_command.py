"""The command that tests one prompt."""

import sys
from typing import Annotated

import typer
from rich.console import Console

import unweave as uw
from unweave.cli.options import DEFAULT_MODEL, Bos, Device, Dtype, ModelName
from unweave.cli.terminal import stoppable
from unweave.errors import InputError


@stoppable
def prompt(
    text: Annotated[
        str, typer.Argument(metavar="PROMPT", help="A text, without the answer and without a space at its end.")
    ],
    answer: Annotated[str, typer.Option(help="How it may go on: ' Mary'. One token or several.")],
    model: ModelName = DEFAULT_MODEL,
    space: Annotated[
        bool, typer.Option("--space/--no-space", help="Put a space in front of an answer that has none.")
    ] = True,
    bos: Bos = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the likeliest tokens to print.")] = 10,
    device: Device = None,
    dtype: Dtype = "float32",
) -> None:
    """One prompt and one answer: the answer's rank, logit and probability, and the likeliest tokens.

    Example: unweave prompt 'The capital of France is' --answer Paris
    """
    # Loading a model takes seconds; what needs none is checked before.
    if not text.strip():
        raise InputError("PROMPT: expected a text, got an empty one")
    if not answer.strip():
        raise InputError("--answer: expected at least one word, got none")
    if space and text[-1].isspace():
        raise InputError(
            "PROMPT: it ends with a space, which belongs to the next word's token; take it off, or give --no-space"
        )
    from unweave.cli import output

    found = uw.test_prompt(uw.load_model(model, device=device, dtype=dtype), text, answer, space, bos, top)
    if sys.stdout.isatty():
        Console().print(found)
        return
    output.say(found.title)
    for table in found.tables:
        output.print_table(output.Table(table.header, table.rows, table.title))
