"""The standard investigation: its steps, for any task with a clean and a corrupted prompt in each pair.

1. where is the answer written: logit lens, direct attribution by layer, head and neuron;
2. what carries it: patching by layer and token, and by layer and role; heads by output, query, key, value and pattern,
   in both directions and by role;
3. where the leading heads look, and what every head does on repeated random tokens;
4. which acts through which: path patching to the logits, and the circuit sketched backwards from there;
5. what happens without a head: knockouts at the place that is read, and what the others do without the strongest;
6. is the circuit enough: faithfulness, completeness, minimality;
7. controls: patches that cannot matter, and one that must carry everything.

A step that a task cannot have says why: an InputError, which is kept as the reason.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import xarray as xr

from unweave.circuits.circuit import Circuit, read_head
from unweave.circuits.edge_curve import curve
from unweave.circuits.evaluate import EvaluationOptions, evaluate
from unweave.circuits.sketch import SketchOptions, sketch
from unweave.errors import InputError
from unweave.methods.attention import attention
from unweave.methods.attribution import attribute, logit_lens
from unweave.methods.backup import backup_heads
from unweave.methods.edges import edges
from unweave.methods.head_scores import head_scores
from unweave.methods.knockout import knockout
from unweave.methods.patching import patch
from unweave.methods.path_patching import path_patch
from unweave.methods.role_attention import role_attention
from unweave.metrics.contrast import Contrast
from unweave.nodes import Head
from unweave.registry import ACT, BY_EDGES, ENOUGH, THROUGH
from unweave.results import Row, top
from unweave.studies import standard_pictures as pictures
from unweave.studies.controls import control_facts, controls_step
from unweave.studies.findings import N_LEADING, array, finding_of
from unweave.studies.plan import Report, Results, Settings, Step, Study, needed
from unweave.studies.scores import first_share, scores, shortfall
from unweave.studies.subject import Kind, Subject, ask, changed_roles, replacement_for
from unweave.views.blocks import Fact, Table
from unweave.views.circuit_tables import group_facts, score_facts
from unweave.views.investigation import score_facts_of, settings_table
from unweave.views.result_tables import baselines, task_finding
from unweave.views.sense import sense_of
from unweave.views.wording import counted, percent

STREAM = ("resid_pre", "attn_out", "mlp_out")
PARTS = ("z", "q", "k", "v", "pattern")
QUICK_PARTS = ("z",)
HEADS = ("layer", "head")

# What a quick study leaves out of its steps.
SHORTER = (
    "queries, keys, values and patterns of heads",
    "outputs of attention and MLPs",
    "the circuit beyond two levels",
    "greedy searches for completeness",
    "edges",
)
QUICK_RULES = SketchOptions(levels=2, attends=0.2)
QUICK_EFFORT = EvaluationOptions(best=3, subsets=5, searches=0)
BEFORE = "the first changed token"
# Edges that are run exactly, and that their circuit keeps.
N_VERIFIED, N_KEPT = 180, 200
# What the levels of a sketch do, for one head and for several.
_LEVELS = {"level 1": ("acts directly on the logits", "act directly on the logits")} | {
    f"level {n}": (f"acts through level {n - 1}", f"act through level {n - 1}") for n in range(2, 10)
}
# What stands in the answer; next to a circuit less.
_WITH_CIRCUIT = {"where it sits": "roles", "carried by": "heads"}
_SAID = {"written": "lens", "directly by": "heads-direct", **_WITH_CIRCUIT}


def standard_study(settings: Settings, kind: Kind | None = None) -> Study:
    """The study of a task of pairs, and of what the task has of its own. Raises InputError or ModelError as `ask`."""
    subject = ask(settings, kind or Kind())
    task, metric, (clean, _) = subject.task, subject.checked.metric.name, baselines(scores(subject.checked))
    return Study(
        settings=settings,
        title=f"{task.title or task.name[:1].upper() + task.name[1:]} in {subject.model.config.name}",
        question=task.question,
        steps=plan(subject),
        shortfall=shortfall(subject.checked),
        facts=partial(_facts, subject),
        about=partial(_about, subject),
        texts=partial(pictures.texts, subject),
        blocks=partial(pictures.own_blocks, subject),
        table=partial(_settings, subject),
        drawing=partial(pictures.circuit_drawn, subject),
        device=subject.model.device.type,
        first=f"{subject.model.config.name}: {task_finding(clean, metric)}",
        last=lambda found: str(top(found["heads"]["z"], N_LEADING)) if "heads" in found else "",
        shorter=SHORTER,
    )


def plan(subject: Subject) -> list[Step]:
    """The standard steps, and the task's own among them."""
    steps, own = standard_steps(subject), subject.kind.own_steps
    return own(subject, steps) if own else steps


def standard_steps(subject: Subject) -> list[Step]:
    """The steps in order."""
    pair = subject.pair
    return [
        *_written(pair),
        *_carried(subject),
        Step(
            "attention",
            "attention of the leading heads",
            lambda found, report: attention(pair, leading(found)),
            blocks=partial(pictures.attention_blocks, subject),
        ),
        Step("role-attention", "attention between roles", lambda found, report: role_attention(pair, _named(subject))),
        Step(
            "head-scores",
            "heads on random tokens",
            lambda found, report: head_scores(subject.model, 25, 10, bos=pair.prompts.bos),
        ),
        *_acting(subject),
        controls_step(pair, lambda: _controls(pair), BEFORE),
    ]


def _written(pair: Contrast) -> list[Step]:
    return [
        Step("lens", "logit lens", lambda found, report: logit_lens(pair)),
        Step("layers", "attribution by layer", lambda found, report: attribute(pair, "layer")),
        Step("heads-direct", "attribution by head", lambda found, report: attribute(pair, "head")),
        Step("heads-split", "attribution to each answer", lambda found, report: attribute(pair, "head", split=True)),
        Step("neurons", "attribution by neuron", lambda found, report: attribute(pair, "neuron", [_mlp(found)])),
    ]


def _carried(subject: Subject) -> list[Step]:
    pair, parts = subject.pair, QUICK_PARTS if subject.settings.quick else PARTS

    def noised(found: Results, report: Report) -> xr.DataArray | xr.Dataset:
        return patch(pair, "z", HEADS, "noise", progress=report)

    def by_role(found: Results, report: Report) -> xr.DataArray | xr.Dataset:
        return patch(pair, stream_of(subject), {"layer": None, "role": _named(subject)}, progress=report)

    def heads_by_role(found: Results, report: Report) -> xr.DataArray | xr.Dataset:
        roles = changed_roles(pair, _named(subject))
        return patch(pair, "z", {"layer": None, "head": None, "role": roles}, progress=report)

    return [
        Step("tokens", "patching by layer and token", lambda found, report: by_token(pair, stream_of(subject), report)),
        Step("roles", "patching by layer and role", by_role),
        Step("heads", "patching heads", lambda found, report: patch(pair, parts, HEADS, progress=report)),
        Step("heads-noise", "noising heads", noised, long=True, section=ACT, blocks=pictures.noise_blocks),
        Step("heads-role", "patching heads by role", heads_by_role, long=True),
    ]


def _acting(subject: Subject) -> list[Step]:
    """Paths, knockouts and the circuit. Their contrast is made when the first of them is run."""

    def direct(found: Results, report: Report) -> xr.DataArray:
        return path_patch(subject.paths, at=subject.paths.metric.role, progress=report)

    def knocked_out(found: Results, report: Report) -> xr.DataArray:
        pair = subject.paths
        # In the metric's own unit, as the backups next to them.
        return knockout(pair, "z", subject.replacement, pair.metric.role, measure="change", progress=report)

    def backups(found: Results, report: Report) -> xr.DataArray:
        pair = subject.paths
        return backup_heads(pair, strongest(found), subject.replacement, pair.metric.role)

    def evaluated(found: Results, report: Report) -> xr.DataTree:
        effort = QUICK_EFFORT if subject.settings.quick else EvaluationOptions()
        circuit, pair = needed(found, "circuit"), subject.judged
        return evaluate(circuit, pair, how=replacement_for(pair), effort=effort, progress=report)

    return [
        Step("paths", "path patching to the logits", direct),
        circuit_step(lambda found, report: sketched(subject, report)),
        Step("knockouts", "knocking out heads", knocked_out),
        Step("backups", "the heads that step in", backups),
        Step("evaluation", "evaluating the circuit", evaluated, section=ENOUGH, blocks=pictures.test_blocks),
        *_edges(subject),
    ]


def _edges(subject: Subject) -> list[Step]:
    """Effects of edges on a few prompts, the circuit of the largest, and its curve on others, beside that of heads."""

    def measured(found: Results, report: Report) -> xr.DataArray:
        return edges(subject.edges, verify=N_VERIFIED, control=N_VERIFIED // 3, progress=report)

    def kept(found: Results, report: Report) -> Circuit:
        effects = needed(found, "edges")
        return Circuit.from_edges(effects, min(N_KEPT, effects.sizes["edge"]), by="greedy")

    def scored(found: Results, report: Report) -> xr.DataArray:
        return curve(subject.judged, needed(found, "edges"), by="greedy", progress=report)

    def beside(found: Results, report: Report) -> xr.DataArray:
        circuit, best = needed(found, "circuit"), _best_first(found)
        first = [circuit.without(best[n:]) for n in (1, 2, 3, 6, 12, 24) if n < len(best)]
        return curve(subject.judged, [*first, circuit], progress=report)

    return [
        Step("edges", "effects of edges", measured, long=True),
        Step(
            "edge-circuit",
            "the circuit of the largest edges",
            kept,
            long=True,
            section=BY_EDGES,
            blocks=partial(pictures.circuit_blocks, "edge-circuit"),
        ),
        Step("edge-curve", "scores of circuits of edges", scored, long=True, section=BY_EDGES, blocks=lambda found: []),
        Step(
            "head-curve",
            "scores of circuits of heads",
            beside,
            long=True,
            section=BY_EDGES,
            blocks=pictures.both_curves,
        ),
    ]


def _best_first(found: Results) -> list[Head]:
    """The circuit's heads in the order of its curve."""
    order = needed(found, "evaluation")["curve"].attrs["members"]
    return [read_head(head) for head in max(order.values(), key=len)]


def circuit_step(make: Callable[[Results, Report], Circuit]) -> Step:
    """The sketch; its paths are listed."""
    blocks = partial(pictures.circuit_blocks, "circuit")
    return Step("circuit", "sketching the circuit", make, section=THROUGH, blocks=blocks)


def stream_of(subject: Subject) -> tuple[str, ...]:
    """The sites of the residual stream that are patched: where the answer sits, and what moves it."""
    if subject.settings.quick:
        return STREAM[:1]
    return STREAM if subject.model.config.d_mlp else STREAM[:2]


def leading(found: Results) -> list[Head]:
    """The heads whose output has the largest effects."""
    return heads_of(top(needed(found, "heads")["z"], N_LEADING))


def strongest(found: Results) -> list[Head]:
    """The head with the largest direct effect for the answer, of the significant ones; without it most is lost."""
    paths = needed(found, "paths")
    rows, sign = pictures.carrying(paths, paths[0].size), sense_of(paths).carries
    return heads_of([row for row in rows if row.p_holm <= 0.05 and sign * row.mean > 0][:1] or rows[:1])


def heads_of(rows: Iterable[Row]) -> list[Head]:
    """The heads that rows of a result are of."""
    return [(int(row.where["layer"]), int(row.where["head"])) for row in rows]


def sketched(subject: Subject, report: Report) -> Circuit:
    """The circuit, by levels of path patching."""
    return sketch(subject.paths, QUICK_RULES if subject.settings.quick else None, progress=report)


def by_token(pair: Contrast, sites: Sequence[str], report: Report) -> xr.DataArray | xr.Dataset:
    """Patching by layer and token. Raises InputError if a position is another place in every prompt."""
    lengths = sorted(set(pair.prompts.lengths.tolist()))
    if len(lengths) > 1:
        raise InputError(
            f"the prompts are {lengths[0]} to {lengths[-1]} tokens long, so that a position has no one meaning; "
            "roles have"
        )
    return patch(pair, sites, ("layer", "pos"), progress=report)


def _mlp(found: Results) -> int:
    """The layer whose MLP contributes most. Raises InputError if there are no MLPs."""
    layers = array(needed(found, "layers"))
    if "mlp" not in layers["part"]:
        raise InputError("this model has no MLPs, so it has no neurons")
    means = layers.sel(part="mlp").mean("prompt")
    return int(means["layer"].values[np.abs(means.values).argmax()])


def _named(subject: Subject) -> Sequence[str]:
    """The roles. Raises InputError if the task names none."""
    if set(subject.roles) == {subject.pair.metric.role}:
        raise InputError("the task names no positions but the last; give some, in a file as columns `role:NAME`")
    return subject.roles


def _controls(pair: Contrast) -> list[str]:
    """Patches before the first changed token, which must have effect 0, and of all that is read, which must have 1."""
    differs = (pair.prompts.tokens != pair.corrupted.tokens).any(0)
    before = int(differs.int().argmax()) - 1
    if before < 0:
        raise InputError("a prompt differs from its corrupted one in its first token, so that nothing stands before it")
    n_layers = pair.model.config.n_layers
    place = "start" if "start" in pair.prompts.roles else before
    whole = f"resid_post {n_layers - 1} @{pair.metric.role}"
    return [*(f"resid_pre {layer} @{place}" for layer in range(n_layers)), whole]


def _facts(subject: Subject, found: Results) -> list[Fact]:
    """How well the task is done, how good the circuit is, what must be 0; what the circuit and the methods show."""
    facts = score_facts_of(*baselines(scores(subject.checked)), subject.checked.metric.name)
    if subject.checked.prompts.wrong is not None and facts[0].label.startswith("right"):
        first = f"first of all outputs on {percent(first_share(subject.checked))}"
        facts[0] = replace(facts[0], note=f"{facts[0].note}; {first}")
    facts += [*score_facts(pictures.tests_of(found)), *control_facts(found, BEFORE)]
    if "circuit" in found:
        facts += group_facts(found["circuit"], {**_LEVELS, **(subject.kind.does or {})})
    said = _WITH_CIRCUIT if "circuit" in found else _SAID
    return [*facts, *(Fact(label, finding_of(found[name])) for label, name in said.items() if name in found)]


def _about(subject: Subject, found: Results) -> list[Fact]:
    """Model and prompts."""
    config, n = subject.model.config, len(subject.checked.prompts)
    weights = ", ".join(filter(None, (config.quantization, config.source, config.revision)))
    seed = subject.task.prompts.source.get("seed")
    swept = f"{len(subject.pair.prompts)} of {counted(n, 'prompt')} swept, corruption `{pictures.how(subject.pair)}`"
    if "paths" in found and subject.paths.corrupted.texts != subject.pair.corrupted.texts:
        how = pictures.how(subject.paths)
        swept += f"; for paths and the circuit {len(subject.paths.prompts)}, corruption `{how}`"
    if "evaluation" in found:
        swept += f"; the circuit is tested on {len(subject.judged.prompts)}"
    return [Fact("model", config.name, weights), Fact("prompts", swept, "" if seed is None else f"seed {seed}")]


def _settings(subject: Subject, found: Results) -> Table:
    """Of the study's results; what has no metric is of other prompts."""
    tables = [one for one in found.values() if isinstance(one, (xr.DataArray, xr.Dataset)) and "metric" in one.attrs]
    return settings_table([scores(subject.checked), *tables])
