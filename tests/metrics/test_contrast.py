"""Contrasts: baselines, their scale, and what is refused."""

from dataclasses import replace

import pytest
import torch
import xarray as xr

import unweave as uw
from tests.readers import unchecked
from tests.tiny import tiny_model, tiny_pair
from unweave.metrics.contrast import check_pair


def test_baselines_are_the_logit_differences_of_both_runs():
    model = tiny_model("gpt2")
    pair = tiny_pair(model)
    rows, end = torch.arange(3), pair.prompts.lengths - 1
    for prompts, baseline in ((pair.prompts, pair.clean), (pair.corrupted, pair.spoiled)):
        logits = model.run(prompts).logits[rows, end]
        torch.testing.assert_close(baseline, logits[rows, pair.prompts.answers] - logits[rows, pair.prompts.wrong])


def test_an_effect_is_0_at_the_recipient_and_1_or_minus_1_at_the_donor():
    pair = tiny_pair(tiny_model("gpt2"))
    assert pair.effect(pair.spoiled, "denoise").eq(0).all()
    assert pair.effect(pair.clean, "denoise").mean() == pytest.approx(1)
    assert pair.effect(pair.clean, "noise").eq(0).all()
    assert pair.effect(pair.spoiled, "noise").mean() == pytest.approx(-1)


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
    with pytest.raises(uw.InputError, match="prompt 3.* 7 tokens .* 6"):
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
    assert kl.clean.abs().max() < 1e-12
    assert (kl.spoiled > 1e-4).all()


def test_what_is_shown_of_a_contrast_is_its_prompts_and_baselines():
    pair = tiny_pair(tiny_model("gpt2"))
    clean, corrupted = float(pair.clean.mean()), float(pair.spoiled.mean())
    ending = f"logit difference {clean:.3g} clean, {corrupted:.3g} corrupted)"
    assert repr(pair) == f"Contrast('tiny gpt2', {pair.prompts!r}, {ending}"
    assert pair == pair
    assert pair != tiny_pair(tiny_model("gpt2"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "gpt2"}, "^model: .*'gpt2'.*uw.load_model"),
        ({"metric": uw.LogitDiff}, r"^metric: .*uw.LogitDiff\(\), got the class LogitDiff"),
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
