"""`uw.report`: results as one page that answers first and then shows how the answer was found.

`Report` is the page as a value, for studies that write their own sections; `report` makes one from results alone:
1. the answer: model, how well it does the task, what carries the answer, the command that makes the page again;
2. sections in the order of an investigation: does it do the task, where is the answer written, what carries it, where
   do heads look; only those that there are results for;
3. the settings that the results remember.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unweave.errors import InputError
from unweave.views.answer import Answer, Fact
from unweave.views.blocks import Block, Section
from unweave.views.page import page, write_page
from unweave.views.sections import facts_of, results_table, sections_of, settings_table

if TYPE_CHECKING:
    import xarray

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
    results: "Sequence[xarray.DataArray | xarray.Dataset]",
    path: str | os.PathLike[str],
    *,
    title: str = "",
    question: str = "",
    facts: Sequence[Fact] = (),
    command: str = "",
) -> Path:
    """A page from results: the answer first, then what each method showed.

    Args:
        results: results of methods, on one model; the order within a section is theirs.
        path: the HTML file.
        title, question: what stands on top; the task and the model, if left out.
        facts: further lines of the answer, such as how long it took.
        command: what makes the page again.

    Returns:
        The path of the file.

    Raises:
        InputError: no result, something that is no result, or a folder that cannot be written to.
    """
    import xarray as xr

    given = [results] if isinstance(results, (xr.DataArray, xr.Dataset)) else list(results)
    if not given:
        raise InputError("results: there is none; give a list of what the methods returned, [lens, heads]")
    for place, result in enumerate(given):
        if not isinstance(result, (xr.DataArray, xr.Dataset)):
            raise InputError(
                f"results[{place}]: expected a DataArray or Dataset of a method, got {type(result).__name__}"
            )
    task, model = (str(given[0].attrs.get(name, "")) for name in ("task", "model"))
    made = Report(
        title=title or " in ".join(filter(None, (task, model))) or "Results",
        question=question,
        facts=(*facts_of(given), *facts),
        sections=sections_of(given),
        appendix=(settings_table(given), results_table(given)),
        command=command,
    )
    return write(made, path)
