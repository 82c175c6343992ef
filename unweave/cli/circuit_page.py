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
    from unweave.methods.head_types import HeadTypes
    from unweave.metrics.contrast import Contrast


def write_page(
    path: Path,
    question: str,
    circuit: "Circuit",
    pair: "Contrast",
    results: "Sequence[xarray.DataArray | xarray.Dataset]",
    named: "HeadTypes | None" = None,
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
    from unweave.views.prompt_list import prompt_blocks, prompt_pairs
    from unweave.views.report import Given, built, write

    scores = pair.clean_scores.tolist(), pair.corrupted_scores.tolist()
    pairs = prompt_pairs(pair.prompts, pair.corrupted, scores=scores)
    roles = {role: at.tolist() for role, at in pair.prompts.roles.items()}
    given = Given(tuple(results), circuit, named, prompt_blocks(pairs, pair.metric.name), roles)
    title, command = f"A circuit in {pair.model.config.name}", shlex.join(["unweave", *sys.argv[1:]])
    notes = f"The circuit: {circuit.notes}." if circuit.notes else ""
    write(built(given, title, question, command, notes), path)


def names_of(pair: "Contrast", circuit: "Circuit") -> "tuple[HeadTypes | None, str]":
    """What the circuit's heads do; or None, and why it cannot be said of this task."""
    from unweave.methods.head_types import classify_heads

    try:
        with status("naming the heads"):
            return classify_heads(pair, circuit.heads), ""
    except InputError as error:
        return None, f"the heads are not named: {error}"
