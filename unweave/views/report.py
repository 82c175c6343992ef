"""`uw.report`: results as one page that answers first and then shows how the answer was found.

`report_page` builds every report, of results, of a study and of the command:
1. the answer: model, how well it does the task, what carries the answer, the command that makes the page again;
2. sections in the order of an investigation, each with what its methods do; only those that have a block;
3. how it was made: settings, versions, times, warnings.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.errors import InputError
from unweave.methods.head_types import HeadTypes
from unweave.registry import OTHERS, SECTIONS
from unweave.results.comparison import Agreement, Comparison
from unweave.results.origin import without_lost_claims
from unweave.views.blocks import Answer, Block, Fact, Section, Text
from unweave.views.circuit_drawing import circuit_drawing
from unweave.views.circuit_tables import group_facts, score_facts
from unweave.views.comparison_tables import table_of
from unweave.views.head_pictures import head_evidence
from unweave.views.investigation import (
    SAYS,
    blocks_by_section,
    facts_of,
    results_table,
    roles_of,
    settings_table,
    subjects_with_baselines,
)
from unweave.views.page import page, write_page
from unweave.views.pictures import Roles
from unweave.views.wording import Result, listed

__all__ = ["Fact", "report", "report_page"]


def report_page(
    answer: Answer,
    blocks: Mapping[str, Sequence[Block]],
    texts: Mapping[str, Sequence[str]] | None = None,
    appendix: Sequence[Block] = (),
) -> str:
    """A whole report.

    Args:
        answer: stands first; its facts the most important first.
        blocks: of the sections, by title; sections without a block are left out.
        texts: further paragraphs of sections, by title.
        appendix: how it was made.
    """
    sections = []
    for title in SECTIONS:
        said = (*SAYS.get(title, ()), *(texts or {}).get(title, ()))
        if blocks.get(title):
            sections.append(Section(title, (*([Text(said)] if said else []), *blocks[title])))
    end = (Section("How this was made", appendix, "end"),) if appendix else ()
    return page(answer.title, (answer, *sections, *end), contents=True)


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
            is drawn next to the answer, named heads are listed, curves of edges share a figure.
        path: the HTML file.
        title, question: what stands on top; the tasks and the models, if left out.
        facts: further lines of the answer, such as how long it took.
        command: what makes the page again.

    Returns:
        The path of the file.

    Raises:
        InputError: no result, something that is no result, two circuits, or a folder that cannot be written to.
    """
    return write_page(built(_given(results), title, question, command, facts=facts), path)


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


def built(
    given: Given, title: str = "", question: str = "", command: str = "", notes: str = "", facts: Sequence[Fact] = ()
) -> str:
    """The report of results: the answer, the sections of an investigation, how it was made.

    Args:
        given: results of methods, a circuit, named heads, prompts.
        title: the tasks and the models, if left out.
        question, command, facts: as of `report`.
        notes: a paragraph at the end.
    """
    # A result on other prompts, such as scores on random tokens, does not name the report.
    known = [result for _, result in subjects_with_baselines(given.arrays)] or list(given.arrays[:1])
    names = ([str(result.attrs.get(name, "")) for result in known] for name in ("task", "model"))
    about = " in ".join(filter(None, (listed(list(dict.fromkeys(filter(None, each)))) for each in names)))
    drawing, groups = None, ()
    if given.circuit is not None:
        drawing = drawing_of(given.circuit, given.named, given.roles or roles_of(given.arrays))
        groups = group_facts(given.circuit)
    said = (*facts_of(given.arrays), *score_facts(given.arrays), *groups, *facts)
    blocks = blocks_by_section(given.arrays, given.circuit, given.named, given.prompts)
    blocks[OTHERS] += given.others
    made = (*([Text((notes,))] if notes else []), settings_table(given.arrays), results_table(given.arrays))
    return report_page(Answer(title or about or "Results", question, said, command, drawing), blocks, appendix=made)


def drawing_of(circuit: Circuit, named: HeadTypes | None, roles: Roles | None) -> Block:
    """The circuit next to the answer, with what earned its heads their names."""
    return circuit_drawing(circuit, places=roles, evidence=head_evidence(named) if named else {})


def _given(results: object) -> Given:
    alone = isinstance(results, (xr.DataArray, xr.Dataset, xr.DataTree, Circuit, HeadTypes, Comparison, Agreement))
    given = [results] if alone else list(results)  # type: ignore[call-overload]
    if not given:
        raise InputError("results: there is none; give a list of what the methods returned, [lens, heads]")
    arrays: list[Result] = []
    single: dict[type, object] = {}
    tables: list[Block] = []
    for place, result in enumerate(given):
        if isinstance(result, (xr.DataArray, xr.Dataset)):
            arrays.append(without_lost_claims(result))
        elif isinstance(result, xr.DataTree):
            arrays += [child.to_dataset() for child in result.children.values()]
        elif isinstance(result, (Comparison, Agreement)):
            tables.append(table_of(result))
        elif not isinstance(result, (Circuit, HeadTypes)):
            raise InputError(
                f"results[{place}]: expected a DataArray or Dataset of a method, got {type(result).__name__}"
            )
        elif type(result) in single:
            name = "circuit" if isinstance(result, Circuit) else "set of named heads"
            raise InputError(f"results[{place}]: there is a {name} already; give each a report of its own")
        else:
            single[type(result)] = result
    return Given(tuple(arrays), single.get(Circuit), single.get(HeadTypes), others=tables)  # type: ignore[arg-type]
