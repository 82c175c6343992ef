"""The palindrome study as a whole: every step and its file, the report, Ctrl-C, and models that cannot be studied."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import xarray as xr

import unweave as uw
from tests.small import random_model, random_state
from tests.studies.palindrome.models import TINY
from unweave.studies.palindrome import palindrome_study
from unweave.studies.palindrome.palindrome_study import palindrome_steps
from unweave.studies.palindrome.sequences import ask
from unweave.studies.plan import Settings, Step
from unweave.studies.study import Outcome, study
from unweave.studies.study_report import command


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(task="palindrome", prompts=40, quick=True, out=tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def told(settings: Settings) -> list[str]:
    """What the whole study of the shipped classifier says while it runs; its files are in `settings.out`."""
    lines: list[str] = []
    assert study(settings, lines.append) == Outcome(settings.out / "index.html")
    return lines


@pytest.fixture
def tiny(tmp_path: Path) -> Settings:
    """The study of a random classifier, which does not do the task."""
    uw.save_model(random_model(TINY), tmp_path / "tiny")
    return Settings(task="palindrome", model=str(tmp_path / "tiny"), prompts=33, quick=True, out=tmp_path / "report")


def names(settings: Settings) -> list[str]:
    return [step.name for step in palindrome_steps(ask(settings)) if not step.long]


@pytest.mark.usefixtures("told")
def test_every_step_is_saved(settings: Settings) -> None:
    assert {file.stem for file in (settings.out / "results").iterdir()} == set(names(settings))
    saved = uw.load(settings.out / "results" / "parts.nc")
    assert isinstance(saved, xr.DataArray)
    assert float(abs(saved.sum("component") - saved["total"]).max()) < 1e-4
    controls = uw.load(settings.out / "results" / "controls.nc")
    assert isinstance(controls, xr.DataArray)
    assert not controls[:, :-1].any()


def test_every_step_tells_a_finding(settings: Settings, told: list[str]) -> None:
    assert len(told) == len(names(settings)) + 1
    assert told[-1] == f"The report: {settings.out / 'index.html'}"


@pytest.mark.usefixtures("told")
def test_the_report_answers_and_says_how_it_was_made(settings: Settings) -> None:
    page = (settings.out / "index.html").read_text(encoding="utf-8")
    assert len(page) < 3e6
    for said in (command(settings), "single wrong value noticed", "results/confusions.nc", torch.__version__, "<mark>"):
        assert said in page
    assert "left out by --quick" in page


def test_a_model_that_does_not_do_the_task_is_not_studied(tiny: Settings) -> None:
    outcome = study(tiny, [].append)
    assert "where a coin is on 50 %" in outcome.shortfall
    assert {file.stem for file in (tiny.out / "results").iterdir()} == {"accuracy", "mismatches"}
    page = outcome.report.read_text(encoding="utf-8")
    assert "The model does not do the task" in page
    assert "Which acts through which" not in page


def test_ctrl_c_leaves_a_report(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = palindrome_study.palindrome_steps

    def stop(found: object, report: object) -> xr.DataArray:
        raise KeyboardInterrupt

    def stopped(subject: object) -> list[Step]:
        return [replace(step, make=stop) if step.name == "roles" else step for step in steps(subject)]  # type: ignore[arg-type]

    monkeypatch.setattr(palindrome_study, "palindrome_steps", stopped)
    with pytest.raises(uw.Interrupted, match="in the step 'roles'; 8 of") as caught:
        study(replace(tiny, anyway=True), [].append)
    assert "parts" in caught.value.partial  # type: ignore[operator]
    page = (tiny.out / "index.html").read_text(encoding="utf-8")
    assert "the study was stopped before it" in page
    assert not (tiny.out / "results" / "roles.nc").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_vocab_out": 3}, "has 3 outputs"),
        ({"n_ctx": 7}, "7 positions"),
    ],
)
def test_other_classifiers_are_refused(tmp_path: Path, change: dict[str, int], message: str) -> None:
    uw.save_model(random_model(replace(TINY, **change)), tmp_path / "other")  # type: ignore[arg-type]
    with pytest.raises(uw.InputError, match=message) as caught:
        ask(Settings(task="palindrome", model=str(tmp_path / "other")))
    assert "\n" not in str(caught.value)


def test_a_state_dict_has_the_standard_shape_or_its_own(tmp_path: Path) -> None:
    standard = uw.small_config(d_vocab_out=2)
    torch.save(random_state(standard), tmp_path / "mine.pt")
    torch.save(random_state(TINY), tmp_path / "tiny.pt")
    model = ask(Settings(task="palindrome", model=str(tmp_path / "mine.pt"))).model
    assert (model.config.name, model.config.d_vocab, model.config.d_vocab_out) == ("mine", 33, 2)
    with pytest.raises(uw.ModelError, match=r"shape of the standard classifier; --config names a JSON file"):
        ask(Settings(task="palindrome", model=str(tmp_path / "tiny.pt")))
    shape = {name: getattr(TINY, name) for name in ("n_layers", "n_heads", "d_model", "d_head", "d_vocab", "n_ctx")}
    (tmp_path / "tiny.json").write_text(json.dumps({**shape, "d_vocab_out": 2}))
    subject = ask(Settings(task="palindrome", model=str(tmp_path / "tiny.pt"), config=tmp_path / "tiny.json"))
    assert (subject.half_length, subject.max_value) == (3, 5)


def test_too_few_sequences_are_refused() -> None:
    with pytest.raises(uw.InputError, match="prompts: expected at least 10, got 4"):
        ask(Settings(task="palindrome", prompts=4))


def test_what_does_not_do_the_task_is_studied_anyway_and_one_layer_without_composition(tmp_path: Path) -> None:
    uw.save_model(random_model(replace(TINY, n_layers=1)), tmp_path / "one")
    settings = Settings(
        task="palindrome", model=str(tmp_path / "one"), prompts=33, quick=True, anyway=True, out=tmp_path / "out"
    )
    lines: list[str] = []
    assert study(settings, lines.append).shortfall == ""
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "The model does not do the task" in page
    assert "Where is the answer written?" in page
    assert "no head stands in a later layer than another" in page
    assert any(line.startswith("path patching") for line in lines)
