"""What the study of indirect object identification is about: settings, model, prompts and their baselines."""

from dataclasses import dataclass
from pathlib import Path

from unweave.metrics import LogitDiff
from unweave.metrics.contrast import Contrast
from unweave.models.loading import DEFAULT_MODEL, load_model
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.tasks import Task, ioi

N_CHECKED = 100


@dataclass(frozen=True, kw_only=True)
class IoiSettings:
    """What the study is run with; the report repeats it. `prompts` is the number that the sweeps take."""

    model: str = DEFAULT_MODEL
    prompts: int | None = None
    seed: int = 0
    corruption: str = "swap"
    out: Path = Path("report")
    device: str | None = None
    dtype: str = "float32"
    bos: bool | None = True
    quick: bool = False

    @property
    def n_prompts(self) -> int:
        """Fourteen are the fewest that can tell one of 270 heads from 0 after adjustment: 270 / 2^13 is below 0.05."""
        return self.prompts or (14 if self.quick else 24)


@dataclass(frozen=True)
class Subject:
    """The model, the task, the contrast of many prompts, and that of the first of them, which are swept."""

    model: Model
    task: Task
    checked: Contrast
    pair: Contrast


def ask(settings: IoiSettings) -> Subject:
    """The model, the prompts and their baselines."""
    model = load_model(settings.model, device=settings.device, dtype=settings.dtype)
    task = ioi(model, n_prompts=max(settings.n_prompts, N_CHECKED), seed=settings.seed, bos=settings.bos)
    corrupted = task.corrupt(settings.corruption)
    checked = Contrast(model, task.prompts, corrupted, LogitDiff())
    return Subject(model, task, checked, first(checked, corrupted, settings.n_prompts))


def first(pair: Contrast, corrupted: Prompts, n: int) -> Contrast:
    """The contrast of the first `n` prompts, against the first `n` of `corrupted`."""
    return Contrast(pair.model, pair.prompts.take(range(n)), corrupted.take(range(n)), pair.metric)
