"""The command that trains: a small model from random weights, its epochs kept, and how it did."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import unweave as uw
from unweave.cli.question import named
from unweave.cli.terminal import stoppable
from unweave.errors import InputError, Interrupted

_OPTIONS = {
    "folder:": "--out:",
    "resume=True": "--resume",
    "leave resume out": "leave --resume out",
}


@stoppable
def train(
    name: Annotated[str, typer.Argument(help="The training: palindrome.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the model and its epochs; NAME-training, if left out.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Times that every example is seen.")] = None,
    examples: Annotated[int | None, typer.Option(min=2, help="How many examples to make.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Examples a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of Adam.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of examples, their order, and first weights.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in the folder.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
) -> None:
    """Train a small model from random weights; options left out are as the published model had them.

    Example: unweave train palindrome --seed 7 --out seven
    """
    known = named(uw.tasks.TRAININGS, name, "NAME")
    from unweave.cli import output
    from unweave.models.loading import as_device

    given = {"epochs": epochs, "batch": batch, "lr": lr, "seed": seed}
    folder, target = out or Path(f"{name}-training"), as_device(device)
    try:
        recipe = replace(known.recipe, **{key: value for key, value in given.items() if value is not None})
        data = known.data(known.config, examples or known.n_examples, recipe.seed).to(target)
        training = uw.training.train(known.config, data, recipe, folder, resume)
    except Interrupted as stop:
        raise Interrupted(f"{stop}{_how_to_go_on(stop)}", stop.partial) from None
    except InputError as error:
        raise InputError(_as_options(str(error))) from None
    rows = [
        (
            str(row.epoch),
            "" if row.loss is None else output.number(row.loss),
            output.number(row.held_out_loss),
            f"{row.accuracy:.2%}",
        )
        for row in training.history
    ]
    output.print_rows(("epoch", "loss", "held-out loss", "accuracy"), rows)
    typer.echo(f"{training.accuracy:.2%} of {len(data.held_out):,} held-out examples are right")
    typer.echo(
        f"the model is in {folder}: uw.load_model({str(folder)!r}); epochs: uw.training.checkpoints({str(folder)!r})"
    )


def _how_to_go_on(stop: Interrupted) -> str:
    """The same command with `--resume`, where an epoch was kept."""
    if stop.partial is None:
        return ""
    again = [part for part in sys.argv[1:] if part != "--resume"]
    return f"; go on with: {shlex.join(['unweave', *again, '--resume'])}"


def _as_options(message: str) -> str:
    """The message with this command's options for the arguments of `uw.training.train`."""
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    return message
