"""The report of the study of indirect object identification: its answer, its sections, how it was made.

Every sentence that states a finding is computed from the results (see `unweave.views.titles`); what stands here as
prose says what was done, and what a figure can and cannot show.
"""

import os
import shlex
from importlib.metadata import PackageNotFoundError, version

from unweave.results.labels import number
from unweave.studies.ioi_sections import agreement, array, clear_heads, control_values, finding_of, scores, sections
from unweave.studies.ioi_subject import IoiSettings, Subject
from unweave.studies.plan import FOLDER, Record, Result
from unweave.views.answer import Fact
from unweave.views.baselines import Baseline, baselines
from unweave.views.blocks import Block, Table, Text
from unweave.views.report import Report
from unweave.views.sections import settings_table
from unweave.views.titles import task_finding
from unweave.views.wording import SPACE, counted, interval, percent


def task_line(subject: Subject) -> str:
    """Whether the model does the task, in a line."""
    return f"{subject.model.config.name}: {task_finding(baselines(scores(subject.checked))[0])}"


def ioi_report(settings: IoiSettings, subject: Subject, record: Record, seconds: float) -> Report:
    """The report as a value, of whatever the study has finished."""
    return Report(
        title=f"Indirect object identification in {subject.model.config.name}",
        question=subject.task.question,
        facts=_facts(settings, subject, record, seconds),
        sections=sections(subject, record),
        appendix=_appendix(settings, subject, record, seconds),
        command=command(settings),
    )


def command(settings: IoiSettings) -> str:
    """What makes this report again."""
    plain = type(settings)()
    words = ["unweave", "study", "ioi"]
    for name in ("model", "prompts", "seed", "corruption", "device", "dtype", "out"):
        value = getattr(settings, name)
        if value != getattr(plain, name):
            words += [f"--{name}", str(value)]
    if settings.bos != plain.bos:
        words.append("--no-bos")
    return shlex.join([*words, "--quick"] if settings.quick else words)


def _facts(settings: IoiSettings, subject: Subject, record: Record, seconds: float) -> tuple[Fact, ...]:
    clean, corrupted = baselines(scores(subject.checked))
    found = record.results
    facts = [
        Fact("right name ahead", percent(clean.above_zero), f"of {counted(clean.n, 'prompt')}", True),
        Fact("mean logit difference", number(clean.mean), _spread(clean), True),
        Fact("on the corrupted prompts", number(corrupted.mean), _spread(corrupted), True),
    ]
    if "controls" in found:
        control = control_values(found["controls"])
        note = f"the largest effect of {control.n} patches before the first changed token"
        facts.append(Fact("negative control", number(control.largest), note, True))
    said = {"written": "lens", "directly by": "heads-direct", "sits": "roles", "carried by": "heads"}
    facts += [Fact(label, finding_of(found[name])) for label, name in said.items() if name in found]
    if "heads" in found:
        each = "; ".join(
            f"{row.label} {number(row.mean)} ({interval(row.low, row.high)})"
            for row in clear_heads(array(found["heads"]))
        )
        facts.append(Fact("largest effects", each, "of head outputs, with 95 % intervals over prompts"))
    if "heads-other" in found and "heads" in found:
        facts.append(Fact("other corruption", agreement(found["heads"]["z"], array(found["heads-other"]))))
    if record.stopped:
        facts.append(Fact("stopped", f"in the step `{record.stopped}`; what follows is what was finished by then"))
    config = subject.model.config
    weights = ", ".join(filter(None, (config.quantization, config.source, config.revision)))
    swept = f"{settings.n_prompts} of {len(subject.checked.prompts)} prompts were swept"
    return (
        *facts,
        Fact("model", config.name, weights),
        Fact("prompts", swept, f"corruption `{settings.corruption}`, seed {settings.seed}"),
        Fact("time", _duration(seconds), f"on {counted(os.cpu_count() or 1, 'core')}, {subject.model.device.type}"),
    )


def _spread(line: Baseline) -> str:
    return f"95{SPACE}% interval {interval(line.low, line.high)}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _appendix(settings: IoiSettings, subject: Subject, record: Record, seconds: float) -> tuple[Block, ...]:
    rows = tuple(
        (name, f"{record.seconds[name]:.1f} s", f"{FOLDER}/{name}.nc", _size(result))
        for name, result in record.results.items()
    )
    packages = ("unweave", "torch", "transformers", "numpy", "xarray", "plotly")
    versions = tuple((name, _version(name)) for name in packages)
    warned = record.warned or ["None was raised."]
    return (
        settings_table([scores(subject.checked), *record.results.values()]),
        Table(("result", "time", "file", "size"), rows, "Results, beside this page", align="lrll"),
        Text((f"Everything together took {_duration(seconds)}. `uw.load` reads a result, `unweave show` prints it.",)),
        Table(("package", "version"), versions, "Versions", align="ll"),
        Text(("Warnings: " + "; ".join(warned),)),
    )


def _size(result: Result) -> str:
    return " × ".join(f"{size} {dim}" for dim, size in result.sizes.items())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # unweave itself, where it is run from its folder
        return "not installed"
