"""`unweave prompt`."""

import sys
from typing import Annotated

import typer

from unweave.cli import output
from unweave.cli.options import DEFAULT_MODEL, Bos, Device, Dtype, ModelName
from unweave.cli.terminal import stoppable
from unweave.errors import InputError


@stoppable
def run(
    prompt: Annotated[str, typer.Argument(help="A text, without the answer and without a space at its end.")],
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
    if not prompt.strip():
        raise InputError("PROMPT: expected a text, got an empty one")
    if not answer.strip():
        raise InputError("--answer: expected at least one word, got none")
    if space and prompt[-1].isspace():
        raise InputError(
            "PROMPT: it ends with a space, which belongs to the next word's token; take it off, or give --no-space"
        )
    from unweave.methods.one_prompt import test_prompt
    from unweave.models.loading import load_model
    from unweave.views.blocks import Table

    found = test_prompt(load_model(model, device=device, dtype=dtype), prompt, answer, space, bos, top)
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(found)
        return
    typer.echo(f"# {found.title}")
    for table in found.tables:
        output.print_table(Table(table.header, table.rows, table.title))
