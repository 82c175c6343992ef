"""The report of a study: its answer, its sections in the order of every report, and how it was made.

A step's blocks stand in its section, in the order of the steps. Every sentence that states a finding is computed from
the results.
"""

import os
import shlex
from importlib import import_module

import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.methods.head_types import HeadTypes
from unweave.registry import LEFT_OUT, OTHERS, SECTIONS, method_of
from unweave.studies.plan import FOLDER, Record, Result, Settings, Study
from unweave.views.blocks import Block, Fact, Section, Table, Text
from unweave.views.investigation import in_order
from unweave.views.pictures import blocks_of
from unweave.views.report import Report
from unweave.views.wording import counted

_READ = "`uw.load` reads a result, `uw.Circuit.load` the circuit, and `unweave show` prints and draws either."
PACKAGES = ("unweave", "torch", "transformers", "numpy", "xarray", "plotly")


def report_of(study: Study, record: Record, seconds: float) -> Report:
    """The report as a value, of whatever the study has finished."""
    return Report(
        title=study.title,
        question=study.question,
        facts=_facts(study, record, seconds),
        sections=_sections(study, record),
        appendix=_appendix(study, record, seconds),
        command=command(study.settings),
        drawing=study.drawing(record.results),
    )


def command(settings: Settings) -> str:
    """What makes the report again: the options that differ from those by default."""
    plain, words = Settings(), ["unweave", "study", settings.task]
    for name in ("model", "config", "prompts", "seed", "corruption", "device", "dtype", "out"):
        value = getattr(settings, name)
        if value != getattr(plain, name):
            words += [f"--{name}", str(value)]
    words += [] if settings.bos is None else ["--bos" if settings.bos else "--no-bos"]
    return shlex.join([*words, *(f"--{name}" for name in ("quick", "anyway") if getattr(settings, name))])


def _facts(study: Study, record: Record, seconds: float) -> tuple[Fact, ...]:
    cores = f"on {counted(os.cpu_count() or 1, 'core')}, {study.device}"
    stopped = f"in the step `{record.stopped}`; what follows is what was finished by then"
    return (
        *([Fact("not studied", f"The model does not do the task: {study.shortfall}")] if study.shortfall else []),
        *study.facts(record.results),
        *([Fact("stopped", stopped)] if record.stopped else []),
        *study.about(record.results),
        Fact("time", _duration(seconds), cores),
        *([Fact("left out", "what takes long, by `--quick`")] if study.settings.quick else []),
    )


def _sections(study: Study, record: Record) -> tuple[Section, ...]:
    found = record.results
    blocks: dict[str, list[Block]] = {section: [] for section in SECTIONS}
    for section, own in study.blocks(found).items():
        blocks[section] += own
    for step in study.steps:
        if step.name in found:
            section = step.section or _section_of(found[step.name])
            blocks[section] += step.blocks(found) if step.blocks else blocks_of(found[step.name])
    if record.left_out:
        blocks[LEFT_OUT].append(Table(("what", "why"), tuple(record.left_out.items()), align="ll"))
    return in_order(blocks, study.texts(found))


def _section_of(result: Result) -> str:
    known = None if isinstance(result, (Circuit, HeadTypes)) else method_of(result.attrs)
    return known.section if known else OTHERS


def _appendix(study: Study, record: Record, seconds: float) -> tuple[Block, ...]:
    """Settings, results with their files and times, versions, and warnings."""
    rows = tuple(
        (name, f"{record.seconds[name]:.1f} s", f"{FOLDER}/{record.files[name].name}", _size(result))
        for name, result in record.results.items()
    )
    # Of PyTorch its build too, which the list of what is installed lacks.
    versions = tuple((name, str(import_module(name).__version__)) for name in PACKAGES)
    return (
        study.table(record.results),
        Table(("result", "time", "file", "size"), rows, "Results, in files next to this page", align="lrll"),
        Text((f"Everything together took {_duration(seconds)}. {_READ}",)),
        Table(("package", "version"), versions, "Versions", align="ll"),
        Text(("Warnings: " + "; ".join(record.warned or ["None was raised."]),)),
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _size(result: Result) -> str:
    if isinstance(result, Circuit):
        return f"{len(result.heads)} heads × {len(result.edges)} edges"
    if isinstance(result, HeadTypes):
        return _size(result.measures)
    if isinstance(result, xr.DataTree):
        return ", ".join(map(str, result.children))
    return " × ".join(f"{size} {dim}" for dim, size in result.sizes.items())
