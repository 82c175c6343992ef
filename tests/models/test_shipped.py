"""The models that come with the package: what they were trained for, and that they can do it."""

import json
from dataclasses import asdict

import pytest
import torch

import unweave as uw
from unweave.models.shipped import SHIPPED
from unweave.models.training.initial import initial_weights
from unweave.tasks import TRAININGS, draw_palindromes


def accuracy(model: uw.Model, seed: int) -> float:
    tokens, labels = draw_palindromes(4000, seed)
    return (model.run(tokens).logits_at("end").argmax(-1) == labels).float().mean().item()


def test_the_palindrome_model_knows_fresh_palindromes():
    model = uw.load_model("palindrome", device="cpu")
    assert accuracy(model, seed=1234) >= 0.995
    # the negative control: before training it guesses
    untrained = uw.Model(model.config, initial_weights(model.config, torch.Generator().manual_seed(42)))
    assert accuracy(untrained, seed=1234) < 0.6


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_says_how_it_was_trained(name):
    folder, known = SHIPPED[name].folder, TRAININGS[name]
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert record["recipe"] == asdict(known.recipe)
    assert record["config"]["name"] == name
    assert record["data"]["n_examples"] == known.n_examples
    assert record["data"]["seed"] == known.recipe.seed
    assert record["history"][-1]["epoch"] == known.recipe.epochs
    assert record["history"][-1]["accuracy"] >= 0.995
    assert sum(file.stat().st_size for file in folder.iterdir()) < 100_000
    config = uw.load_model(name, device="cpu").config
    assert config.name == name
    assert config.source == f"comes with unweave as {name!r}"
    assert config.revision


def test_the_model_is_taken_in_the_device_dtype_and_form_asked_for():
    plain = uw.load_model("palindrome", device="cpu", dtype="float64")
    processed = uw.load_model("palindrome", device="cpu", dtype="float64", process="all")
    tokens = draw_palindromes(50, seed=3).tokens
    margins = [model.run(tokens).logits_at("end").diff(dim=-1) for model in (plain, processed)]
    assert margins[0].dtype == torch.float64
    torch.testing.assert_close(*margins, rtol=0, atol=1e-9)
    assert not torch.equal(plain.W_U, processed.W_U)


def test_a_config_goes_with_files_not_with_names():
    with pytest.raises(uw.InputError, match="config: it goes with a state dict"):
        uw.load_model("palindrome", config=uw.small_config())
