"""The study of indirect object identification: whether a model does it, and where its answer comes from.

The steps, after Wang et al. 2022 (arXiv 2211.00593), in the order of the field's notebooks:

1. does the model do the task: many prompts, both orders of the names, and the eight fixed prompts;
2. where is the answer written: logit lens, direct attribution by layer, head and neuron;
3. what carries it: patching by layer and token (fixed prompts) and by layer and role, heads by output, query, key, value and
   pattern, in both directions, by role, and under the other corruption;
4. where the leading heads look;
5. controls: patches that cannot matter, and one that must carry everything.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unweave.errors import Interrupted
from unweave.methods.attention import attention
from unweave.methods.attribution import attribute, logit_lens
from unweave.methods.patching import patch, patch_at
from unweave.metrics import LogitDiff
from unweave.metrics.contrast import Contrast
from unweave.models.loading import DEFAULT_MODEL, load_model
from unweave.models.model import Model
from unweave.progress import Progress
from unweave.results import top
from unweave.studies.plan import Result, Results, Step, carry_out
from unweave.tasks import Prompts, Task, ioi, ioi_fixed
from unweave.views.report import write

ROLES = ("IO", "S1", "S1+1", "S2", "end")
STREAM = ("resid_pre", "attn_out", "mlp_out")
PARTS = ("z", "q", "k", "v", "pattern")
HEADS = ("layer", "head")
# Left out by a quick study; each takes as long as the rest of it.
LONG = ("heads-noise", "heads-role", "heads-other")
N_CHECKED = 100
N_LEADING = 6


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
    """What is studied: the model, the baselines of many prompts, and the contrast of those that are swept, the first of them."""

    model: Model
    task: Task
    checked: Contrast
    pair: Contrast


def study_ioi(settings: IoiSettings, tell: Callable[[str], None] = print) -> Path:
    """Run the study, save its results and write its report.

    Args:
        settings: model, prompts, seed, corruption, and the folder that everything goes to.
        tell: gets a line for each finding, as soon as it is there.

    Returns:
        The report, `index.html` in the folder.

    Raises:
        InputError, ModelError: settings that cannot be met.
        Interrupted: Ctrl-C; the report holds what was finished by then.
    """
    from unweave.studies.ioi_report import finding_of, ioi_report, task_line

    start = time.perf_counter()
    subject = ask(settings)
    tell(task_line(subject))
    steps = plan(settings, subject)
    record = carry_out(
        steps, settings.out, lambda step, result, seconds: tell(f"{step.title} ({seconds:.0f} s): {finding_of(result)}")
    )
    report = ioi_report(settings, subject, record, time.perf_counter() - start)
    path = write(report, settings.out / "index.html")
    if record.stopped:
        done = f"{len(record.results)} of {len(steps)} steps were finished"
        raise Interrupted(f"in the step {record.stopped!r}; {done} and are in {path}", record.results)
    if "heads" in record.results:
        tell(str(top(record.results["heads"]["z"], N_LEADING)))
    tell(f"The report: {path}")
    return path


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


def plan(settings: IoiSettings, subject: Subject) -> list[Step]:
    """The steps in order; a quick study leaves some out."""
    pair = subject.pair
    stream = [site for site in STREAM if subject.model.config.d_mlp or site != "mlp_out"]
    roles = {"layer": None, "role": ROLES}
    late = {"layer": None, "head": None, "role": ("S1+1", "S2", "end")}
    steps = [
        Step("lens", "logit lens", lambda found, report: logit_lens(pair)),
        Step("layers", "attribution by layer", lambda found, report: attribute(pair, "layer")),
        Step("heads-direct", "attribution by head", lambda found, report: attribute(pair, "head")),
        Step("neurons", "attribution by neuron", lambda found, report: attribute(pair, "neuron", [_mlp(found)])),
        Step("tokens", "patching by layer and token", lambda found, report: _tokens(subject, settings, stream, report)),
        Step("roles", "patching by layer and role", lambda found, report: patch(pair, stream, roles, progress=report)),
        Step("heads", "patching heads", lambda found, report: patch(pair, PARTS, HEADS, progress=report)),
        Step("heads-noise", "spoiling heads", lambda found, report: patch(pair, "z", HEADS, "noise", progress=report)),
        Step("heads-role", "patching heads by role", lambda found, report: patch(pair, "z", late, progress=report)),
        Step("heads-other", "the other corruption", lambda found, report: _other(subject, settings, report)),
        Step("attention", "attention of the leading heads", lambda found, report: attention(pair, leading(found))),
        Step("controls", "controls", lambda found, report: patch_at(pair, _controls(subject.model), progress=report)),
    ]
    return [step for step in steps if not (settings.quick and step.name in LONG)]


def leading(found: Results) -> list[tuple[int, int]]:
    """The heads whose output has the largest effects, as `(layer, head)`."""
    rows = top(found["heads"]["z"], N_LEADING)
    return [(int(row.where["layer"]), int(row.where["head"])) for row in rows]


def _mlp(found: Results) -> int:
    """The layer whose MLP says most."""
    means = found["layers"].sel(part="mlp").mean("prompt")
    return int(means["layer"][int(abs(means).argmax())])


def _tokens(subject: Subject, settings: IoiSettings, stream: Sequence[str], report: Progress | bool) -> Result:
    """The eight fixed prompts are of equal length, so that positions can be compared and shown with their tokens."""
    task = ioi_fixed(subject.model, bos=settings.bos)
    pair = Contrast(subject.model, task.prompts, task.corrupt("swap"), subject.pair.metric)
    return patch(pair, stream[:1] if settings.quick else stream, ("layer", "pos"), progress=report)


def _other(subject: Subject, settings: IoiSettings, report: Progress | bool) -> Result:
    """The heads again, under a corruption that changes what the study's own leaves as it is."""
    how = "swap" if settings.corruption == "ABC" else "ABC"
    pair = first(subject.checked, subject.task.corrupt(how), settings.n_prompts)
    return patch(pair, "z", HEADS, progress=report)


def _controls(model: Model) -> list[str]:
    """Patches before the first differing token, whose effect must be exactly 0, and of all that is read, which must be 1."""
    last = model.config.n_layers - 1
    return [*(f"resid_pre {layer} @start" for layer in (0, (last + 1) // 2, last)), f"resid_post {last} @end"]
