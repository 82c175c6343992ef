"""Other libraries' log lines and progress bars kept off the terminal while a model is read; our one line instead."""

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from rich.console import Console


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, log lines or progress bars of transformers inside; all settings are as before afterwards.

    Progress bars are caught with everything else that goes to stderr: those of the GGUF reader have no switch.
    """
    from transformers.utils import logging as hf_logging

    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(before)


@contextmanager
def status(message: str) -> Iterator[None]:
    """A line with a spinner on a terminal's stderr while the work lasts; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    # The file is bound here, so that the line stays visible while `quiet` has sys.stderr redirected.
    with Console(file=sys.stderr).status(message):
        yield
