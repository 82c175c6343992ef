"""`unweave edges` and `unweave prune`: the library's circuits of edges, from a shell."""

from pathlib import Path

import pytest

import unweave as uw
from tests.cli.command import Command, loaded, one_line
from unweave.errors import Interrupted


def ask(run: Command, command: str, folder: Path, *arguments: object) -> int:
    return run(command, "--model", folder, "--prompts", 3, *arguments)


def test_edges_are_printed_kept_and_tested_as_a_circuit(run: Command, folder: Path, pair: uw.Contrast) -> None:
    assert ask(run, "edges", folder, "--how", "gradient", "--out", "edges.nc", "--top", 2) == 0
    expected = uw.edges(pair, "gradient")
    assert loaded("edges.nc").identical(expected)
    assert [row[0] for row in run.table()][1:] == [row.label for row in uw.top(expected, 2)]
    circuit = uw.Circuit.from_edges(expected, 40)
    circuit.save("circuit.json")
    assert run("show", "circuit.json") == 0
    assert f"{len(circuit.edges)} edges" in run.out
    effort = ["--controls", 2, "--subsets", 1]
    assert ask(run, "evaluate", folder, "edges.nc", "--first", 40, *effort) == 0
    assert f"{len(circuit.edges)} of {expected.sizes['edge']} edges" in run.out


def test_a_circuit_is_pruned_and_tested(run: Command, folder: Path, pair: uw.Contrast) -> None:
    found = uw.edges(pair, "exact")
    uw.save(found, "edges.nc")
    options = ["--start", "edges.nc", "--first", 60, "--by", "metric", "--threshold", 0.02]
    assert ask(run, "prune", folder, *options) == 0
    pruned = uw.Circuit.load("pruned.json")
    assert pruned == uw.prune(pair, 0.02, "metric", start=uw.Circuit.from_edges(found, 60))
    assert len(run.table()[0]) > 1
    again = ["--start", "pruned.json", "--by", "metric", "--threshold", 0.02, "--out", "again.json"]
    assert ask(run, "prune", folder, *again) == 0
    assert run("evaluate", "pruned.json", "--model", folder, "--prompts", 3, "--controls", 2, "--subsets", 1) == 0
    assert f"{len(pruned.edges)} of {found.sizes['edge']} edges" in run.out


def test_what_cannot_be_pruned_is_one_line(run: Command, folder: Path) -> None:
    Path("empty.json").write_text("")
    for options, says in (
        (["--start", "edges.csv"], "edges.csv"),
        (["--start", "nothing.json"], "nothing.json"),
        (["--start", "empty.json"], "it is empty"),
        (["--threshold", "0"], "threshold"),
        (["--threshold", "1e6"], "lower it"),
        (["--out", "pruned.nc"], "--out"),
    ):
        assert ask(run, "prune", folder, *options) != 0
        one_line(run, says)


def test_an_interrupted_pruning_is_kept(run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = uw.Circuit((), (uw.Edge("embed", "logits"),), keeps="edges")

    def stopped(*_: object, **__: object) -> uw.Circuit:
        raise Interrupted("interrupted", partial)

    monkeypatch.setattr(uw, "prune", stopped)
    assert ask(run, "prune", folder, "--out", "found.json") != 0
    assert uw.Circuit.load("found.partial.json") == partial
