"""The study of indirect object identification: whether a model does it, and where its answer comes from.

The steps, after Wang et al. 2022 (arXiv 2211.00593), in the order of the field's notebooks:

1. does the model do the task: many prompts, both orders of the names, and the eight fixed prompts;
2. where is the answer written: logit lens, direct attribution by layer, head and neuron;
3. what carries it: patching by layer and token (fixed prompts) and by layer and role, heads by output, query, key,
   value and pattern, in both directions, by role, and under the other corruption;
4. where the leading heads look;
5. controls: patches that cannot matter, and one that must carry everything.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unweave.errors import InputError, Interrupted
from unweave.methods.attention import attention
from unweave.methods.attribution import attribute, logit_lens
from unweave.methods.patching import patch, patch_at
from unweave.metrics.contrast import Contrast
from unweave.models.model import Model
from unweave.progress import Progress
from unweave.results import top
from unweave.studies.ioi_report import ioi_report, task_line
from unweave.studies.ioi_sections import array, finding_of
from unweave.studies.ioi_subject import IoiSettings, Subject, ask, first
from unweave.studies.plan import Result, Results, Step, carry_out
from unweave.tasks import ioi_fixed
from unweave.views.report import write

ROLES = ("IO", "S1", "S1+1", "S2", "end")
STREAM = ("resid_pre", "attn_out", "mlp_out")
PARTS = ("z", "q", "k", "v", "pattern")
QUICK_PARTS = ("z", "v", "pattern")
HEADS = ("layer", "head")
# Left out by a quick study; each takes as long as the rest of it.
LONG = ("heads-noise", "heads-role", "heads-other")
N_LEADING = 6


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
    start = time.perf_counter()
    subject = ask(settings)
    tell(task_line(subject))
    steps = plan(settings, subject)
    skipped: dict[str, str] = (
        dict.fromkeys((*LONG, "queries and keys"), "left out by --quick") if settings.quick else {}
    )
    record = carry_out(
        [step for step in steps if step.name not in skipped],
        settings.out,
        lambda step, result, seconds: tell(f"{step.title} ({seconds:.0f} s): {finding_of(result)}"),
    )
    record.left_out |= skipped
    report = ioi_report(settings, subject, record, time.perf_counter() - start)
    path = write(report, settings.out / "index.html")
    if record.stopped:
        done = f"{len(record.results)} of {len(steps)} steps were finished"
        raise Interrupted(f"in the step {record.stopped!r}; {done} and are in {path}", record.results)
    if "heads" in record.results:
        tell(str(top(record.results["heads"]["z"], N_LEADING)))
    tell(f"The report: {path}")
    return path


def plan(settings: IoiSettings, subject: Subject) -> list[Step]:
    """The steps in order."""
    pair = subject.pair
    stream = [site for site in STREAM if subject.model.config.d_mlp or site != "mlp_out"]
    parts = QUICK_PARTS if settings.quick else PARTS
    roles = {"layer": None, "role": ROLES}
    late = {"layer": None, "head": None, "role": ("S1+1", "S2", "end")}
    steps = [
        Step("lens", "logit lens", lambda found, report: logit_lens(pair)),
        Step("layers", "attribution by layer", lambda found, report: attribute(pair, "layer")),
        Step("heads-direct", "attribution by head", lambda found, report: attribute(pair, "head")),
        Step("neurons", "attribution by neuron", lambda found, report: attribute(pair, "neuron", [_mlp(found)])),
        Step("tokens", "patching by layer and token", lambda found, report: _tokens(subject, settings, stream, report)),
        Step("roles", "patching by layer and role", lambda found, report: patch(pair, stream, roles, progress=report)),
        Step("heads", "patching heads", lambda found, report: patch(pair, parts, HEADS, progress=report)),
        Step("heads-noise", "spoiling heads", lambda found, report: patch(pair, "z", HEADS, "noise", progress=report)),
        Step("heads-role", "patching heads by role", lambda found, report: patch(pair, "z", late, progress=report)),
        Step("heads-other", "the other corruption", lambda found, report: _other(subject, settings, report)),
        Step("attention", "attention of the leading heads", lambda found, report: attention(pair, leading(found))),
        Step("controls", "controls", lambda found, report: patch_at(pair, _controls(subject.model), progress=report)),
    ]
    return steps


def leading(found: Results) -> list[tuple[int, int]]:
    """The heads whose output has the largest effects, as `(layer, head)`."""
    rows = top(found["heads"]["z"], N_LEADING)
    return [(int(row.where["layer"]), int(row.where["head"])) for row in rows]


def _mlp(found: Results) -> int:
    """The layer whose MLP says most. Raises InputError where there are no MLPs."""
    layers = array(found["layers"])
    if "mlp" not in layers["part"]:
        raise InputError("this model has no MLPs, so it has no neurons")
    means = layers.sel(part="mlp").mean("prompt")
    return int(means["layer"].values[np.abs(means.values).argmax()])


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
    """Patches before the first changed token, which must have effect 0, and of all that is read, which must have 1."""
    n_layers = model.config.n_layers
    return [*(f"resid_pre {layer} @start" for layer in range(n_layers)), f"resid_post {n_layers - 1} @end"]
