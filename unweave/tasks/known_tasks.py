"""The tasks that the command knows by name, and files of pairs by their path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    """A task's description for lists, the function that makes it of a model, and the options that it takes.

    `corruptions` are those of the task, the usual one first.
    """

    description: str
    build: Callable[..., Task] = field(repr=False)
    options: tuple[str, ...]
    corruptions: tuple[str, ...] = ("given",)


TASKS: dict[str, TaskInfo] = {
    "ioi": TaskInfo(
        description="Indirect object identification: prompts from templates.",
        build=ioi,
        options=("n_prompts", "seed", "order", "bos", "templates"),
        corruptions=tuple(flips.NAMED),
    ),
    "ioi-fixed": TaskInfo(
        description="Indirect object identification: the eight fixed prompts.",
        build=ioi_fixed,
        options=("bos",),
        corruptions=FIXED_CORRUPTIONS,
    ),
    "syllogism": TaskInfo(
        description="Syllogisms with made-up premises, of those that the model gets right.",
        build=syllogism,
        options=("n_prompts", "seed", "threshold", "bos"),
        corruptions=CORRUPTIONS,
    ),
    "factual": TaskInfo(
        description="Facts that hang on one word: capitals, opposites, languages, …",
        build=factual,
        options=("n_prompts", "bos"),
    ),
    "palindromes": TaskInfo(
        description="Is a sequence of values a palindrome? For a classifier that was trained for it.",
        build=palindromes_for,
        options=("n_prompts", "seed"),
        corruptions=("other_class",),
    ),
    "repeated-tokens": TaskInfo(
        description="Random tokens, and the same again.",
        build=repeated_for,
        options=("n_prompts", "seed", "bos"),
        corruptions=("fresh",),
    ),
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
        info = TaskInfo("Pairs from a file.", lambda model, **rest: read_pairs(model, name, **rest), ("bos", "space"))
    else:
        raise InputError(
            f"task {name!r} is unknown; expected {', '.join(TASKS)}, or a file of pairs that ends in "
            f"{', '.join(SUFFIXES)}"
        )
    foreign = [key for key in given if key not in info.options]
    if foreign:
        raise InputError(f"task {name!r} takes no {foreign[0]}; it takes {', '.join(info.options)}")
    return info.build(model, **given)
