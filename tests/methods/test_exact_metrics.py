"""Sweeps under other metrics equal the oracle: of the whole vocabulary, against the clean run, at another role."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

import unweave as uw
from tests.oracle.both import contrast, models, table
from tests.oracle.hooks import run
from tests.oracle.pairs import Pair, pair
from tests.oracle.sweeps import Score, at_role, logit_difference, sweep

close = partial(np.testing.assert_allclose, rtol=0, atol=1e-9)


def of_probabilities(read: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Pair, Tensor], Score]:
    """A score of each prompt's log-probabilities at its end and its two answers."""

    def score(asked: Pair, _clean: Tensor) -> Score:
        rows = torch.arange(len(asked.answers))
        answers, wrong = (rows, asked.answers), (rows, asked.wrong)

        def of(logits: Tensor) -> Tensor:
            log_probs = at_role(logits, asked).log_softmax(-1)
            return read(log_probs, log_probs[answers], log_probs[wrong])

        return of

    return score


def kl_to_clean(asked: Pair, clean: Tensor) -> Score:
    p = at_role(clean, asked).log_softmax(-1)
    return lambda logits: (p.exp() * (p - at_role(logits, asked).log_softmax(-1))).sum(-1)


METRICS = {
    "log-probability": (uw.LogProb, of_probabilities(lambda _, answer, wrong: answer)),
    "cross-entropy": (uw.CrossEntropy, of_probabilities(lambda _, answer, wrong: -answer)),
    "probability": (uw.ProbDiff, of_probabilities(lambda _, answer, wrong: answer.exp() - wrong.exp())),
    "accuracy": (uw.Accuracy, of_probabilities(lambda _, answer, wrong: (answer > wrong).double())),
    "KL": (uw.KLToClean, kl_to_clean),
    "rank": (uw.Rank, of_probabilities(lambda all_, answer, _: (all_ > answer[:, None]).sum(-1).double())),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("name", "direction"), [("llama-grouped", "denoise"), ("gpt2", "noise")])
def test_metric(name: str, metric: str, direction: str) -> None:
    hf, model = models(name)
    asked = pair(hf, "unequal", "ABC")
    made, scored = METRICS[metric]
    score, side = scored(asked, run(hf, asked.clean).logits), contrast(model, asked, made())
    for site, over in (("resid_pre", ("layer", "pos")), ("z", ("layer", "head"))):
        expected = sweep(hf, asked, site, over, direction, score=score).numpy()
        close(table(side, site, over, direction).values, expected)
        assert site == "z" or np.nanmax(np.abs(expected)) > 0.05


@pytest.mark.parametrize(
    ("name", "direction"), [("llama-biased", "denoise"), ("gpt2", "noise"), ("neox-parallel", "denoise")]
)
def test_metric_read_at_another_role(name: str, direction: str) -> None:
    hf, model = models(name)
    asked = pair(hf, "unequal", "ABC")
    score, side = logit_difference(asked, "S2"), contrast(model, asked, uw.LogitDiff(role="S2"))
    for site, over in (("v", ("layer", "head", "pos")), ("q", ("layer", "head")), ("resid_pre", ("layer", "pos"))):
        expected = sweep(hf, asked, site, over, direction, score=score).numpy()
        close(table(side, site, over, direction).values, expected)
        assert np.nanmax(np.abs(expected)) > 0.01
    places = np.arange(asked.clean.shape[1])
    behind = (places > asked.roles["S2"].numpy()[:, None]) & (places < asked.lengths.numpy()[:, None])
    by_place = table(side, "resid_pre", ("layer", "pos"), direction).transpose("prompt", "pos", "layer")
    assert (by_place.values[behind] == 0.0).all()


def test_roles_of_the_sweep_and_of_the_metric_are_two_things() -> None:
    hf, model = models("gpt2")
    asked = pair(hf, "equal", "swap")
    got = table(contrast(model, asked, uw.LogitDiff()), "resid_pre", ("layer", "role"))
    assert list(got.role.values) == list(asked.roles)
    close(got.values, sweep(hf, asked, "resid_pre", ("layer", "role")).numpy())
