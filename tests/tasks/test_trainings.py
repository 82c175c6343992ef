"""Trainings known by name, and their examples."""

from dataclasses import replace

import pytest
import torch

import unweave as uw
from unweave.tasks import TRAININGS, draw_palindromes, palindrome_data
from unweave.tasks.trainings import N_HELD_OUT

CONFIG = TRAININGS["palindrome"].config


def test_the_examples_are_the_published_draws_and_others_are_held_out():
    data = palindrome_data(CONFIG, 300, seed=5)
    assert torch.equal(data.examples.tokens, draw_palindromes(300, 5).tokens)
    assert torch.equal(data.examples.labels, draw_palindromes(300, 5).labels)
    assert len(data.held_out) == N_HELD_OUT
    seen = set(map(tuple, data.examples.tokens.tolist()))
    assert not seen & set(map(tuple, data.held_out.tokens.tolist()))
    assert 0.49 < data.held_out.labels.float().mean() < 0.52
    assert data.source == {"task": "palindromes", "n_examples": 300, "seed": 5}


def test_the_examples_fit_the_config_that_they_are_made_for():
    small = uw.small_config(d_vocab=8, n_ctx=8, d_vocab_out=2)
    data = palindrome_data(small, 10)
    data.check(small)
    assert data.examples.tokens.shape == (10, 8)
    with pytest.raises(uw.InputError, match="classifier of 2 classes"):
        palindrome_data(replace(small, d_vocab_out=8), 10)
    with pytest.raises(uw.InputError, match="n_examples: expected at least 2"):
        palindrome_data(small, 1)


def test_the_recipe_is_the_published_one():
    known = TRAININGS["palindrome"]
    assert known.n_examples == 100_000
    assert known.recipe == uw.training.Recipe(epochs=15, batch=512, lr=1e-3, weight_decay=0.0, seed=42)
