"""How the command ends when it does not end well."""

import functools
import inspect
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar, get_args

import typer
from typer.models import OptionInfo

from unweave.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
NOT_DONE, MISTAKE, STOPPED = 1, 2, 130


def fail(message: object, status: int = MISTAKE) -> NoReturn:
    """End the command with one line on stderr."""
    kind = "error" if status == MISTAKE else "stopped"
    typer.echo(f"unweave: {kind}: {' '.join(str(message).split())}", err=True)
    raise SystemExit(status)


def stoppable(command: Callable[P, R]) -> Callable[P, R]:
    """A command that ends in one line and status 130 on Ctrl-C; the line is the exception's, if it has one.

    An error that names an argument of the library names the command's option of that name.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            fail(str(stop) or "nothing was finished, so nothing is kept", status=STOPPED)
        except InputError as error:
            name, colon, rest = str(error).partition(":")
            found = inspect.signature(wrapped).parameters.get(name)
            is_option = found and any(isinstance(mark, OptionInfo) for mark in get_args(found.annotation))
            raise InputError(f"--{name}{colon}{rest}" if is_option else str(error)) from error

    return wrapped
