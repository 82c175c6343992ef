"""Where the reference's palindrome classifier is blind, found by search, and sequences built from it."""

from pathlib import Path

import pytest
import torch

import unweave as uw
from tests.methods import palindromes
from unweave.tasks.palindromes import framed


def drawn_palindromes(n: int) -> torch.Tensor:
    half = torch.randint(0, 31, (n, 10), generator=torch.Generator().manual_seed(1))
    return framed(torch.cat([half, half.flip(1)], dim=1), max_value=30)


def test_mismatches_are_missed_at_two_pairs_of_places(shared_data: Path) -> None:
    tokens = drawn_palindromes(200)
    found = uw.classifier.blind_spots(
        palindromes.classifier(shared_data), tokens, 1, uw.classifier.other_tokens(tokens, 31), progress=False
    )
    share = found.mean("prompt")
    assert share.pos[share > 0.9].values.tolist() == [2, 4, 17, 19]
    assert float(share.where(share < 0.9).max()) < 0.2
    assert bool(share.sel(pos=[0, 21]).isnull().all())  # START and END have no other token


def test_sequences_with_mismatches_there_fool_it(shared_data: Path) -> None:
    model, tokens = palindromes.classifier(shared_data), drawn_palindromes(50)
    found = uw.classifier.adversarial_prompts(model, tokens, 1, uw.classifier.other_tokens(tokens, 31), [17, 19])
    values = found.prompts.tokens[:, 1:-1]
    assert ((values != values.flip(1)).sum(1) == 4).all()  # two mismatches, each seen from both of its sides
    assert float(found.probability.min()) > 0.9
    torch.testing.assert_close(uw.classifier.class_probability(model, found.prompts.tokens, 1), found.probability)
    with pytest.raises(uw.InputError, match="to none of 50 prompts"):
        uw.classifier.adversarial_prompts(model, tokens, 1, uw.classifier.other_tokens(tokens, 31), [12, 13, 14, 15])
