import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch

import unweave as uw
from tests.readers import unchecked
from tests.tiny import tiny_model, tiny_pair
from unweave.errors import InputError
from unweave.metrics import (
    METRICS,
    Accuracy,
    CrossEntropy,
    Custom,
    KLToClean,
    LogitDiff,
    LogProb,
    ProbDiff,
    Rank,
)
from unweave.metrics.metric import Metric
from unweave.models.prompts import Prompts

# Probabilities of a vocabulary of four, whose logs are logits, up to a constant a row that must not matter.
P = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
LOGITS = P.log() + torch.tensor([[3.0], [-1.0]], dtype=torch.float64)
PROMPTS = Prompts.from_tokens(torch.zeros(2, 3, dtype=torch.long), answers=[0, 2], wrong=[1, 3])
BARE = Prompts.from_tokens(torch.zeros(2, 3, dtype=torch.long))
ONE_SIDED = Prompts.from_tokens(torch.zeros(2, 3, dtype=torch.long), answers=[0, 2])
ALL = [
    *(metric() for metric in METRICS.values()),
    Accuracy(against="all"),
    Custom(lambda logits, _: logits[:, 0], "mine"),
]


def score(metric, logits=LOGITS, prompts=PROMPTS, reference=LOGITS):
    """As a sweep does it: only the columns that the metric names are there."""
    columns = metric.columns(prompts)
    read = logits if columns is None else logits.gather(1, columns)
    return metric.score(read, prompts, reference if metric.needs_reference else None)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (LogitDiff(), [math.log(2), math.log(0.75)]),
        (ProbDiff(), [0.25, -0.1]),
        (LogProb(), [math.log(0.5), math.log(0.3)]),
        (CrossEntropy(), [-math.log(0.5), -math.log(0.3)]),
        (Accuracy(), [1.0, 0.0]),
        (Accuracy(against="all"), [1.0, 0.0]),
        (Rank(), [0.0, 1.0]),
        (Custom(lambda logits, prompts: logits.softmax(-1)[:, 3] * prompts.lengths, "mine"), [0.375, 1.2]),
    ],
)
def test_values_worked_out_by_hand(metric, expected):
    assert score(metric).tolist() == pytest.approx(expected, abs=1e-12)


def test_divergence_is_taken_over_the_clean_distribution():
    clean, run = LOGITS[:1], LOGITS[1:]
    forward = sum(p * math.log(p / q) for p, q in zip(P[0].tolist(), P[1].tolist(), strict=True))
    backward = sum(q * math.log(q / p) for p, q in zip(P[0].tolist(), P[1].tolist(), strict=True))
    assert forward != pytest.approx(backward, abs=0.01)
    assert score(KLToClean(), run, BARE.take([0]), clean).item() == pytest.approx(forward, abs=1e-12)
    assert score(KLToClean(), LOGITS, BARE, LOGITS).tolist() == [0.0, 0.0]


def test_divergence_needs_the_clean_run():
    assert [metric.name for metric in ALL if metric.needs_reference] == [KLToClean().name]
    with pytest.raises(InputError, match="needs reference="):
        KLToClean().score(LOGITS, PROMPTS)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_every_metric_satisfies_the_protocol(metric):
    checked: Metric = metric
    assert checked.name
    assert checked.role == "end"
    assert replace(metric, role="S2").role == "S2"
    with pytest.raises(FrozenInstanceError):
        metric.role = "S1"


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_row_is_scored_by_itself(metric):
    twice = torch.tensor([1, 0, 1])
    scores = score(metric, LOGITS[twice], PROMPTS.take(twice), LOGITS[twice].flip(1))
    alone = [score(metric, LOGITS[[n]], PROMPTS.take([n]), LOGITS[[n]].flip(1)).item() for n in twice.tolist()]
    assert scores.tolist() == pytest.approx(alone, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_scores_keep_the_dtype_and_stay_finite(metric, dtype):
    large = torch.tensor([[2e4, -2e4, 0.0, 1e4], [0.0, 1e4, -2e4, 2e4]], dtype=dtype)
    scores = score(metric, large, PROMPTS, large.flip(1))
    assert scores.dtype == dtype
    assert bool(scores.isfinite().all())


def test_only_what_is_read_is_asked_for():
    assert torch.as_tensor(LogitDiff().columns(PROMPTS)).tolist() == [[0, 1], [2, 3]]
    assert torch.as_tensor(Accuracy().columns(PROMPTS)).tolist() == [[0, 1], [2, 3]]
    whole = [metric.name for metric in ALL if metric.columns(PROMPTS) is None]
    assert len(whole) == len(ALL) - 2


def test_a_tie_is_not_won_and_ranks_first():
    level = torch.ones(2, 4)
    assert score(Accuracy(), level).tolist() == score(Accuracy(against="all"), level).tolist() == [0.0, 0.0]
    assert score(Rank(), level).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("metric", [LogitDiff(), Accuracy(), ProbDiff()], ids=lambda metric: metric.name)
def test_wrong_answers_that_are_missing(metric):
    with pytest.raises(InputError, match=rf"'{metric.name}' needs the prompts' wrong.*LogProb"):
        score(metric, prompts=ONE_SIDED)


@pytest.mark.parametrize(
    "metric",
    [metric for metric in ALL if metric.name not in ("mine", KLToClean().name)],
    ids=lambda metric: metric.name,
)
def test_answers_that_are_missing(metric):
    with pytest.raises(InputError, match=rf"'{metric.name}' needs the prompts' answers.*KLToClean"):
        score(metric, prompts=BARE)


@pytest.mark.parametrize(
    ("fn", "got"),
    [
        (lambda logits, _: logits.mean(), r"float64 \(\)"),
        (lambda logits, _: logits, r"\(2, 4\)"),
        (lambda logits, _: logits.argmax(-1), r"int64 \(2,\)"),
        (lambda logits, _: [1.0, 2.0], "list"),
    ],
)
def test_a_function_that_gives_no_score_a_row(fn, got):
    with pytest.raises(InputError, match=rf"metric 'mine': its function gave .*{got}.*\(2,\)"):
        score(Custom(fn, "mine"))


def test_accuracy_against_what():
    against: Any = "best"
    with unchecked(), pytest.raises(InputError, match="against: expected 'wrong' or 'all', got 'best'"):
        Accuracy(against=against)


def test_names_of_the_command():
    assert list(METRICS) == ["logit-diff", "prob-diff", "logprob", "kl", "cross-entropy", "accuracy", "rank"]


RUNS = [uw.LogitDiff, uw.ProbDiff, uw.LogProb, uw.CrossEntropy, uw.KLToClean, uw.Accuracy, uw.Rank]


@pytest.mark.parametrize("role", ["end", "S2"])
@pytest.mark.parametrize("made", [*RUNS, lambda role: Accuracy(role, against="all")])
def test_a_metric_scores_runs_and_whole_logits(made, role):
    """Each prompt's own end: the middle one is shorter."""
    pair, metric = tiny_pair(tiny_model("gpt2")), made(role=role)
    prompts, run, corrupted = pair.prompts, pair.clean_run, pair.corrupted_run
    contrast = uw.Contrast(pair.model, prompts, pair.corrupted, metric) if metric.name != "accuracy" else None
    scores = metric(corrupted, prompts, run)
    if contrast is not None:
        torch.testing.assert_close(scores, contrast.corrupted_scores)
    at = corrupted.logits[torch.arange(3), prompts.role(role)]
    torch.testing.assert_close(metric(corrupted.logits, prompts, run.logits), scores)
    torch.testing.assert_close(metric(at, prompts, run), scores)
    half = metric(corrupted.logits.half(), prompts, run)
    torch.testing.assert_close(half, scores, rtol=0.05, atol=0.05, check_dtype=False)
    if role == "end" and not metric.needs_reference:
        torch.testing.assert_close(metric(run), metric(run, prompts))


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
@pytest.mark.parametrize(
    "logits", [torch.zeros(3, 23), torch.zeros(2, 2, 4), torch.zeros(4), torch.zeros(2, 0, 3), "run", None]
)
def test_logits_that_are_not_of_the_prompts_are_refused(metric, logits):
    """Of another number of prompts, shorter than they are, one-dimensional, none."""
    with unchecked(), pytest.raises(InputError, match=r"expected|positions"):
        metric(logits, PROMPTS)
    with unchecked(), pytest.raises(InputError, match="prompts: expected"):
        metric(torch.zeros(2, 4), None)


@pytest.mark.parametrize("metric", [LogitDiff(), Accuracy()], ids=lambda metric: metric.name)
@pytest.mark.parametrize("shape", [(2, 4), (2, 3), (2, 1), (2, 3, 4), (3, 2), (2,)])
def test_score_takes_the_columns_that_the_metric_names(metric, shape):
    with unchecked(), pytest.raises(InputError, match=r"\[2, 2\].*metric\(run, prompts\)"):
        metric.score(torch.zeros(shape), PROMPTS)


@pytest.mark.parametrize("metric", [metric for metric in ALL if metric.columns(PROMPTS) is None], ids=lambda m: m.name)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (4,)])
def test_score_takes_one_row_a_prompt(metric, shape):
    with unchecked(), pytest.raises(InputError, match=r"\[2, d_vocab\]"):
        metric.score(torch.zeros(shape), PROMPTS, torch.zeros(shape))


@pytest.mark.parametrize("metric", [LogProb(), CrossEntropy(), ProbDiff(), Rank(), Accuracy(against="all")])
def test_answers_outside_of_the_logits_are_named(metric):
    for answers, number in (([0, 4], 2), ([9, 1], 1)):
        outside = replace(PROMPTS, answers=torch.tensor(answers))
        for score in (metric.score, metric):
            with pytest.raises(InputError, match=f"answers: prompt {number} has {max(answers)}"):
                score(LOGITS, outside)
