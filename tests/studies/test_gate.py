"""A task is studied only where the model does it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import unweave as uw
from tests.tiny import tiny_model, tiny_pair
from tests.tiny_folder import write_tiny_folder
from unweave.metrics.metric import Metric
from unweave.studies.plan import Settings
from unweave.studies.scores import shortfall
from unweave.studies.study import study


def scored(clean: list[float], corrupted: list[float], metric: Metric | None = None) -> uw.Contrast:
    """A contrast whose prompts have these scores."""
    three = tiny_pair(tiny_model("llama"))
    rows = [0] * len(clean)
    made = uw.Contrast(three.model, three.prompts.take(rows), three.corrupted.take(rows), metric or three.metric)
    # the same prompts again would count as one
    object.__setattr__(made, "prompts", replace(made.prompts, clusters=None))
    object.__setattr__(made, "clean_scores", torch.tensor(clean, dtype=torch.float64))
    object.__setattr__(made, "corrupted_scores", torch.tensor(corrupted, dtype=torch.float64))
    return made


GOOD = [3.0, 2.0, 4.0, 3.5, 2.5, 3.0, 4.5, 2.0]


def test_a_model_that_does_the_task_lacks_nothing() -> None:
    assert shortfall(scored(GOOD, [-1.0, 0.5, 0.0, -0.5, 1.0, 0.0, -2.0, 0.5])) == ""
    assert shortfall(scored([2.0], [1.0])) == ""


def test_wrong_answers_ahead_are_said_with_their_share_and_mean() -> None:
    said = shortfall(scored([-score for score in GOOD], [-9.0] * 8))
    assert "the right answer is ahead on 0 % of 8 prompts" in said
    assert "the mean logit difference is −3.06" in said
    assert "corrupted" not in said


def test_a_mean_that_a_few_prompts_make_is_not_told_from_zero() -> None:
    said = shortfall(scored([30.0, 0.1, 0.1, 0.1, 0.1, -0.2, -0.1, -8.0], [-40.0] * 8))
    assert "the right answer is ahead" not in said
    assert "not above 0" in said


def test_a_corruption_that_takes_nothing_away_is_said() -> None:
    said = shortfall(scored(GOOD, [score + (-1) ** n for n, score in enumerate(GOOD)]))
    assert said.startswith("the corrupted prompts lower the logit difference of 3.06 by ")
    assert said.endswith("not significantly different from 0")
    assert shortfall(scored([2.0], [3.0])) == (
        "the corrupted prompts lower the logit difference of 2.00 by −1.00, which is not above 0"
    )


def test_a_metric_that_is_good_if_low_is_made_worse_by_a_higher_score() -> None:
    low, high = [0.5, 0.7, 0.4, 0.6, 0.55, 0.65, 0.45, 0.5], GOOD
    assert "the corrupted prompts" not in shortfall(scored(low, high, uw.CrossEntropy()))
    assert "the corrupted prompts raise it by" in shortfall(scored(high, low, uw.CrossEntropy()))


def test_without_wrong_answers_the_gap_alone_counts() -> None:
    below = scored([-score for score in GOOD], [-9.0] * 8)
    object.__setattr__(below, "prompts", replace(below.prompts, wrong=None))
    assert shortfall(below) == ""


def test_what_the_model_cannot_do_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def swept(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a sweep was run")

    monkeypatch.setattr("unweave.studies.study.carry_out", swept)
    folder = write_tiny_folder(tmp_path / "model")
    told: list[str] = []
    outcome = study(Settings(model=str(folder), out=tmp_path, dtype="float64"), told.append)
    assert "not above 0" in outcome.shortfall
    page = outcome.report.read_text(encoding="utf-8")
    assert f"The model does not do the task: {outcome.shortfall}" in page
    assert "--anyway goes on" in page
    assert "Which acts through which?" not in page
    assert "The model does not do the task" in told[0]
    assert not (tmp_path / "results").exists()
