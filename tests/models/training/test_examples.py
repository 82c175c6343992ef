"""What is refused before training begins, and what a recipe may be."""

from dataclasses import replace

import pytest
import torch

import unweave as uw
from tests.models.training.lessons import CONFIG, RECIPE, lessons
from unweave.models.training.initial import initial_weights


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tokens": torch.full((240, 8), 8)}, r"tokens: expected entries from 0 to 7 \(the config's d_vocab is 8\)"),
        ({"tokens": torch.zeros(240, 9, dtype=torch.long)}, "expected rows of 1 to 8 tokens"),
        ({"labels": torch.full((240,), 2)}, "labels: expected entries from 0 to 1"),
        ({"labels": torch.full((240, 8), -100)}, "labels: there are none"),
        ({"at": 8}, "at: expected positions of the 8 tokens of a row, got 8 to 8"),
        ({"at": torch.full((240,), -9)}, "at: expected positions"),
    ],
)
def test_examples_that_do_not_fit(change, says):
    data = lessons()
    with pytest.raises(uw.InputError, match=says) as refused:
        uw.training.train(CONFIG, replace(data, examples=replace(data.examples, **change)), RECIPE)
    assert str(refused.value).startswith("data.examples.")


def test_held_out_examples_are_checked_too():
    data = lessons()
    none = uw.training.Examples(data.held_out.tokens[:0], data.held_out.labels[:0])
    with pytest.raises(uw.InputError, match=r"data\.held_out\.tokens: expected rows"):
        uw.training.train(CONFIG, replace(data, held_out=none), RECIPE)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"weight_decay": -0.1}, {"seed": -1}]
)
def test_recipes_that_no_training_can_have(wrong):
    (name,) = wrong
    with pytest.raises(uw.InputError, match=f"^{name}: expected"):
        uw.training.Recipe(**wrong)


def test_prompts_are_examples():
    prompts = uw.Prompts.from_tokens(torch.arange(6).reshape(2, 3), answers=[1, 0], lengths=[2, 3])
    examples = uw.training.Examples.from_prompts(prompts)
    assert torch.as_tensor(examples.at).tolist() == [1, 2]
    assert examples.take(torch.tensor([1])).labels.tolist() == [0]
    assert torch.as_tensor(examples.take(torch.tensor([1])).lengths).tolist() == [3]
    with pytest.raises(uw.InputError, match="no answers to learn"):
        uw.training.Examples.from_prompts(uw.Prompts.from_tokens(torch.zeros(1, 2, dtype=torch.long)))


def test_the_first_weights():
    config = uw.small_config(2, 4, d_model=64, d_head=16, d_vocab=100, n_ctx=50, d_mlp=128, d_vocab_out=3)
    weights = initial_weights(config, torch.Generator().manual_seed(0))
    for name, tensor in weights.named().items():
        if tensor.ndim == 2 and tensor.numel() > 1000:
            assert tensor.std().item() == pytest.approx(0.8 / 8, rel=0.05), name
            assert tensor.mean().abs() < 0.01, name
        elif tensor.ndim == 1:
            assert torch.equal(tensor, torch.full_like(tensor, "norm" in name and name.endswith("weight"))), name
    again = initial_weights(config, torch.Generator().manual_seed(0))
    assert all(torch.equal(tensor, again.named()[name]) for name, tensor in weights.named().items())
    assert not torch.equal(weights.layers[0].w_qkv, weights.layers[1].w_qkv)
