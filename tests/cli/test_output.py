"""What is said of a result, and what becomes of it where it cannot be written."""

import os
from pathlib import Path

import pytest

import unweave as uw
from tests.cli.command import Command, loaded

ROW = ["cell", "effect", "95 % interval", "adjusted p", "cumulative share"]


def ask(run: Command, folder: Path, command: str, *arguments: object) -> int:
    return run(*command.split(), "--model", folder, "--prompts", 3, *arguments)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("patch q k --direction noise", "# q, k: corrupted values in the clean run"),
        ("patch q", "# q: clean values in the corrupted run"),
        ("patch q", "# 0 = as the corrupted prompt; 1 = as the clean prompt"),
        ("path --senders mlps", "# from every MLP to logits; "),
        # This model's corrupted prompts score better, so that nothing is as bad as they are.
        ("path --senders mlps", "# 0 = as the clean prompt; −1 = as the corrupted prompt"),
        ("path --senders mlps", "# The corrupted prompts score better than the clean ones"),
        ("knockout --mlps all", "# every MLP in turn, replaced by: zero, at all positions"),
        ("knockout --layers all", "# every layer in turn, replaced by: zero, at all positions"),
        ("patch q", "# 3 prompts are too few for any of 12 cells"),
        ("patch q --top 2", "# the 2 largest in size of "),
    ],
)
def test_what_is_said_tells_results_apart(run: Command, folder: Path, command: str, said: str) -> None:
    assert ask(run, folder, command) == 0
    assert any(line.startswith(said) for line in run.out.splitlines())
    assert run.table()[0] == ROW


@pytest.mark.parametrize("command", ["patch q k", "patch q", "path", "knockout --heads 1.1+1.2 --backups"])
def test_a_saved_result_and_its_summary_are_shown(run: Command, folder: Path, command: str) -> None:
    assert ask(run, folder, command, "--out", "full.nc") == 0
    first, *_ = run.out.splitlines()
    uw.save(uw.summary(uw.load("full.nc")), "means.nc")  # type: ignore[arg-type]
    for name in ("full.nc", "means.nc"):
        assert run("show", name) == 0
        assert run.out.splitlines()[0] == first


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize("out", ["heads.nc", "heads.html"])
def test_what_cannot_be_written_is_printed(run: Command, folder: Path, out: str) -> None:
    assert ask(run, folder, "patch z", "--out", out, "--top", 3) == 2
    assert run.table()[0] == ROW
    assert len(run.table()) == 4
    assert "kept" not in run.out
    assert run.err.startswith(f"unweave: error: --out: cannot write {out} (File too large); name a place")
    assert run.err.count("\n") == 1
    assert os.listdir() == []


@pytest.mark.usefixtures("no_room")
def test_a_circuit_that_cannot_be_written_is_printed(run: Command, folder: Path) -> None:
    assert ask(run, folder, "sketch --threshold 0 --alpha 1 --levels 1", "--out", "found") == 2
    assert ["group", "heads", "at"] in run.table()
    assert run.err.startswith("unweave: error: --out: cannot write found/circuit.json")


@pytest.mark.usefixtures("no_room")
def test_an_evaluation_that_cannot_be_written_is_printed(run: Command, folder: Path) -> None:
    Path("c.json").write_text('{"groups": [{"name": "a", "heads": ["2.1"], "roles": ["end"]}]}', encoding="utf-8")
    few = "--controls 0 --subsets 0 --searches 0"
    assert ask(run, folder, f"evaluate c.json {few}", "--out", "tested") == 2
    assert run.table()[0][:2] == ["what is kept", "heads"]
    assert run.err.startswith("unweave: error: --out: cannot write tested/evaluation.nc")


@pytest.mark.parametrize(
    ("command", "method"), [("knockout", "knockout"), ("path", "path_patch"), ("patch z", "patch")]
)
def test_ctrl_c_keeps_what_was_finished(
    run: Command, folder: Path, pair: uw.Contrast, monkeypatch: pytest.MonkeyPatch, command: str, method: str
) -> None:
    partial = uw.knockout(pair)
    partial[:, 1:] = float("nan")

    def stopped(*_: object, **__: object) -> None:
        raise uw.Interrupted("", partial)

    monkeypatch.setattr(uw, method, stopped)
    assert ask(run, folder, command, "--out", "full.nc") == 130
    assert run.err.startswith("unweave: stopped: 33% ")
    assert run.err.endswith(" full.partial.nc\n")
    assert loaded("full.partial.nc").identical(partial)
    assert not Path("full.nc").exists()


def test_ctrl_c_while_the_page_is_written_keeps_the_numbers(
    run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(uw, "report", stopped)
    assert ask(run, folder, "patch z", "--out", "heads.html") == 130
    assert run.err == "unweave: stopped: 100% of the patches were finished and are kept in heads.partial.nc\n"
    assert loaded("heads.partial.nc").sizes == {"prompt": 3, "layer": 3, "head": 4}
