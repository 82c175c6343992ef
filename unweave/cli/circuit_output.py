"""Circuits and their evaluations as the command reads, prints, draws and keeps them."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.circuits.evaluate import TESTS
from unweave.circuits.files import PUBLISHED
from unweave.cli import output
from unweave.cli.heading import heading
from unweave.errors import InputError, Interrupted, did_you_mean
from unweave.methods.head_types import HeadTypes, classify_heads
from unweave.metrics.contrast import Contrast
from unweave.models.quiet import status
from unweave.results import load, save
from unweave.views.circuit_layout import edges_said
from unweave.views.circuit_tables import edge_table, group_table
from unweave.views.evaluation_findings import (
    completeness_finding,
    curve_finding,
    faithfulness_finding,
    minimality_finding,
)
from unweave.views.evaluation_pictures import faithfulness_table
from unweave.views.page import write_page as write
from unweave.views.prompt_list import prompt_blocks, prompt_pairs
from unweave.views.report import Given, built
from unweave.views.show import show as view
from unweave.views.wording import counted, listed

Tests = Mapping[str, xr.Dataset]


def read(name: str, first: int = 200) -> Circuit:
    """A circuit by its published name, from its file, or the `first` edges of a file that `unweave edges` kept.

    Raises InputError where it is none of these.
    """
    if name in PUBLISHED:
        return Circuit.published(name)
    path = Path(name)
    if not path.suffix and not path.exists():
        hint = did_you_mean(name, PUBLISHED)
        raise InputError(f"circuit: there is no {name!r}.{hint} Give a .json file, or one of {', '.join(PUBLISHED)}")
    if path.suffix != ".nc":
        return Circuit.load(path)
    edges = load(path)
    if not isinstance(edges, xr.DataArray):
        raise InputError(f"circuit: {path} holds no edges; give what `unweave edges --out` kept, or a circuit")
    return Circuit.from_edges(edges, first)


def is_circuit_or_score(result: object) -> TypeGuard[Circuit | xr.DataTree]:
    """Whether something saved is a circuit, or an evaluation of one."""
    return isinstance(result, Circuit) or (isinstance(result, xr.DataTree) and set(result.children) <= set(TESTS))


def show(result: Circuit | xr.DataTree, out: Path | None, top: int) -> None:
    """Prints a circuit or an evaluation, and writes its figures."""
    if out is not None:
        view(result).save(out)
    if isinstance(result, Circuit):
        give(result, top)
    else:
        give_score(tests_of(result))


def give(circuit: Circuit, top: int) -> None:
    """Prints a circuit: of what it is, its groups, its strongest paths."""
    size = circuit.shape[0] * circuit.shape[1]
    of = f" of {size}" if size else ""
    where = ", ".join(filter(None, [circuit.model, f"task {circuit.task}" if circuit.task else ""]))
    said = f"{len(circuit.heads)}{of} heads in {counted(len(circuit.groups), 'group')}"
    if circuit.keeps == "edges":
        said = f"{counted(len(circuit.edges), 'edge')} of {counted(len(circuit.heads), 'head')} and "
        said += counted(len(circuit.mlps), "MLP")
    output.say(f"{where}: {said}" if where else said)
    if circuit.notes:
        output.say(circuit.notes)
    output.print_table(group_table(circuit))
    if circuit.edges:
        n = len(circuit.edges)
        told = edges_said(circuit.edges, circuit.attrs)
        if told:
            output.say(told)
        output.say(f"the {top} strongest of {n} paths" if n > top else counted(n, "path"))
        output.print_table(edge_table(circuit.edges, n=top, attrs=circuit.attrs))


def kept(stop: Interrupted, file: Path) -> Interrupted:
    """The same interruption, once the circuit found so far is in the file, with the line that says so."""
    if not isinstance(stop.partial, Circuit):
        return Interrupted("no head was found yet, so nothing is kept")
    place = stop.partial.save(file)
    found = f"{counted(len(stop.partial.heads), 'head')} found so far"
    if stop.partial.keeps == "edges":
        found = f"{counted(len(stop.partial.edges), 'edge')} not dropped so far"
    return Interrupted(f"kept in {place}: {found}", stop.partial)


def give_score(tests: Tests) -> None:
    """Prints an evaluation: what was tested on what, a finding a test, the scores of circuit and controls."""
    first = next(iter(tests.values()))
    parts = first.attrs.get("parts", "heads")
    size = f"{first.attrs[f'circuit_{parts}']} of {first.attrs[f'model_{parts}']} {parts}"
    for line in heading(first, f"evaluation of a circuit of {size}"):
        output.say(line)
    says = {
        "faithfulness": faithfulness_finding,
        "curve": curve_finding,
        "completeness": completeness_finding,
        "minimality": minimality_finding,
    }
    for name, test in tests.items():
        output.say(f"{name}: {says[name](test)}")
    if "faithfulness" in tests:
        output.print_table(replace(faithfulness_table(tests["faithfulness"]), title=""))  # it is said above


def tests_of(score: xr.DataTree) -> Tests:
    """The tests of an evaluation that were finished, by name."""
    return {name: child.to_dataset() for name, child in score.children.items()}


def kept_score(stop: Interrupted, file: Path) -> Interrupted:
    """The same interruption, once the finished tests are in the file, with the line that says so."""
    if not isinstance(stop.partial, xr.DataTree) or not stop.partial.children:
        return Interrupted("no test was finished, so nothing is kept")
    place = save(stop.partial, file)
    done = list(stop.partial.children)
    ended = "was finished and is" if len(done) == 1 else "were finished and are"
    return Interrupted(f"{listed(done)} {ended} kept in {place}", stop.partial)


def write_page(
    path: Path,
    question: str,
    circuit: Circuit,
    pair: Contrast,
    results: Sequence[xr.DataArray | xr.Dataset],
    named: HeadTypes | None = None,
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
    scores = pair.clean_scores.tolist(), pair.corrupted_scores.tolist()
    pairs = prompt_pairs(pair.prompts, pair.corrupted, scores=scores)
    roles = {role: at.tolist() for role, at in pair.prompts.roles.items()}
    given = Given(tuple(results), circuit, named, prompt_blocks(pairs, pair.metric.name), roles)
    title, command = f"A circuit in {pair.model.config.name}", shlex.join(["unweave", *sys.argv[1:]])
    notes = f"The circuit: {circuit.notes}." if circuit.notes else ""
    write(built(given, title, question, command, notes), path)


def names_of(pair: Contrast, circuit: Circuit) -> tuple[HeadTypes | None, str]:
    """What the circuit's heads do; or None, and why it cannot be said of this task."""
    try:
        with status("naming the heads"):
            return classify_heads(pair, circuit.heads), ""
    except InputError as error:
        return None, f"the heads are not named: {error}"
