"""`unweave study palindrome` from the shell's side."""

from pathlib import Path

import pytest

import unweave as uw
from tests.cli.command import Command, one_line
from tests.small import random_model
from unweave.studies.plan import Settings
from unweave.studies.study import Outcome

TINY = uw.small_config(d_model=8, d_head=4, d_vocab=8, n_ctx=8, d_vocab_out=2, name="tiny")


def test_a_model_that_does_not_do_the_task_ends_with_status_1(run: Command) -> None:
    uw.save_model(random_model(TINY), "tiny")
    assert run("study", "palindrome", "--model", "tiny", "--prompts", 33, "--quick", "--out", "there") == 1
    assert Path("there/index.html").is_file()
    assert "nothing was swept, as there is nothing to explain: it is right on " in run.err
    assert run.err.count("\n") == 1


def test_options_of_other_studies_are_refused(run: Command) -> None:
    assert run("study", "palindrome", "--corruption", "swap") == 2
    one_line(run, "corruption: `study palindrome` has none to choose")
    assert run("study", "ioi", "--config", "shape.json") == 2
    one_line(run, "config: it goes with `study palindrome` only")


def test_options_reach_the_study(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def studied(settings: Settings, tell: object) -> Outcome:
        seen.append(settings)
        return Outcome(Path("report/index.html"))

    monkeypatch.setattr("unweave.studies.study.study", studied)
    assert run("study", "palindrome") == 0
    given = ["--model", "mine.pt", "--config", "mine.json", "--prompts", 50, "--seed", 0, "--out", "there", "--quick"]
    assert run("study", "palindrome", *given, "--anyway", "--dtype", "float64", "--device", "cpu") == 0
    assert seen == [
        Settings(task="palindrome"),
        Settings(
            task="palindrome",
            model="mine.pt",
            config=Path("mine.json"),
            prompts=50,
            seed=0,
            out=Path("there"),
            quick=True,
            anyway=True,
            dtype="float64",
            device="cpu",
        ),
    ]
