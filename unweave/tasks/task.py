"""What a task is: prompts, and the ways to corrupt them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from unweave.errors import InputError
from unweave.models.prompts import Prompts


@final
@dataclass(frozen=True)
class Task:
    """Prompts and their corruptions. Made by `uw.tasks.ioi`, `uw.tasks.pairs` and their like.

    `corruptions` are the names that `corrupt` accepts, the usual one first; some tasks accept patterns too, as
    `description` says. A corrupted prompt has the tokens' number, the roles and the answers of its original.
    `title` heads a report, `question` is what it asks about the model; `notes` says how the prompts were chosen, where
    that matters.
    """

    name: str
    prompts: Prompts
    corruptions: tuple[str, ...]
    make: Callable[[str], Prompts] = field(repr=False)
    description: str = ""
    question: str = field(default="", repr=False)
    notes: str = field(default="", repr=False)
    title: str = field(default="", repr=False)

    def corrupt(self, how: str | None = None) -> Prompts:
        """The corrupted prompts, one for each prompt.

        Args:
            how: a name out of `corruptions`, or a pattern where the task accepts one; the first name by default.

        Raises:
            InputError: a corruption that this task does not know.
        """
        return self.make(self.corruptions[0] if how is None else how)


@final
@dataclass(frozen=True)
class Given:
    """The corruption of prompts that were given in pairs: the other of each pair, under the name `given`."""

    task: str
    corrupted: Prompts

    def __call__(self, how: str) -> Prompts:
        if how != "given":
            raise InputError(f"corruption: {self.task} knows 'given' alone, got {how!r}; leave it out")
        return self.corrupted
