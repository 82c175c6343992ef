"""Circuits and their evaluations as the command reads, prints and keeps them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from unweave.cli import output
from unweave.cli.heading import heading
from unweave.errors import InputError, Interrupted, did_you_mean

if TYPE_CHECKING:
    import xarray

    from unweave.circuits.circuit import Circuit

CIRCUIT, PARTIAL, DRAWING = "circuit.json", "circuit.partial.json", "circuit.html"
SCORE, PARTIAL_SCORE, PAGE = "evaluation.nc", "evaluation.partial.nc", "evaluation.html"
Tests = Mapping[str, "xarray.Dataset"]


def read(name: str) -> "Circuit":
    """A circuit by its published name, or from its file. Raises InputError where it is neither."""
    from unweave.circuits.circuit import Circuit
    from unweave.circuits.files import PUBLISHED

    if name in PUBLISHED:
        return Circuit.published(name)
    path = Path(name)
    if not path.suffix and not path.exists():
        hint = did_you_mean(name, PUBLISHED)
        raise InputError(f"circuit: there is no {name!r}.{hint} Give a .json file, or one of {', '.join(PUBLISHED)}")
    return Circuit.load(path)


def is_circuit_or_score(result: object) -> "TypeGuard[Circuit | xarray.DataTree]":
    """Whether something saved is a circuit, or an evaluation of one."""
    import xarray as xr

    from unweave.circuits.circuit import Circuit
    from unweave.circuits.evaluate import TESTS

    return isinstance(result, Circuit) or (isinstance(result, xr.DataTree) and set(result.children) <= set(TESTS))


def show(result: "Circuit | xarray.DataTree", out: Path | None, top: int) -> None:
    """Prints a circuit or an evaluation, and writes its figures."""
    from unweave.circuits.circuit import Circuit
    from unweave.views.show import show as view

    if out is not None:
        view(result).save(out)
    if isinstance(result, Circuit):
        give(result, top)
    else:
        give_score(tests_of(result))


def give(circuit: "Circuit", top: int) -> None:
    """Prints a circuit: of what it is, its groups, its strongest paths."""
    from unweave.views.circuit_layout import edges_said
    from unweave.views.circuit_tables import edge_table, group_table
    from unweave.views.wording import counted

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


def kept(stop: Interrupted, out: Path) -> Interrupted:
    """The same interruption, once the circuit found so far is in `out`, with the line that says so."""
    from unweave.circuits.circuit import Circuit

    if not isinstance(stop.partial, Circuit):
        return Interrupted("no head was found yet, so nothing is kept")
    place = stop.partial.save(out / PARTIAL)
    return Interrupted(f"the {len(stop.partial.heads)} heads found so far are kept in {place}", stop.partial)


def give_score(tests: Tests) -> None:
    """Prints an evaluation: what was tested on what, a finding a test, the scores of circuit and controls."""
    from unweave.views.evaluation_findings import (
        completeness_finding,
        curve_finding,
        faithfulness_finding,
        minimality_finding,
    )
    from unweave.views.evaluation_pictures import faithfulness_table

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


def tests_of(score: "xarray.DataTree") -> Tests:
    """The tests of an evaluation that were finished, by name."""
    return {name: child.to_dataset() for name, child in score.children.items()}


def kept_score(stop: Interrupted, out: Path | None) -> Interrupted:
    """The same interruption, once the finished tests are in `out`, with the line that says so."""
    import xarray as xr

    from unweave.results import save
    from unweave.views.wording import listed

    if not isinstance(stop.partial, xr.DataTree) or not stop.partial.children:
        return Interrupted("no test was finished, so nothing is kept")
    place = save(stop.partial, (out or Path()) / PARTIAL_SCORE)
    done = listed(list(stop.partial.children))
    verb = "was" if len(stop.partial.children) == 1 else "were"
    where = "is" if len(stop.partial.children) == 1 else "are"
    return Interrupted(f"{done} {verb} finished and {where} kept in {place}", stop.partial)
