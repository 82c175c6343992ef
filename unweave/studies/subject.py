"""What the study of a task of pairs is about: model, prompts and their baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from unweave.circuits.ablation import FEW, drawn_reference
from unweave.circuits.halves import halves
from unweave.methods.replacement import Replacement
from unweave.metrics import LogitDiff, LogProb
from unweave.metrics.contrast import Contrast
from unweave.models.loading import DEFAULT_MODEL, load_model
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.studies.plan import Settings, Step
from unweave.tasks import TASKS, Task, make_task

# Prompts on which edges are measured.
N_EDGES = 8


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the study of one task has of its own, next to the standard investigation; all of it may be left out.

    Args:
        corruption: of the sweeps. `path_corruption`: of paths, knockouts and the circuit.
        n_checked: prompts on which the task is checked, the swept ones among them; as many as the task makes otherwise.
        bos: whether prompts begin with a beginning-of-sequence token if the settings do not say.
        roles: those that are patched; all of the task's otherwise.
        does: what a group of the circuit does, by its name, for one head and for several.
        own_steps: the standard steps in, the study's steps out.
        own_groups: groups of rows of the prompts on which the task is checked.
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
        return first(self.checked, self.task.corrupt(self.paths_corruption), n_paths(self.settings))

    @cached_property
    def judged(self) -> Contrast:
        """The contrast for the circuit's tests: prompts that did not choose it, if there are others."""
        prompts, n = self.checked.prompts, n_paths(self.settings)
        swept = prompts.first(n)
        chosen = {swept[row] for row in halves(self.paths.prompts)[0]}
        others = [row for row in range(len(prompts)) if row not in chosen] or swept
        rows = [others[row] for row in prompts.take(others).first(n)]
        return first(self.checked, self.task.corrupt(self.paths_corruption), rows)

    @cached_property
    def edges(self) -> Contrast:
        """The contrast for edges: some of the prompts that choose the circuit."""
        pair, rows = self.paths, halves(self.paths.prompts)[0]
        chosen = [rows[row] for row in pair.prompts.take(rows).first(N_EDGES)]
        return Contrast(pair.model, pair.prompts.take(chosen), pair.corrupted.take(chosen), pair.metric)

    @property
    def paths_corruption(self) -> str | None:
        """How the prompts of paths, knockouts and the circuit are corrupted."""
        return self.kind.path_corruption or self.settings.corruption or self.kind.corruption

    @cached_property
    def replacement(self) -> Replacement:
        """What replaces a head in knockouts."""
        return replacement_for(self.paths)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that are patched."""
        return self.kind.roles or tuple(self.checked.prompts.roles)


def ask(settings: Settings, kind: Kind) -> Subject:
    """The model, the prompts and their baselines.

    Raises:
        InputError, ModelError: settings that cannot be met.
    """
    model = load_model(settings.model or DEFAULT_MODEL, device=settings.device, dtype=settings.dtype)
    n_checked = settings.prompts if kind.n_checked is None else max(n_prompts(settings), kind.n_checked)
    task = task_of(model, settings, kind, n_checked)
    corrupted = task.corrupt(settings.corruption or kind.corruption)
    metric = LogProb() if task.prompts.wrong is None else LogitDiff()
    checked = Contrast(model, task.prompts, corrupted, metric)
    return Subject(settings, kind, model, task, checked, first(checked, corrupted, n_prompts(settings)))


def n_prompts(settings: Settings) -> int:
    """How many are swept. Fourteen are the fewest that can be significant for one of 270 heads after adjustment:
    270 / 2^13 is below 0.05.
    """
    return settings.prompts or (14 if settings.quick else 24)


def n_paths(settings: Settings) -> int:
    """Prompts for paths, knockouts and the circuit; half of them choose it (see `unweave.circuits.sketch`), and as many
    others test it.
    """
    return settings.prompts or (16 if settings.quick else 32)


def task_of(model: Model, settings: Settings, kind: Kind, n: int | None) -> Task:
    """The task with `n` prompts, if it makes as many as it is asked for; None for as many as it usually does."""
    makes = settings.task in TASKS and "n_prompts" in TASKS[settings.task].options
    options = {
        "n_prompts": n if makes else None,
        "seed": settings.seed,
        "bos": kind.bos if settings.bos is None else settings.bos,
    }
    return make_task(model, settings.task, options)


def replacement_for(pair: Contrast) -> Replacement:
    """What replaces a head in knockouts and in the circuit's tests: its mean by template if there are enough prompts
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
    """The roles that stand, in some prompt, at or after its first token that differs. Nothing differs at the rest."""
    differs = (pair.prompts.tokens != pair.corrupted.tokens).cumsum(1) > 0
    rows = torch.arange(len(pair.prompts), device=differs.device)
    return [role for role in roles if bool(differs[rows, pair.prompts.role(role)].any())]
