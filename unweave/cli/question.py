"""What is asked, of which model: the options that all commands share which run one method."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from unweave.cli.options import ASKED, DEFAULT_MODEL, Bos, Corruption, Device, Dtype, ModelName, TaskName
from unweave.errors import InputError, did_you_mean
from unweave.models.quiet import status

if TYPE_CHECKING:
    from unweave.metrics.contrast import Contrast

V = TypeVar("V")


@dataclass(frozen=True)
class Question:
    """One field an option of the command."""

    model: ModelName = DEFAULT_MODEL
    task: TaskName = "ioi"
    corruption: Corruption = None
    metric: Annotated[str, typer.Option(help="How answers are scored: see `unweave tasks`.", rich_help_panel=ASKED)] = (
        "logit-diff"
    )
    prompts: Annotated[
        int | None,
        typer.Option(min=1, help="How many prompts to make; the task's number, if left out.", rich_help_panel=ASKED),
    ] = None
    seed: Annotated[
        int | None, typer.Option(help="Seed of the prompts that are made; 0, if left out.", rich_help_panel=ASKED)
    ] = None
    bos: Bos = None
    device: Device = None
    dtype: Dtype = "float32"

    def contrast(self) -> "Contrast":
        """The clean and the corrupted prompts, both run once. Raises InputError or ModelError."""
        from unweave.metrics import METRICS
        from unweave.metrics.contrast import Contrast
        from unweave.models.loading import load_model
        from unweave.tasks import TASKS, make_task

        # What needs no model is checked first: loading one takes seconds.
        metric = named(METRICS, self.metric, "--metric")()
        takes = ("bos",)
        if not Path(self.task).suffix:
            takes = named(TASKS, self.task, "--task", "; or give a file of pairs: .jsonl, .csv, .json").options
        for option, name, value in (("--prompts", "n_prompts", self.prompts), ("--seed", "seed", self.seed)):
            if value is not None and name not in takes:
                raise InputError(f"{option}: the task {self.task} has prompts of its own; leave the option out")
        model = load_model(self.model, device=self.device, dtype=self.dtype)
        task = make_task(model, self.task, {"n_prompts": self.prompts, "seed": self.seed, "bos": self.bos})
        with status("running the clean and the corrupted prompts"):
            return Contrast(model, task.prompts, task.corrupt(self.corruption), metric)


def named(choices: Mapping[str, V], name: str, option: str, otherwise: str = "") -> V:
    """The choice of that name. Raises InputError with the nearest name, all there are, and what else could be given."""
    if name in choices:
        return choices[name]
    hint = did_you_mean(name, choices)
    raise InputError(f"{option}: there is no {name!r}.{hint} Choose among {', '.join(choices)}{otherwise}")


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `question` becomes the options that are its fields."""
    signature = inspect.signature(command, eval_str=True)
    options = {
        field.name: inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for field in fields(Question)
    }
    own = [parameter for name, parameter in signature.parameters.items() if name != "question"]

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        asked = {name: values.pop(name) for name in options}
        command(**values, question=Question(**asked))

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    everything = [*parameters, *options.values()]
    wrapped.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in everything}
    return wrapped
