"""What the prompts of a task must be for its study to mean anything, counted prompt by prompt.

1. The right answer is above the wrong one.
2. With the corruption it is the other way round: the answer hangs on what was changed.
3. Each prompt has as many tokens as its corruption, and as many as the other prompts.
4. Each ends with a word after which the answer comes, where such words are given.
5. No prompt stands there twice.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import rich.table

from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.results.text_table import TextTable
from unweave.tasks.margins import margins
from unweave.tasks.task import Task

_SHOWN = 5


@dataclass(frozen=True)
class Requirement:
    """One requirement, and the numbers, from 1, of the prompts that fail it."""

    name: str
    n_prompts: int
    failing: tuple[int, ...]

    @property
    def n_met(self) -> int:
        return self.n_prompts - len(self.failing)


@dataclass(frozen=True)
class Requirements:
    """What a task's prompts meet and fail. Prints as a table."""

    task: str
    rows: tuple[Requirement, ...]

    @property
    def met(self) -> bool:
        """Whether every prompt meets every requirement."""
        return not any(row.failing for row in self.rows)

    @property
    def table(self) -> TextTable:
        """The rows as texts."""
        failed = sum(bool(row.failing) for row in self.rows)
        title = f"{self.task}: {failed or 'none'} of {len(self.rows)} requirements failed by some prompt"
        cells = tuple(
            (row.name, f"{row.n_met} of {row.n_prompts}", f"{row.n_met / row.n_prompts:.0%}", _numbers(row.failing))
            for row in self.rows
        )
        return TextTable(title, ("requirement", "met", "share", "failing prompts"), cells)

    def __str__(self) -> str:
        return str(self.table)

    __repr__ = __str__

    def __rich__(self) -> rich.table.Table:
        return self.table.__rich__()

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def check(
    model: Model, task: Task, corruption: str | None = None, *, threshold: float = 0.0, endings: Sequence[str] = ()
) -> Requirements:
    """Which requirements a task's prompts meet.

    Args:
        model: that is asked; both the clean and the corrupted prompts are run once.
        task: with a right and a wrong answer of each prompt.
        corruption: how prompts are corrupted; the task's usual way by default.
        threshold: how far the right answer must be above the wrong one, in logits, and with the corruption below.
        endings: words that a prompt may end with, `("are", "is")`; not looked at where there are none.

    Raises:
        InputError: prompts without answers, or a corruption that the task does not know.
    """
    clean, corrupted = task.prompts, task.corrupt(corruption)
    how = corruption or task.corruptions[0]
    above = f" by more than {threshold:g}" if threshold else ""
    usual = Counter(clean.lengths.tolist()).most_common(1)[0][0]
    times = Counter(clean.texts)
    checks = {
        f"the right answer is above the wrong one{above}": (margins(model, clean) > threshold).tolist(),
        f"with {how!r} it is below{above}": (margins(model, corrupted) < -threshold).tolist(),
        f"as many tokens as with {how!r}": (clean.lengths == corrupted.lengths).tolist(),
        f"{usual} tokens, as most prompts have": (clean.lengths == usual).tolist(),
        "stands there once": [times[text] == 1 for text in clean.texts],
    }
    if endings:
        checks[f"ends with {' or '.join(map(repr, endings))}"] = _end_with(clean, endings)
    rows = (
        Requirement(name, len(clean), tuple(number for number, met in enumerate(values, start=1) if not met))
        for name, values in checks.items()
    )
    return Requirements(task.name, tuple(rows))


def _end_with(prompts: Prompts, endings: Sequence[str]) -> list[bool]:
    return [bool(text.split()) and text.split()[-1] in endings for text in prompts.texts]


def _numbers(failing: Sequence[int]) -> str:
    more = f", … ({len(failing)})" if len(failing) > _SHOWN else ""
    return ", ".join(map(str, failing[:_SHOWN])) + more
