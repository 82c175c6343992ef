"""`unweave evaluate`: the library's three tests of a circuit, and circuit files that cannot be used."""

from pathlib import Path

import pytest
import xarray as xr

import unweave as uw
from tests.cli.command import Command, one_line
from unweave.circuits import evaluate as evaluating
from unweave.circuits.ablation import reference_prompts
from unweave.circuits.circuit import Group

FEW = ["--controls", 1, "--best", 1, "--subsets", 1, "--searches", 1, "--steps", 1]
EFFORT = uw.EvaluationOptions(controls=1, best=1, subsets=1, searches=1, steps=1)


@pytest.fixture
def circuit(tmp_path: Path) -> uw.Circuit:
    made = uw.Circuit((Group("late", ((2, 1), (2, 3)), ("end",)), Group("early", ((0, 0),), ("S2", "S1"))))
    made.save(tmp_path / "circuit.json")
    return made


def ask(run: Command, folder: Path, *arguments: object) -> int:
    return run("evaluate", "circuit.json", "--model", folder, "--prompts", 3, *FEW, *arguments)


def test_it_prints_and_keeps_what_the_library_finds(
    run: Command, folder: Path, circuit: uw.Circuit, pair: uw.Contrast
) -> None:
    assert ask(run, folder, "--out", "tested") == 0
    score = uw.evaluate(circuit, pair, effort=EFFORT)
    kept = uw.load("tested/evaluation.nc")
    assert isinstance(kept, xr.DataTree)
    assert all(kept[name].to_dataset().identical(score[name].to_dataset()) for name in evaluating.TESTS)
    rows = run.table()
    kept_rows = ["what is kept", "the model", "the circuit", "no head", "1 random circuit, median"]
    assert [row[0] for row in rows] == kept_rows
    assert [row[1] for row in rows] == ["heads", "12", "3", "0", "3"]
    lines = [line for line in run.out.splitlines() if line.startswith("# ")]
    assert [line.split()[1] for line in lines[-5:-1]] == [f"{name}:" for name in evaluating.TESTS]
    assert "evaluation of a circuit of 3 of 12 heads, task ioi, 3 prompts" in lines[0]
    page = Path("tested/evaluation.html").read_text(encoding="utf-8")
    assert page.count('<figure class="circuit"') == 1
    assert "Is the circuit enough?" in page
    assert run.err == ""
    said = [line for line in lines if "kept in" not in line]
    assert run("show", "tested/evaluation.nc", "--out", "again.html") == 0
    assert run.table() == rows
    assert [line for line in run.out.splitlines() if line.startswith("# ")][:-1] == said
    assert Path("again.html").is_file()


@pytest.mark.parametrize(
    ("options", "how"),
    [
        (["--how", "mean", "--reference", "clean"], uw.Replacement("mean", "clean")),
        (["--reference", "corrupted", "--lone", "keep"], uw.Replacement("template", "corrupted", lone="keep")),
        (["--reference", "2"], 2),
    ],
)
def test_what_stands_in_for_other_heads(
    run: Command, folder: Path, circuit: uw.Circuit, pair: uw.Contrast, options: list[str], how: object
) -> None:
    assert ask(run, folder, *options, "--out", ".") == 0
    if isinstance(how, int):
        how = uw.Replacement("template", reference_prompts(pair, how))
    score = uw.evaluate(circuit, pair, how=how, effort=EFFORT)  # type: ignore[arg-type]
    kept = uw.load("evaluation.nc")
    assert isinstance(kept, xr.DataTree)
    assert kept["minimality"].to_dataset().identical(score["minimality"].to_dataset())


def test_a_template_of_one_prompt_is_refused(run: Command, folder: Path, circuit: uw.Circuit) -> None:
    assert ask(run, folder, "--reference", "corrupted") == 2
    one_line(run, "one prompt, whose mean is the prompt itself", "--lone keep")


def test_pairs_of_ones_own(run: Command, folder: Path) -> None:
    uw.Circuit((Group("last", ((2, 1),), ("end",)),)).save("circuit.json")
    pairs = '{"clean": "The capital of %s is", "corrupted": "The capital of %s is", "answer": " %s", "wrong": " %s"}\n'
    cities = ("France", "Italy", "Paris", "Rome"), ("Italy", "France", "Rome", "Paris")
    Path("pairs.jsonl").write_text("".join(pairs % names for names in cities))
    assert run("evaluate", "circuit.json", "--model", folder, "--task", "pairs.jsonl", *FEW) == 0
    assert "# the prompts have no templates, so a mean is over all reference prompts by position" in run.out
    assert not list(Path().glob("evaluation*"))


@pytest.mark.parametrize(("stopped_in", "done"), [("completeness", 2), ("faithfulness", 0)])
def test_ctrl_c_keeps_the_finished_tests(
    run: Command,
    folder: Path,
    circuit: uw.Circuit,
    monkeypatch: pytest.MonkeyPatch,
    stopped_in: str,
    done: int,
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluating, stopped_in, stopped)
    assert ask(run, folder, "--out", "tested") == 130
    kept = Path("tested/evaluation.partial.nc")
    if not done:
        assert run.err == "unweave: stopped: no test was finished, so nothing is kept\n"
        assert not kept.exists()
        return
    assert run.err == f"unweave: stopped: faithfulness, curve and minimality were finished and are kept in {kept}\n"
    assert run("show", kept) == 0
    assert "# minimality: " in run.out
    assert "completeness" not in run.out
