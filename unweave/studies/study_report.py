"""The report of a study: its answer, its sections, how it was made.

Every sentence that states a finding is computed from the results; see `unweave.studies.study_sections`.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.methods.head_types import HeadTypes
from unweave.metrics.contrast import Contrast
from unweave.results.labels import number
from unweave.studies.findings import control_values, finding_of
from unweave.studies.plan import FOLDER, Record, Result
from unweave.studies.scores import first_share, scores
from unweave.studies.study_sections import drawing_of, sections, tests_of
from unweave.studies.subject import Settings, Subject
from unweave.studies.versions import versions
from unweave.tasks import Task
from unweave.views.blocks import Block, Fact, Table, Text
from unweave.views.circuit_tables import group_facts, score_facts
from unweave.views.investigation import score_facts_of, settings_table
from unweave.views.report import Report
from unweave.views.result_tables import baselines, task_finding
from unweave.views.wording import counted, percent

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
        command=made_by(subject.settings),
        drawing=drawing_of(subject, record),
    )


def command(settings: Any, task: str, names: Sequence[str], flags: Sequence[str] = ()) -> str:
    """What makes a report again: the options that differ from those by default.

    Args:
        settings: of a study, a dataclass.
        task: which study.
        names: of the settings that are options with a value.
        flags: further words.
    """
    plain, words = type(settings)(), ["unweave", "study", task]
    for name in names:
        if getattr(settings, name) != getattr(plain, name):
            words += [f"--{name}", str(getattr(settings, name))]
    return shlex.join([*words, *flags, *(f"--{name}" for name in ("quick", "anyway") if getattr(settings, name))])


def made_by(settings: Settings) -> str:
    """What makes the report of a standard study again."""
    bos = [] if settings.bos is None else ["--bos" if settings.bos else "--no-bos"]
    names = ("model", "prompts", "seed", "corruption", "device", "dtype", "out")
    return command(settings, settings.task, names, bos)


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
    facts = score_facts_of(*baselines(scores(subject.checked)), subject.checked.metric.name)
    if subject.checked.prompts.wrong is not None and facts[0].label.startswith("right"):
        first = f"first of all outputs on {percent(first_share(subject.checked))}"
        facts[0] = replace(facts[0], note=f"{facts[0].note}; {first}")
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


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _appendix(subject: Subject, record: Record, seconds: float) -> tuple[Block, ...]:
    tables = [result for result in record.results.values() if isinstance(result, (xr.DataArray, xr.Dataset))]
    # What has no metric is of other prompts than the study's.
    told = [scores(subject.checked), *(table for table in tables if "metric" in table.attrs)]
    return appendix(record, seconds, settings_table(told), "transformers")


def appendix(record: Record, seconds: float, settings: Table, *packages: str) -> tuple[Block, ...]:
    """How a study was made: its settings, its results with their files, its time, versions, and warnings."""
    rows = tuple(
        (name, f"{record.seconds[name]:.1f} s", f"{FOLDER}/{record.files[name].name}", _size(result))
        for name, result in record.results.items()
    )
    return (
        settings,
        Table(("result", "time", "file", "size"), rows, "Results, beside this page", align="lrll"),
        Text((f"Everything together took {_duration(seconds)}. {_READ}",)),
        versions("unweave", "torch", *packages, "numpy", "xarray", "plotly"),
        Text(("Warnings: " + "; ".join(record.warned or ["None was raised."]),)),
    )


def _size(result: Result) -> str:
    if isinstance(result, Circuit):
        return f"{len(result.heads)} heads × {len(result.edges)} edges"
    if isinstance(result, HeadTypes):
        return _size(result.measures)
    if isinstance(result, xr.DataTree):
        return ", ".join(map(str, result.children))
    return " × ".join(f"{size} {dim}" for dim, size in result.sizes.items())
