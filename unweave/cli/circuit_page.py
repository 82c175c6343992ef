"""The page of `unweave sketch` and `unweave evaluate`: the circuit drawn, its prompts, and what is known of it."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unweave.errors import InputError
from unweave.models.quiet import status

if TYPE_CHECKING:
    import xarray

    from unweave.circuits.circuit import Circuit
    from unweave.methods.head_roles import HeadRoles
    from unweave.metrics.contrast import Contrast
    from unweave.views.blocks import Section

SHOWN_PROMPTS = 3


def write_page(
    path: Path,
    question: str,
    circuit: "Circuit",
    pair: "Contrast",
    results: "Sequence[xarray.DataArray | xarray.Dataset]",
    named: "HeadRoles | None" = None,
) -> None:
    """Writes the page.

    Args:
        path: the HTML file.
        question: what stands below the title.
        circuit: what is drawn, columns in the order of the prompts' roles.
        pair: the prompts that are shown.
        results: of methods, or the tests of an evaluation; a section each.
        named: what the circuit's heads do, which is said where they are pointed at.
    """
    from unweave.views.blocks import Text
    from unweave.views.circuit_drawing import circuit_drawing
    from unweave.views.circuit_tables import group_facts, score_facts
    from unweave.views.head_pictures import head_evidence
    from unweave.views.investigation import facts_of, results_table, sections_of, settings_table
    from unweave.views.report import Report, write

    places = {role: at.tolist() for role, at in pair.prompts.roles.items()}
    first, *rest = sections_of(results, circuit, named)
    notes = (Text((f"The circuit: {circuit.notes}.",)),) if circuit.notes else ()
    page = Report(
        title=f"A circuit in {pair.model.config.name}",
        question=question,
        facts=(*facts_of(results), *score_facts(results), *group_facts(circuit)),
        sections=(first, _prompts(pair), *rest),
        appendix=(*notes, settings_table(results), results_table(results)),
        command=shlex.join(["unweave", *sys.argv[1:]]),
        drawing=circuit_drawing(circuit, places=places, evidence=head_evidence(named) if named else {}),
    )
    write(page, path)


def names_of(pair: "Contrast", circuit: "Circuit") -> "tuple[HeadRoles | None, str]":
    """What the circuit's heads do; or None, and why it cannot be said of this task."""
    from unweave.methods.head_roles import classify_heads

    try:
        with status("naming the heads"):
            return classify_heads(pair, circuit.heads), ""
    except InputError as error:
        return None, f"the heads are not named: {error}"


def _prompts(pair: "Contrast") -> "Section":
    from unweave.views.blocks import Details, Section
    from unweave.views.prompt_list import PromptList, prompt_pairs

    scores = pair.clean.tolist(), pair.spoiled.tolist()
    every = prompt_pairs(pair.prompts, pair.corrupted, scores=scores)
    says = (
        "A dot is a space that belongs to the token; roles are underlined. The corrupted prompt stands below the clean "
        "one, its differing tokens marked."
    )
    blocks = [PromptList(every[:SHOWN_PROMPTS], "", says, pair.metric.name)]
    rest = PromptList(every[SHOWN_PROMPTS:], metric=pair.metric.name, first=SHOWN_PROMPTS + 1)
    more = [Details(f"The other {len(rest.pairs)}", (rest,))] if rest.pairs else []
    return Section("On which prompts?", (*blocks, *more))
