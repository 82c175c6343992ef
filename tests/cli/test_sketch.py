"""`unweave sketch`: the library's circuit, its file and its page, and what is kept when it is stopped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import unweave as uw
from tests.cli.command import ENVIRONMENT, Command
from unweave.circuits.senders import Senders
from unweave.nodes import head_name

# A random model has no circuit: everything that is not 0 is kept.
LOOSE = ["--threshold", 0, "--edge-threshold", 0, "--alpha", 1, "--levels", 2, "--screen", 0.2, "--roles", "S2,S1"]


def ask(run: Command, folder: Path, *arguments: object) -> int:
    return run("sketch", "--model", folder, "--prompts", 3, *LOOSE, *arguments)


def test_it_prints_keeps_and_draws_what_the_library_finds(run: Command, folder: Path, pair: uw.Contrast) -> None:
    assert ask(run, folder, "--out", "new/found", "--top", 3) == 0
    expected = uw.sketch(pair, uw.SketchOptions(0.0, 0.0, 1.0, 0.1, 2, 0.2), ["S2", "S1"])
    assert len(expected.edges) > 3
    assert uw.Circuit.load("new/found/circuit.json") == expected
    rows = run.table()
    groups = [
        [group.name, ", ".join(map(head_name, sorted(group.heads))), " ".join(group.roles)] for group in expected.groups
    ]
    assert rows[: len(groups) + 1] == [["group", "heads", "at"], *groups]
    strongest = sorted(expected.edges, key=lambda edge: -abs(edge.effect or 0))[:3]
    assert [row[:2] for row in rows[len(groups) + 1 :]] == [
        ["sender", "to"],
        *([edge.sender.short, edge.receiver.short] for edge in strongest),
    ]
    assert f"# the 3 strongest of {len(expected.edges)} paths" in run.out
    assert "# sketched by path patching on 3 prompts: threshold 0, edge_threshold 0, alpha 1, " in run.out
    page = Path("new/found/circuit.html").read_text(encoding="utf-8")
    assert page.count('<figure class="circuit"') == 1
    assert "unweave sketch --model" in page
    assert "The prompts" in page
    assert run.err == ""


def test_heads_are_named_where_the_task_lets_them(run: Command, folder: Path) -> None:
    assert ask(run, folder, "--levels", 1, "--names") == 0
    assert "not named" not in run.out
    assert "duplicate token" in Path("circuit/circuit.html").read_text(encoding="utf-8")
    pair = {"clean": "The {} of France is", "corrupted": "The {} of Italy is", "answer": " Paris", "wrong": " Rome"}
    lines = [json.dumps(pair).replace("{}", word) for word in ("capital", "river", "king", "flag")]
    Path("pairs.jsonl").write_text("\n".join(lines))
    options = ["--model", folder, "--task", "pairs.jsonl", "--out", "other", "--names", *LOOSE[:-2]]
    assert run("sketch", *options) == 0
    assert "# the heads are not named: " in run.out
    assert Path("other/circuit.html").is_file()


def test_show_reads_the_circuit_again(run: Command, folder: Path) -> None:
    assert ask(run, folder) == 0
    table = run.table()
    assert run("show", "circuit/circuit.json", "--out", "again.html") == 0
    assert run.table() == table
    assert "<svg" in Path("again.html").read_text(encoding="utf-8")


def test_ctrl_c_keeps_the_circuit_so_far(run: Command, folder: Path) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Senders, "likely", stopped)
        assert ask(run, folder) == 130
    assert run.err.count("\n") == 1
    partial = uw.Circuit.load("circuit/circuit.partial.json")
    assert {group.name.split(" @")[0].split(" against")[0] for group in partial.groups} == {"level 1"}
    assert f"{len(partial.heads)} heads" in run.err
    assert "circuit/circuit.partial.json" in run.err
    assert ask(run, folder) == 0
    assert not Path("circuit/circuit.partial.json").exists()


def test_ctrl_c_before_anything_is_found(run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Senders, "rows", stopped)
    assert ask(run, folder) == 130
    assert run.err == "unweave: stopped: no head was found yet, so nothing is kept\n"


def test_ctrl_c_while_it_is_drawn(run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("unweave.cli.circuit_output.names_of", stopped)
    assert ask(run, folder, "--names") == 130
    assert run.err == "unweave: stopped: the circuit is kept in circuit/circuit.json; it was not drawn\n"
    assert uw.Circuit.load("circuit/circuit.json").heads


def test_a_closed_pipe_is_quiet_and_everything_is_kept(folder: Path, tmp_path: Path) -> None:
    options = " ".join(map(str, LOOSE))
    command = f"{sys.executable} -m unweave sketch --model {folder} --prompts 3 {options} | head -1"
    finished = subprocess.run(
        command, shell=True, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert finished.stdout.startswith("# ")
    assert finished.stderr == ""
    assert (tmp_path / "circuit" / "circuit.html").is_file()
