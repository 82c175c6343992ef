"""What a study is about: settings, model, prompts and their baselines; and whether the model does the task at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from unweave.circuits.ablation import FEW, drawn_reference
from unweave.circuits.halves import halves
from unweave.errors import InputError
from unweave.methods.replacement import Replacement
from unweave.metrics import LogitDiff, LogProb
from unweave.metrics.contrast import Contrast
from unweave.models.loading import DEFAULT_MODEL, load_model
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.studies.plan import Step
from unweave.tasks import TASKS, Task, make_task
from unweave.tasks.pair_files import SUFFIXES


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a study is run with; its report repeats it.

    `task` is a name of `unweave.tasks.TASKS` or a file of pairs. `prompts` is the number that the sweeps take. `seed`,
    `corruption` and `bos` are the task's usual ones where they are None. `anyway` goes on where the model does not do
    the task.
    """

    task: str = "ioi"
    model: str = DEFAULT_MODEL
    prompts: int | None = None
    seed: int | None = None
    corruption: str | None = None
    out: Path = Path("report")
    device: str | None = None
    dtype: str = "float32"
    bos: bool | None = None
    quick: bool = False
    anyway: bool = False

    @property
    def n_prompts(self) -> int:
        """Fourteen are the fewest that can tell one of 270 heads from 0 after adjustment: 270 / 2^13 is below 0.05."""
        return self.prompts or (14 if self.quick else 24)

    @property
    def n_paths(self) -> int:
        """Prompts for paths, knockouts and the circuit; half of them choose it (see `unweave.circuits.sketch`), and as
        many others test it.
        """
        return self.prompts or (16 if self.quick else 32)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the study of one task has of its own, beside the standard investigation; all of it may be left out.

    Args:
        corruption: of the sweeps. `path_corruption`: of paths, knockouts and the circuit.
        n_checked: prompts on which the task is checked, the swept ones among them; as many as the task makes otherwise.
        bos: whether a beginning-of-sequence token stands in front where the settings do not say.
        roles: those that are patched; all of the task's otherwise.
        does: what a group of the circuit does, by its name, for one head and for several.
        own_steps: the standard steps in, the study's steps out.
        own_groups: rows of prompts that are told apart where the task is checked.
    """

    corruption: str | None = None
    path_corruption: str | None = None
    n_checked: int | None = None
    bos: bool | None = None
    roles: tuple[str, ...] = ()
    does: Mapping[str, tuple[str, str]] | None = None
    own_steps: "Callable[[Subject, list[Step]], list[Step]] | None" = None
    own_groups: Callable[[Prompts], Mapping[str, Sequence[int]]] | None = None


@dataclass(frozen=True)
class Subject:
    """The model, the task, the contrast of many prompts, and that of the first of them, which are swept."""

    settings: Settings
    kind: Kind
    model: Model
    task: Task
    checked: Contrast
    pair: Contrast

    @cached_property
    def paths(self) -> Contrast:
        """The contrast for path patching, knockouts and the circuit."""
        return first(self.checked, self.task.corrupt(self.paths_corruption), self.settings.n_paths)

    @cached_property
    def judged(self) -> Contrast:
        """The contrast for the circuit's tests: prompts that did not choose it, where there are others."""
        prompts, n = self.checked.prompts, self.settings.n_paths
        swept = prompts.first(n)
        chosen = {swept[row] for row in halves(self.paths.prompts)[0]}
        others = [row for row in range(len(prompts)) if row not in chosen] or swept
        rows = [others[row] for row in prompts.take(others).first(n)]
        return first(self.checked, self.task.corrupt(self.paths_corruption), rows)

    @property
    def paths_corruption(self) -> str | None:
        """How the prompts of paths, knockouts and the circuit are corrupted."""
        return self.kind.path_corruption or self.settings.corruption or self.kind.corruption

    @cached_property
    def stand_in(self) -> Replacement:
        """What replaces a head in knockouts."""
        return stand_in(self.paths)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that are patched."""
        return self.kind.roles or tuple(self.checked.prompts.roles)


def ask(settings: Settings, kind: Kind) -> Subject:
    """The model, the prompts and their baselines.

    Raises:
        InputError, ModelError: settings that cannot be met.
    """
    check_name(settings.task)
    model = load_model(settings.model, device=settings.device, dtype=settings.dtype)
    n_checked = settings.prompts if kind.n_checked is None else max(settings.n_prompts, kind.n_checked)
    task = task_of(model, settings, kind, n_checked)
    corrupted = task.corrupt(settings.corruption or kind.corruption)
    metric = LogProb() if task.prompts.wrong is None else LogitDiff()
    checked = Contrast(model, task.prompts, corrupted, metric)
    return Subject(settings, kind, model, task, checked, first(checked, corrupted, settings.n_prompts))


def task_of(model: Model, settings: Settings, kind: Kind, n_prompts: int | None) -> Task:
    """The task with so many prompts, where it makes as many as it is asked for; None for as many as it usually does."""
    makes = settings.task in TASKS and "n_prompts" in TASKS[settings.task].options
    options = {
        "n_prompts": n_prompts if makes else None,
        "seed": settings.seed,
        "bos": kind.bos if settings.bos is None else settings.bos,
    }
    return make_task(model, settings.task, options)


def stand_in(pair: Contrast) -> Replacement:
    """What replaces a head in knockouts and in the circuit's tests: its mean by template where there are enough prompts
    of each, else by position.
    """
    drawn = drawn_reference(pair)
    if drawn is not None:
        return Replacement("template", reference=drawn)
    groups = pair.prompts.groups
    if groups is not None and int(groups.unique(return_counts=True)[1].min()) >= FEW:
        return Replacement("template")
    return Replacement("mean", "corrupted")


def first(pair: Contrast, corrupted: Prompts, which: int | Sequence[int]) -> Contrast:
    """The contrast of the first so many prompts, in whole clusters, or of these, against their corrupted."""
    rows = pair.prompts.first(which) if isinstance(which, int) else which
    return Contrast(pair.model, pair.prompts.take(rows), corrupted.take(rows), pair.metric)


def changed_roles(pair: Contrast, roles: Sequence[str]) -> list[str]:
    """The roles that stand, in some prompt, at or behind its first token that differs. Nothing differs at the rest."""
    differs = (pair.prompts.tokens != pair.corrupted.tokens).cumsum(1) > 0
    rows = torch.arange(len(pair.prompts), device=differs.device)
    return [role for role in roles if bool(differs[rows, pair.prompts.role(role)].any())]


def check_name(task: str) -> None:
    """Raises InputError for a task that is not known, before anything is loaded."""
    if task in TASKS:
        return
    if Path(task).suffix not in SUFFIXES:
        raise InputError(
            f"task: there is no {task!r}; choose among {', '.join(TASKS)}, or give a file of pairs that ends in "
            f"{', '.join(SUFFIXES)}"
        )
    if not Path(task).is_file():
        raise InputError(f"task: there is no file {task}")
