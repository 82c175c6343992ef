"""The commands and their order in the help, and how the command ends."""

import os
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from unweave.cli.commands.circuit_commands import evaluate, prune, sketch
from unweave.cli.commands.list_commands import models, tasks
from unweave.cli.commands.method_commands import attribute, edges, knockout, lens, patch, path
from unweave.cli.commands.prompt_command import prompt
from unweave.cli.commands.show_command import show
from unweave.cli.commands.study_command import study
from unweave.cli.commands.train_command import train
from unweave.cli.terminal import MISTAKE, fail
from unweave.errors import UnweaveError
from unweave.version import __version__

app = typer.Typer(
    help="Finds the circuit that a transformer language model uses for a task, and tests it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    *(study, patch, lens, attribute, path, edges, knockout),
    *(sketch, prune, evaluate, prompt, show, train, models, tasks),
):
    app.command(_command.__name__)(_command)


def main() -> None:
    """The command, from the shell's arguments to an exit status."""
    # A shell may have closed them (`>&-`), and a service may have none.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        status = app(prog_name="unweave", standalone_mode=False)
    except OSError as error:
        fail(f"{error.filename or 'what is printed'}: {error.strerror or error}")
    except UnweaveError as error:
        # A file that is written is an option here, whatever the library calls it.
        fail(str(error).replace("path: cannot write", "--out: cannot write"))
    except TyperException as error:
        # Without a message the help has been printed in its place.
        message = error.format_message()
        if message:
            fail(message.replace(": Value error, ", ": "))
        status = MISTAKE
    raise SystemExit(status if isinstance(status, int) else 0)


@app.callback(invoke_without_command=True)
def _unweave(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"unweave {__version__}")
        raise typer.Exit
