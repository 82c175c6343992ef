"""Contrasts: baselines, their scale, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch
import xarray as xr

import unweave as uw
from tests.readers import entries_of, unchecked
from tests.small import small_model, small_pair
from tests.tiny import D_VOCAB, tiny_model, tiny_pair
from unweave.metrics import METRICS as METRICS_BY_NAME
from unweave.metrics.contrast import check_pair

METRICS = [*(metric() for metric in METRICS_BY_NAME.values()), uw.Accuracy(against="all")]
NAMED = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def test_baselines_are_the_logit_differences_of_both_runs():
    model = tiny_model("gpt2")
    pair = tiny_pair(model)
    rows, end = torch.arange(3), pair.prompts.lengths - 1
    for prompts, baseline in ((pair.prompts, pair.clean_scores), (pair.corrupted, pair.corrupted_scores)):
        logits = model.run(prompts).logits[rows, end]
        torch.testing.assert_close(baseline, logits[rows, pair.prompts.answers] - logits[rows, pair.prompts.wrong])


def test_an_effect_is_0_at_the_recipient_and_1_or_minus_1_at_the_donor():
    pair = tiny_pair(tiny_model("gpt2"))
    assert pair.effect(pair.corrupted_scores, "denoise").eq(0).all()
    assert pair.effect(pair.clean_scores, "denoise").mean() == pytest.approx(1)
    assert pair.effect(pair.clean_scores, "noise").eq(0).all()
    assert pair.effect(pair.corrupted_scores, "noise").mean() == pytest.approx(-1)


def test_baselines_that_coincide_are_an_error():
    pair = tiny_pair(tiny_model("gpt2"))
    flat = uw.Custom(lambda logits, _: torch.ones_like(logits[:, 0]), "flat")
    with pytest.raises(uw.InputError, match="score alike"):
        uw.Contrast(pair.model, pair.prompts, pair.corrupted, flat)


def test_prompts_that_do_not_match_are_an_error():
    pair = tiny_pair(tiny_model("gpt2"))
    with pytest.raises(uw.InputError, match="2 prompts, and there are 3 clean ones"):
        uw.Contrast(pair.model, pair.prompts, pair.corrupted.take([0, 1]), pair.metric)
    shorter = uw.Prompts.from_tokens(pair.corrupted.tokens, lengths=[7, 5, 6])
    with pytest.raises(uw.InputError, match=r"prompt 3.* 7 tokens .* 6"):
        uw.Contrast(pair.model, pair.prompts, shorter, pair.metric)


@pytest.mark.parametrize("wider", ["prompts", "corrupted"])
def test_one_side_may_be_padded_further(wider: str) -> None:
    pair = tiny_pair(tiny_model("gpt2"))
    side = getattr(pair, wider)
    padded = replace(side, tokens=torch.nn.functional.pad(side.tokens, (0, 2), value=9))
    found = uw.patch(replace(pair, **{wider: padded}), "z", ("layer", "pos"), progress=False)
    xr.testing.assert_identical(found, uw.patch(pair, "z", ("layer", "pos"), progress=False))


def test_a_direction_is_one_of_two():
    with pytest.raises(uw.InputError, match="expected 'denoise' or 'noise', got 'both'"):
        tiny_pair(tiny_model("gpt2")).sides("both")


def test_a_metric_that_compares_with_the_clean_run_is_0_there():
    pair = tiny_pair(tiny_model("gpt2"))
    kl = uw.Contrast(pair.model, pair.prompts, pair.corrupted, uw.KLToClean())
    assert kl.clean_scores.abs().max() < 1e-12
    assert (kl.corrupted_scores > 1e-4).all()


def test_what_is_shown_of_a_contrast_is_its_prompts_and_baselines():
    pair = tiny_pair(tiny_model("gpt2"))
    clean, corrupted = float(pair.clean_scores.mean()), float(pair.corrupted_scores.mean())
    ending = f"logit difference {clean:.3g} clean, {corrupted:.3g} corrupted)"
    assert repr(pair) == f"Contrast('tiny gpt2', {pair.prompts!r}, {ending}"
    assert pair == pair
    assert pair != tiny_pair(tiny_model("gpt2"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "gpt2"}, "^model: .*'gpt2'.*uw.load_model"),
        ({"metric": uw.LogitDiff}, r"^metric: .*uw.LogitDiff\(\), got "),
        ({"metric": "kl"}, "^metric: .*'kl'"),
        ({"prompts": None}, "^prompts: .*None"),
        ({"corrupted": "ABC"}, r"^corrupted: .*task.corrupt\('ABC'\)"),
        ({"corrupted": None}, "^corrupted: .*None"),
        ({"corrupted": {"text": ["a"]}}, "^corrupted: .*dict"),
    ],
)
def test_what_is_no_part_of_a_contrast_is_named(changed, message):
    pair = tiny_pair(tiny_model("gpt2"))
    given = {"model": pair.model, "prompts": pair.prompts, "corrupted": pair.corrupted, "metric": pair.metric}
    with unchecked(), pytest.raises(uw.InputError, match=message):
        uw.Contrast(**{**given, **changed})


@pytest.mark.parametrize("given", ["pair", None, tiny_model("gpt2"), uw.Contrast])
def test_methods_ask_for_a_contrast(given):
    with pytest.raises(uw.InputError, match=r"pair: expected a Contrast, got .*; make one of a model"):
        check_pair(given)
    with unchecked(), pytest.raises(uw.InputError, match="pair: expected a Contrast"):
        uw.patch(given, "z")


@NAMED
@pytest.mark.parametrize("alike", [[1], [0, 1, 2]])
def test_a_prompt_that_is_its_own_corruption_is_named(metric, alike):
    pair = tiny_pair(tiny_model("gpt2"))
    tokens = pair.corrupted.tokens.clone()
    tokens[alike] = pair.prompts.tokens[alike]
    same = replace(pair.corrupted, tokens=tokens)
    # Behind a prompt's end nothing is read: there it does not differ.
    same.tokens[1, 5:] += 1
    with pytest.raises(uw.InputError, match=f"prompt {alike[0] + 1}: .*same tokens"):
        uw.Contrast(pair.model, pair.prompts, same, metric)


@NAMED
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"wrong": torch.tensor([4, 2, 6])}, r"prompt 2: .* 2 \("),
        ({"answers": torch.tensor([1, 2, D_VOCAB])}, f"answers: prompt 3 has {D_VOCAB}"),
        ({"answers": torch.tensor([1, 2, -1])}, "answers: prompt 3 has -1"),
        ({"wrong": torch.tensor([10**6, 2, 3])}, "wrong: prompt 1 has 1000000"),
        ({"answers": torch.tensor([1])}, "answers: .* 3 prompts"),
    ],
)
def test_answers_that_cannot_be_scored_are_named(metric, changed, message):
    pair = tiny_pair(tiny_model("gpt2"))
    with unchecked():
        prompts = replace(pair.prompts, **changed)
        for score in (
            lambda: uw.Contrast(pair.model, prompts, pair.corrupted, metric),
            lambda: metric(pair.clean_run, prompts, pair.clean_run),
            lambda: metric(pair.clean_run.logits, prompts, pair.clean_run),
            lambda: pair.model.run(prompts),
        ):
            with pytest.raises(uw.InputError, match=message):
                score()


def test_answers_of_a_classifier_are_classes():
    model = small_model("causal")
    pair = small_pair(model, uw.LogitDiff())
    with pytest.raises(uw.InputError, match="answers: prompt 1 has 3"):
        uw.Contrast(model, replace(pair.prompts, answers=torch.tensor([3, 1, 2])), pair.corrupted, pair.metric)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("side", "n_calls"), [("clean", 0), ("corrupted", 1)])
def test_scores_that_are_not_finite_are_named_with_their_prompts(value, side, n_calls):
    pair, calls = tiny_pair(tiny_model("gpt2")), []

    def broken(logits, prompts):
        calls.append(1)
        scores = logits[:, 0].clone()
        scores[1] = value if len(calls) == n_calls + 1 else scores[1]
        return scores

    with pytest.raises(uw.InputError, match=rf"{value} for 1 of the 3 {side} prompts \(2\)"):
        uw.Contrast(pair.model, pair.prompts, pair.corrupted, uw.Custom(broken, "broken"))


@NAMED
def test_logits_that_are_no_numbers_are_not_told_as_scores(metric):
    """Also where the metric counts or compares, and so gives a number."""
    model = tiny_model("gpt2")
    pair = tiny_pair(model)
    token = int(pair.corrupted.tokens[1, 3])
    assert not (pair.prompts.tokens == token).any()
    assert (pair.corrupted.tokens[[0, 2]] != token).all()
    broken = replace(model, weights=replace(model.weights, w_e=model.weights.w_e.clone()))
    broken.weights.w_e[token] = math.nan
    with pytest.raises(uw.InputError, match=r"nan for 1 of the 3 corrupted prompts \(2\)"):
        uw.Contrast(broken, pair.prompts, pair.corrupted, metric)


def test_prompts_that_are_each_others_corruption_become_clusters():
    pair = tiny_pair(tiny_model("gpt2"), (7, 7, 7))
    assert pair.prompts.clusters is None
    answers, wrong = entries_of(pair.prompts), entries_of(pair.prompts, "wrong")
    clean = uw.Prompts.from_tokens(
        torch.cat([pair.prompts.tokens, pair.corrupted.tokens]), answers + wrong, wrong + answers
    )
    other = uw.Prompts.from_tokens(torch.cat([pair.corrupted.tokens, pair.prompts.tokens]))
    joined = uw.Contrast(pair.model, clean, other, pair.metric)
    assert entries_of(joined.prompts, "clusters") == entries_of(joined.corrupted, "clusters") == [0, 1, 2, 0, 1, 2]
    assert uw.patch(joined, "z", ("layer",), progress=False).coords["cluster"].values.tolist() == [0, 1, 2, 0, 1, 2]
    given = replace(clean, clusters=torch.tensor([0, 0, 0, 1, 1, 1]))
    kept = uw.Contrast(pair.model, given, other, pair.metric)
    assert entries_of(kept.corrupted, "clusters") == [0, 0, 0, 1, 1, 1]
