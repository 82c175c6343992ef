"""The tasks that the command knows by name, and files of pairs by their path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from pathlib import Path

from unweave.errors import InputError
from unweave.tasks import flips
from unweave.tasks.eight_prompts import FIXED_CORRUPTIONS, ioi_fixed
from unweave.tasks.factual import factual
from unweave.tasks.indirect_object import ioi
from unweave.tasks.pair_files import SUFFIXES, read_pairs
from unweave.tasks.palindromes import palindromes_for
from unweave.tasks.repeated import repeated_for
from unweave.tasks.syllogism import CORRUPTIONS, syllogism
from unweave.tasks.task import Task
from unweave.tasks.texts import TextModel


@dataclass(frozen=True)
class TaskInfo:
    """A task's description, the function that makes it of a model, and its corruptions, the usual one first."""

    description: str
    build: Callable[..., Task] = field(repr=False)
    corruptions: tuple[str, ...] = ("given",)

    @property
    def options(self) -> tuple[str, ...]:
        """What `build` takes besides the model."""
        return tuple(name for name in signature(self.build).parameters if name not in ("model", "path"))


TASKS: dict[str, TaskInfo] = {
    "ioi": TaskInfo("Indirect object identification: prompts from templates.", ioi, tuple(flips.NAMED)),
    "ioi-fixed": TaskInfo("Indirect object identification: the eight fixed prompts.", ioi_fixed, FIXED_CORRUPTIONS),
    "syllogism": TaskInfo(
        "Syllogisms with made-up premises, of those that the model gets right.", syllogism, CORRUPTIONS
    ),
    "factual": TaskInfo("Facts that hang on one word: capitals, opposites, languages, …", factual),
    "palindromes": TaskInfo(
        "Is a sequence of values a palindrome? For a classifier that was trained for it.",
        palindromes_for,
        ("other_class",),
    ),
    "repeated-tokens": TaskInfo("Random tokens, and the same again.", repeated_for, ("fresh",)),
}


def make_task(model: TextModel, name: str, options: Mapping[str, object] | None = None) -> Task:
    """A task by its name in `TASKS`, or of the pairs in a file.

    Args:
        model: whose tokenizer reads its prompts.
        name: a name, or the path of a .jsonl, .json or .csv file.
        options: passed on to what makes it (`n_prompts`, `seed`, `bos`, …); those that are None are left out.

    Raises:
        InputError: an unknown name, or an option that the task does not take.
    """
    given = {key: value for key, value in (options or {}).items() if value is not None}
    if name in TASKS:
        info = TASKS[name]
    elif Path(name).suffix in SUFFIXES:
        info = TaskInfo("Pairs from a file.", partial(read_pairs, path=name))
    else:
        raise InputError(
            f"task {name!r} is unknown; expected {', '.join(TASKS)}, or a file of pairs that ends in "
            f"{', '.join(SUFFIXES)}"
        )
    foreign = [key for key in given if key not in info.options]
    if foreign:
        raise InputError(f"task {name!r} takes no {foreign[0]}; it takes {', '.join(info.options)}")
    return info.build(model, **given)
