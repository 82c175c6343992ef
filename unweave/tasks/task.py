"""What a task is: prompts, and the ways to corrupt them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import final

import torch

from unweave.errors import InputError, did_you_mean
from unweave.models.prompts import Prompts


@final
@dataclass(frozen=True)
class Task:
    """Prompts and their corruptions. Made by `uw.tasks.ioi`, `uw.tasks.pairs` and their like.

    `corruptions` are the names that `corrupt` accepts, the usual one first; `patterns` says that it accepts others too,
    as `description` explains. `make` gives the tokens and texts of a corruption, by its name; all else of a corrupted
    prompt is its original's: the number of tokens, roles, answers.
    `title` heads a report, `question` is what it asks about the model; `notes` says how the prompts were chosen, where
    that matters.
    """

    name: str
    prompts: Prompts
    corruptions: tuple[str, ...]
    make: Callable[[str], Prompts] = field(repr=False)
    patterns: bool = field(default=False, repr=False)
    description: str = ""
    question: str = field(default="", repr=False)
    notes: str = field(default="", repr=False)
    title: str = field(default="", repr=False)

    def corrupt(self, how: str | None = None) -> Prompts:
        """The corrupted prompts, one for each prompt.

        Args:
            how: a name out of `corruptions`, or a pattern where the task accepts one; the first name by default.

        Raises:
            InputError: a corruption that this task does not know, or one that changes the number of tokens.
        """
        how = self.corruptions[0] if how is None else how
        if how not in self.corruptions and not self.patterns:
            hint = did_you_mean(how, self.corruptions)
            raise InputError(f"corruption: {self.name} knows {', '.join(self.corruptions)}; got {how!r}.{hint}")
        made = self.make(how)
        if not torch.equal(made.lengths, self.prompts.lengths):
            raise InputError(
                f"corruption: {how!r} changes the number of tokens with this tokenizer; give pairs instead"
            )
        source = {**self.prompts.source, "corruption": how}
        return replace(self.prompts, tokens=made.tokens, texts=made.texts, str_tokens=made.str_tokens, source=source)
