"""A model small enough to work out on paper: the oracle and unweave both give the numbers on the paper.

One layer of GPT-2 with two heads of two dimensions and an MLP of zeros. Queries and keys are zero, so a position
attends evenly to itself and those before it. Values copy the residual stream. Head 0 writes 4 times what it reads
(dimensions 0 and 1), head 1 writes -2 times (dimensions 2 and 3). Layer norms have an enormous epsilon and undo it with
their weight: they take the mean off, which is zero here, and do nothing else. The answer reads dimension 2, the wrong
answer dimension 0.

    tokens         a = (1, -1, 0, 0)     b = (0, 0, 1, -1)     c = (0, 0, 3, -3)
    clean     a b  head 0 at b: 4 · (1 + 0)/2 = 2    head 1: -2 · (0 + 1)/2 = -1    stream (2, ., 1 - 1, .)    score -2
    corrupted c b  head 0 at b: 4 · (0 + 0)/2 = 0    head 1: -2 · (3 + 1)/2 = -4    stream (0, ., 1 - 4, .)    score -3

The gap is 1. The clean head 0 alone in the corrupted run scores -3 - 2 = -5, the clean head 1 alone 0 - 0 = 0.
"""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import unweave as uw
from tests.oracle.both import contrast, table
from tests.oracle.models import instrument
from tests.oracle.pairs import Pair
from tests.oracle.projection import by_head
from tests.oracle.sweeps import sweep

A, B, C = 0, 1, 2
BY_HAND = {
    ("denoise", "z", ("layer", "head")): [[-2, 3]],
    ("noise", "z", ("layer", "head")): [[2, -3]],
    ("denoise", "v", ("layer", "head", "pos")): [[[-2, 0], [3, 0]]],
    ("denoise", "resid_pre", ("layer", "pos")): [[1, 0]],
    ("noise", "attn_out", ("layer", "pos")): [[0, -1]],
    ("denoise", "pattern", ("layer", "head")): [[0, 0]],
    ("denoise", "mlp_out", ("layer", "pos")): [[0, 0]],
}


@pytest.fixture(scope="module")
def hf() -> GPT2LMHeadModel:
    epsilon = 1e14
    config = GPT2Config(
        n_embd=4, n_layer=1, n_head=2, n_inner=1, n_positions=4, vocab_size=3, layer_norm_epsilon=epsilon,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(epsilon**0.5 if ".ln_" in name and name.endswith("weight") else 0)
        one = torch.eye(4, dtype=torch.float64)
        model.transformer.wte.weight.copy_(torch.tensor([[1, -1, 0, 0], [0, 0, 1, -1], [0, 0, 3, -3]]))
        attention: Any = model.transformer.h[0].attn
        attention.c_attn.weight[:, 8:] = one
        attention.c_proj.weight.copy_(one * torch.tensor([4, 4, -2, -2]))
        model.lm_head.weight[A, 2] = model.lm_head.weight[B, 0] = 1
    return model


@pytest.fixture(scope="module")
def pair() -> Pair:
    row = torch.tensor
    roles = {"end": row([1])}
    return Pair(row([[A, B]]), row([[C, B]]), lengths=row([2]), roles=roles, answers=row([A]), wrong=row([B]))


@pytest.fixture(scope="module")
def asked(hf: GPT2LMHeadModel, pair: Pair) -> uw.Contrast:
    return contrast(uw.load_model(hf, device="cpu", dtype=torch.float64), pair, uw.LogitDiff())


def test_baselines(asked: uw.Contrast) -> None:
    np.testing.assert_allclose(
        [asked.clean_scores.item(), asked.corrupted_scores.item(), asked.gap], [-2, -3, 1], rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("question", BY_HAND, ids=lambda question: "-".join((*question[:2], *question[2])))
def test_effects(
    hf: GPT2LMHeadModel, pair: Pair, asked: uw.Contrast, question: tuple[str, str, tuple[str, ...]]
) -> None:
    direction, site, over = question
    expected = np.array([BY_HAND[question]])
    naive = sweep(instrument(hf), pair, site, over, direction).numpy()
    np.testing.assert_allclose(naive, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(table(asked, site, over, direction).values, expected, rtol=0, atol=1e-9)


def test_contributions(hf: GPT2LMHeadModel, pair: Pair, asked: uw.Contrast) -> None:
    np.testing.assert_allclose(by_head(instrument(hf), pair).numpy(), [[[-2, -1]]], rtol=0, atol=1e-9)
    np.testing.assert_allclose(uw.attribute(asked, by="head").values, [[[-2, -1]]], rtol=0, atol=1e-9)
    assert uw.attribute(asked, by="component").sel(component="embed").item() == pytest.approx(1, abs=1e-9)
