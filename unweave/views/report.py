"""`uw.report`: results as one page that answers first and then shows how the answer was found.

`Report` is the page as a value, for studies that write their own sections; `report` makes one from results alone:
1. the answer: model, how well it does the task, what carries the answer, the command that makes the page again;
2. sections in the order of an investigation: does it do the task, where is the answer written, what carries it, where
   do heads look, what does each do, which acts through which, what happens without them, is it position or token,
   is the circuit enough; only those that there are results for;
3. the settings that the results remember.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.errors import InputError
from unweave.methods.head_types import HeadTypes
from unweave.results.comparison import Agreement, Comparison
from unweave.results.origin import without_lost_claims
from unweave.views.blocks import Answer, Block, Fact, Section, Text
from unweave.views.circuit_drawing import circuit_drawing
from unweave.views.circuit_tables import group_facts, score_facts
from unweave.views.comparison_tables import table_of
from unweave.views.head_pictures import head_evidence
from unweave.views.investigation import (
    facts_of,
    results_table,
    roles_of,
    sections_of,
    settings_table,
    subjects_with_baselines,
)
from unweave.views.page import page, write_page
from unweave.views.pictures import Roles
from unweave.views.wording import Result, listed

__all__ = ["Fact", "Report", "report", "write"]


@dataclass(frozen=True)
class Report:
    """A report as a value: `write` makes the file.

    `facts` are the answer, most important first. `sections` follow in the order of the investigation, `appendix`
    (settings, versions, times, warnings) at the end. `command` makes the report again; `drawing` stands in the answer.
    """

    title: str
    question: str
    facts: tuple[Fact, ...]
    sections: tuple[Section, ...]
    appendix: tuple[Block, ...] = ()
    command: str = ""
    drawing: Block | None = None

    def html(self) -> str:
        """The whole page."""
        answer = Answer(self.title, self.question, self.facts, self.command, self.drawing)
        end = (Section("How this was made", self.appendix, "end"),) if self.appendix else ()
        return page(self.title, (answer, *self.sections, *end), contents=True)


def write(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write a report as one self-contained HTML file, in one step. Raises InputError where that cannot be done."""
    return write_page(report.html(), path)


def report(
    results: Sequence[Result | xr.DataTree | Circuit | HeadTypes | Comparison | Agreement],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    question: str = "",
    facts: Sequence[Fact] = (),
    command: str = "",
) -> Path:
    """A page from results: the answer first, then what each method showed.

    Args:
        results: results of methods; the order within a section is theirs. If they are of several models, tasks,
            metrics or sets of prompts, each figure says of which. An evaluation stands for its three tests, a circuit
            is drawn beside the answer, named heads are listed, curves of edges share a figure.
        path: the HTML file.
        title, question: what stands on top; the tasks and the models, if left out.
        facts: further lines of the answer, such as how long it took.
        command: what makes the page again.

    Returns:
        The path of the file.

    Raises:
        InputError: no result, something that is no result, two circuits, or a folder that cannot be written to.
    """
    page = built(_given(results), title=title, question=question, command=command)
    return write(replace(page, facts=(*page.facts, *facts)), path)


def built(given: "Given", title: str = "", question: str = "", command: str = "", notes: str = "") -> Report:
    """The report of results, as a value: the answer, the sections of an investigation, how it was made.

    Args:
        given: results of methods, a circuit, named heads, prompts.
        title: the tasks and the models, if left out.
        question, command: as of a `Report`.
        notes: a paragraph at the end.
    """
    # A result on other prompts, such as scores on random tokens, does not name the report.
    known = [result for _, result in subjects_with_baselines(given.arrays)] or list(given.arrays[:1])
    names = ([str(result.attrs.get(name, "")) for result in known] for name in ("task", "model"))
    about = " in ".join(filter(None, (listed(list(dict.fromkeys(filter(None, each)))) for each in names)))
    drawing, groups = None, ()
    if given.circuit is not None:
        evidence = head_evidence(given.named) if given.named else {}
        places = given.roles or roles_of(given.arrays)
        drawing, groups = circuit_drawing(given.circuit, places=places, evidence=evidence), group_facts(given.circuit)
    return Report(
        title=title or about or "Results",
        question=question,
        facts=(*facts_of(given.arrays), *score_facts(given.arrays), *groups),
        sections=sections_of(given.arrays, given.circuit, given.named, given.prompts, given.others),
        appendix=(*([Text((notes,))] if notes else []), settings_table(given.arrays), results_table(given.arrays)),
        command=command,
        drawing=drawing,
    )


@dataclass(frozen=True)
class Given:
    """What a report is made of: results of methods, an evaluation's tests among them, a circuit, named heads; and, if
    they are known, the prompts as blocks, and the positions of their roles; and blocks of other kinds.
    """

    arrays: tuple[Result, ...]
    circuit: Circuit | None = None
    named: HeadTypes | None = None
    prompts: Sequence[Block] = ()
    roles: Roles | None = None
    others: Sequence[Block] = ()


def _given(results: object) -> Given:
    alone = isinstance(results, (xr.DataArray, xr.Dataset, xr.DataTree, Circuit, HeadTypes, Comparison, Agreement))
    given = [results] if alone else list(results)  # type: ignore[call-overload]
    if not given:
        raise InputError("results: there is none; give a list of what the methods returned, [lens, heads]")
    arrays: list[Result] = []
    others: dict[type, object] = {}
    tables: list[Block] = []
    for place, result in enumerate(given):
        if isinstance(result, (xr.DataArray, xr.Dataset)):
            arrays.append(without_lost_claims(result))
        elif isinstance(result, xr.DataTree):
            arrays += [child.to_dataset() for child in result.children.values()]
        elif isinstance(result, (Comparison, Agreement)):
            tables.append(table_of(result))
        elif isinstance(result, (Circuit, HeadTypes)):
            kind = Circuit if isinstance(result, Circuit) else HeadTypes
            if kind in others:
                name = "circuit" if kind is Circuit else "set of named heads"
                raise InputError(f"results[{place}]: there is a {name} already; give each a report of its own")
            others[kind] = result
        else:
            raise InputError(
                f"results[{place}]: expected a DataArray or Dataset of a method, got {type(result).__name__}"
            )
    return Given(tuple(arrays), others.get(Circuit), others.get(HeadTypes), others=tables)  # type: ignore[arg-type]
