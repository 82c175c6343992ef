"""The report of a study: its answer, its sections, how it was made.

Every sentence that states a finding is computed from the results; see `unweave.studies.sections`.
"""

import os
import shlex

import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.methods.head_roles import HeadRoles
from unweave.metrics.contrast import Contrast
from unweave.results.labels import number
from unweave.studies.circuit_sections import drawing_of, tests_of
from unweave.studies.findings import control_values, finding_of
from unweave.studies.plan import FOLDER, Record, Result
from unweave.studies.scores import first_share, scores
from unweave.studies.sections import sections
from unweave.studies.subject import Settings, Subject
from unweave.studies.versions import versions
from unweave.tasks import Task
from unweave.views.blocks import Block, Fact, Table, Text
from unweave.views.circuit_tables import group_facts, score_facts
from unweave.views.investigation import settings_table
from unweave.views.report import Report
from unweave.views.result_tables import Baseline, baselines, task_finding
from unweave.views.wording import SPACE, counted, interval, percent

# What the levels of a sketch do, for one head and for several.
_LEVELS = {"level 1": ("acts directly on the logits", "act directly on the logits")} | {
    f"level {n}": (f"acts through level {n - 1}", f"act through level {n - 1}") for n in range(2, 10)
}
_READ = "`uw.load` reads a result, `uw.Circuit.load` the circuit, and `unweave show` prints and draws either."
# What stands in the answer; beside a circuit less.
_BESIDE = {"where it sits": "roles", "carried by": "heads"}
_SAID = {"written": "lens", "directly by": "heads-direct", "where it sits": "roles", "carried by": "heads"}


def task_line(subject: Subject) -> str:
    """Whether the model does the task, in a line."""
    clean, _ = baselines(scores(subject.checked))
    return f"{subject.model.config.name}: {task_finding(clean, subject.checked.metric.name)}"


def study_report(subject: Subject, record: Record, seconds: float, shortfall: str = "") -> Report:
    """The report as a value, of whatever the study has finished. `shortfall`: why the model does not do the task."""
    return Report(
        title=f"{_title(subject.task)} in {subject.model.config.name}",
        question=subject.task.question,
        facts=_facts(subject, record, seconds, shortfall),
        sections=sections(subject, record),
        appendix=_appendix(subject, record, seconds),
        command=command(subject.settings),
        drawing=drawing_of(subject, record),
    )


def command(settings: Settings) -> str:
    """What makes this report again."""
    plain = Settings()
    words = ["unweave", "study", settings.task]
    for name in ("model", "prompts", "seed", "corruption", "device", "dtype", "out"):
        value = getattr(settings, name)
        if value != getattr(plain, name):
            words += [f"--{name}", str(value)]
    if settings.bos is not None:
        words.append("--bos" if settings.bos else "--no-bos")
    flags = [f"--{name}" for name in ("quick", "anyway") if getattr(settings, name)]
    return shlex.join([*words, *flags])


def _title(task: Task) -> str:
    return task.title or task.name[:1].upper() + task.name[1:]


def _facts(subject: Subject, record: Record, seconds: float, shortfall: str) -> tuple[Fact, ...]:
    found = record.results
    facts = [Fact("not studied", f"The model does not do the task: {shortfall}")] if shortfall else []
    facts += _headlines(subject, record)
    if "circuit" in found:
        facts += group_facts(found["circuit"], {**_LEVELS, **(subject.kind.does or {})})
    said = _BESIDE if "circuit" in found else _SAID
    facts += [Fact(label, finding_of(found[name])) for label, name in said.items() if name in found]
    if record.stopped:
        facts.append(Fact("stopped", f"in the step `{record.stopped}`; what follows is what was finished by then"))
    return (*facts, *_made(subject, record, seconds))


def _headlines(subject: Subject, record: Record) -> list[Fact]:
    """How well the task is done, how good the circuit is, and what must be 0."""
    clean, corrupted = baselines(scores(subject.checked))
    metric = subject.checked.metric.name
    facts = [
        Fact(f"mean {metric}", number(clean.mean), _spread(clean), True),
        Fact("on the corrupted prompts", number(corrupted.mean), _spread(corrupted), True),
    ]
    if subject.checked.prompts.wrong is not None:
        first = f"first of all outputs on {percent(first_share(subject.checked))}"
        of = f"of {counted(clean.n, 'prompt')}; {first}"
        ahead = Fact("right answer ahead of the wrong one", percent(clean.above_zero), of, True)
        facts.insert(0, ahead)
    facts += score_facts(tests_of(record))
    if "controls" in record.results:
        control = control_values(record.results["controls"])
        note = f"the largest effect of {control.n} patches before the first changed token"
        facts.append(Fact("must be 0", number(control.largest), note, True))
    return facts


def _made(subject: Subject, record: Record, seconds: float) -> list[Fact]:
    """Model, prompts and time."""
    settings, config, n = subject.settings, subject.model.config, len(subject.checked.prompts)
    weights = ", ".join(filter(None, (config.quantization, config.source, config.revision)))
    seed = subject.task.prompts.source.get("seed")
    swept = f"{len(subject.pair.prompts)} of {counted(n, 'prompt')} swept, corruption `{_how(subject.pair)}`"
    if "paths" in record.results and subject.paths.corrupted.texts != subject.pair.corrupted.texts:
        swept += f"; for paths and the circuit {len(subject.paths.prompts)}, corruption `{_how(subject.paths)}`"
    if "evaluation" in record.results:
        swept += f"; the circuit is tested on {len(subject.judged.prompts)}"
    return [
        Fact("model", config.name, weights),
        Fact("prompts", swept, "" if seed is None else f"seed {seed}"),
        Fact("time", _duration(seconds), f"on {counted(os.cpu_count() or 1, 'core')}, {subject.model.device.type}"),
    ] + ([Fact("left out", "what takes long, by `--quick`")] if settings.quick else [])


def _how(pair: Contrast) -> str:
    return str(pair.corrupted.source.get("corruption", "given"))


def _spread(line: Baseline) -> str:
    return f"95{SPACE}% interval {interval(line.low, line.high)}" if line.n > 1 else "one prompt, no interval"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _appendix(subject: Subject, record: Record, seconds: float) -> tuple[Block, ...]:
    rows = tuple(
        (name, f"{record.seconds[name]:.1f} s", f"{FOLDER}/{record.files[name].name}", _size(result))
        for name, result in record.results.items()
    )
    warned = record.warned or ["None was raised."]
    tables = [result for result in record.results.values() if isinstance(result, (xr.DataArray, xr.Dataset))]
    # What has no metric is of other prompts than the study's.
    told = [scores(subject.checked), *(table for table in tables if "metric" in table.attrs)]
    return (
        settings_table(told),
        Table(("result", "time", "file", "size"), rows, "Results, beside this page", align="lrll"),
        Text((f"Everything together took {_duration(seconds)}. {_READ}",)),
        versions("unweave", "torch", "transformers", "numpy", "xarray", "plotly"),
        Text(("Warnings: " + "; ".join(warned),)),
    )


def _size(result: Result) -> str:
    if isinstance(result, Circuit):
        return f"{len(result.heads)} heads × {len(result.edges)} edges"
    if isinstance(result, HeadRoles):
        return _size(result.measures)
    if isinstance(result, xr.DataTree):
        return ", ".join(map(str, result.children))
    return " × ".join(f"{size} {dim}" for dim, size in result.sizes.items())
