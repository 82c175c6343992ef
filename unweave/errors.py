"""The exceptions that unweave raises for a mistake that its user can mend.

Every message names the argument, what was given, what was expected, and the call or option that fixes it. The command
prints it as one line and exits with status 2.
"""

import difflib
from collections.abc import Iterable


class UnweaveError(Exception):
    """Base of all errors that unweave raises on purpose."""


class InputError(UnweaveError, ValueError):
    """An argument, a prompt, a role, an address or a file's content that cannot be used."""


class ModelError(UnweaveError):
    """A model that cannot be found, fetched, read or understood."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during long work. `partial` holds what was finished (cells not reached are NaN), or None."""

    def __init__(self, message: str, partial: object = None) -> None:
        super().__init__(message)
        self.partial = partial


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """` Did you mean 'x'?`, where one of the choices is near, in small letters or capitals; otherwise nothing."""
    spelt = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(name.lower(), spelt, n=1)
    return f" Did you mean {spelt[near[0]]!r}?" if near else ""
