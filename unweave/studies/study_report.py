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
from unweave.registry import LEFT_OUT, SECTIONS
from unweave.studies.plan import FOLDER, Record, Result, Settings, Study
from unweave.views.blocks import Answer, Block, Fact, Table, Text
from unweave.views.investigation import section_of
from unweave.views.pictures import blocks_of
from unweave.views.report import report_page
from unweave.views.wording import counted

_READ = "`uw.load` reads a result, `uw.Circuit.load` the circuit, and `unweave show` prints and draws either."
PACKAGES = ("unweave", "torch", "transformers", "numpy", "xarray", "plotly")


def report_of(study: Study, record: Record, seconds: float) -> str:
    """The page, of whatever the study has finished."""
    found = record.results
    blocks = {section: list(study.blocks(found).get(section, ())) for section in SECTIONS}
    for step in study.steps:
        if step.name in found:
            shown = step.blocks(found) if step.blocks else blocks_of(found[step.name])
            blocks[step.section or section_of(found[step.name])] += shown
    if record.left_out:
        blocks[LEFT_OUT].append(Table(("what", "why"), tuple(record.left_out.items()), align="ll"))
    facts, drawing = _facts(study, record, seconds), study.drawing(found)
    answer = Answer(study.title, study.question, facts, command(study.settings), drawing)
    return report_page(answer, blocks, study.texts(found), _appendix(study, record, seconds))


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
