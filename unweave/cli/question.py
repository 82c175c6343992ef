"""What is asked, of which model: the options that all commands share which ask about prompts."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import unweave as uw
from unweave.cli.options import (
    DEFAULT_MODEL,
    Bos,
    Corruption,
    Device,
    Dtype,
    Memory,
    ModelName,
    Out,
    Rows,
    TaskName,
    asked,
    check_file,
)
from unweave.cli.terminal import stoppable
from unweave.errors import InputError, Interrupted, did_you_mean
from unweave.models.quiet import status

V = TypeVar("V")
Command = Callable[..., None]


@dataclass(frozen=True)
class Question:
    """One field an option of the command."""

    model: ModelName = DEFAULT_MODEL
    task: TaskName = "ioi"
    corruption: Corruption = None
    metric: Annotated[str, asked(help="How answers are scored: see `unweave tasks`.")] = "logit-diff"
    prompts: Annotated[int | None, asked(min=1, help="How many prompts to make; the task's number, if left out.")] = (
        None
    )
    seed: Annotated[int | None, asked(help="Seed of the prompts that are made; 0, if left out.")] = None
    bos: Bos = None
    device: Device = None
    dtype: Dtype = "float32"

    def contrast(self) -> "uw.Contrast":
        """The clean and the corrupted prompts, both run once. Raises InputError or ModelError."""
        # What needs no model is checked first: loading one takes seconds.
        metric = named(uw.metrics.METRICS, self.metric, "--metric")()
        takes = ("bos",)
        if not Path(self.task).suffix:
            files = "; or give a file of pairs: .jsonl, .csv, .json"
            takes = named(uw.tasks.TASKS, self.task, "--task", files).options
        for option, name, value in (("--prompts", "n_prompts", self.prompts), ("--seed", "seed", self.seed)):
            if value is not None and name not in takes:
                raise InputError(f"{option}: the task {self.task} has prompts of its own; leave the option out")
        model = uw.load_model(self.model, device=self.device, dtype=self.dtype)
        task = uw.tasks.make_task(model, self.task, {"n_prompts": self.prompts, "seed": self.seed, "bos": self.bos})
        with status("running the clean and the corrupted prompts"):
            return uw.Contrast(model, task.prompts, task.corrupt(self.corruption), metric)


def named(choices: Mapping[str, V], name: str, option: str, otherwise: str = "") -> V:
    """The choice of that name. Raises InputError with the nearest name, all there are, and what else could be given."""
    if name in choices:
        return choices[name]
    hint = did_you_mean(name, choices)
    raise InputError(f"{option}: there is no {name!r}.{hint} Choose among {', '.join(choices)}{otherwise}")


def asking(command: Command) -> Command:
    """A command whose parameter `question` becomes the options that are its fields. Ctrl-C ends it in one line."""

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        question = Question(**{field.name: values.pop(field.name) for field in fields(Question)})
        command(**values, question=question)

    own = [option for option in _options(command) if option.name != "question"]
    return _with_options(stoppable(wrapped), [*own, *_options(Question)])


def method_command(rows: Any = 10) -> Callable[[Callable[..., Callable[..., Any]]], Command]:
    """Makes the command of a method from a function that reads its options into a call: `method(pair, memory=)`.

    `--memory`, `--out` and `--top` join its options, and those of the question; without `--top`, `rows` are printed, or
    all in their own order if None. What was finished at Ctrl-C is kept.
    """

    def made(read: Callable[..., Callable[..., Any]]) -> Command:
        def run(question: Question, memory: Memory = None, out: Out = None, top: Rows = rows, **own: Any) -> None:
            check_file(out)
            call = functools.partial(read(**own), question.contrast(), memory=memory)
            _give(call, out, top, f"{read.__name__}.nc")

        shared = [option for option in _options(run) if option.name != "own"]
        run.__name__, run.__doc__ = read.__name__, read.__doc__
        return asking(_with_options(run, [*_options(read), *shared]))

    return made


def _give(call: Callable[[], Any], out: Path | None, top: int | None, name: str) -> None:
    from unweave.cli import output  # here, so that help needs no torch

    try:
        result = call()
    except Interrupted as stop:
        raise output.kept(stop, out or Path(name)) from None
    output.give(result, out, top)


def _options(function: Callable[..., object]) -> list[inspect.Parameter]:
    """Its parameters, all by keyword."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]


def _with_options(command: Command, options: Iterable[inspect.Parameter]) -> Command:
    """The command as typer shall read it."""
    command.__signature__ = inspect.Signature(list(options))  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in options}
    return command
