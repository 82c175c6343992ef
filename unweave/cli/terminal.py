"""How the command ends when it does not end well."""

import functools
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")
NOT_DONE, MISTAKE, STOPPED = 1, 2, 130


def fail(message: object, status: int = MISTAKE) -> NoReturn:
    """End the command with one line on stderr."""
    kind = "error" if status == MISTAKE else "stopped"
    typer.echo(f"unweave: {kind}: {' '.join(str(message).split())}", err=True)
    raise SystemExit(status)


def stoppable(command: Callable[P, R]) -> Callable[P, R]:
    """A command that ends in one line and status 130 on Ctrl-C; the line is the exception's, where it has one."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            fail(str(stop) or "nothing was finished, so nothing is kept", status=STOPPED)

    return wrapped
