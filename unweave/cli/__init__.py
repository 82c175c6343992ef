"""The command `unweave`.

Results go to stdout as plain text, progress and errors to stderr, and progress only where that is a terminal. A mistake
that its user can mend is one line and exit status 2; Ctrl-C is one line and exit status 130; a study of what the model
does not do is one line and exit status 1. Whatever needs torch is imported when a command runs, so that help and
completion answer at once.
"""

from unweave.cli.app import main

__all__ = ["main"]
