"""What methods read as runs pass: the same numbers in batches of any size, and no more held than was allowed."""

from collections.abc import Callable

import pytest
import torch
import xarray as xr

import unweave as uw
from tests.held import most_held
from tests.small import random_model
from tests.tiny import tiny_model, tiny_pair

READS: dict[str, Callable[[uw.Contrast, int | None], xr.DataArray | xr.Dataset]] = {
    "lens": lambda pair, memory: uw.logit_lens(pair, memory=memory),
    "lens, own norm": lambda pair, memory: uw.logit_lens(pair, norm="own", memory=memory),
    "components": lambda pair, memory: uw.attribute(pair, memory=memory),
    "layers": lambda pair, memory: uw.attribute(pair, "layer", memory=memory),
    "heads": lambda pair, memory: uw.attribute(pair, "head", prompts="corrupted", memory=memory),
    "neurons": lambda pair, memory: uw.attribute(pair, "neuron", memory=memory),
    "attention": lambda pair, memory: uw.attention(pair, ["2.1", "0.3"], memory=memory),
    "roles": lambda pair, memory: uw.heads.role_attention(pair, memory=memory),
    "roles by value": lambda pair, memory: uw.heads.role_attention(pair, by_value=True, memory=memory),
    "contributions": lambda pair, memory: uw.heads.attention_contribution(
        pair, ["S1", "S2"], by_value=True, memory=memory
    ),
    "classes": lambda pair, memory: uw.classifier.class_attribution(pair.model, pair.prompts, memory=memory),
    "norm scales": lambda pair, memory: uw.weights.norm_scales(pair.model, pair.prompts, memory=memory),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_one_prompt_at_a_time_gives_the_same_numbers(kind, name: str) -> None:
    pair = tiny_pair(tiny_model(kind))
    xr.testing.assert_allclose(READS[name](pair, 1), READS[name](pair, None), rtol=0, atol=1e-12)


def test_memory_is_checked() -> None:
    with pytest.raises(uw.InputError, match="memory"):
        uw.logit_lens(tiny_pair(tiny_model("gpt2")), memory=-1)


N_PROMPTS, N_POS, N_LAYERS, N_HEADS, D_MODEL, D_MLP = 16, 96, 24, 4, 16, 32
ALLOWED = 2**21


@pytest.fixture(scope="module")
def long() -> uw.Contrast:
    """Long prompts for a deep, narrow model: what its sites hold of all of them is many times what is allowed."""
    config = uw.small_config(N_LAYERS, N_HEADS, d_model=D_MODEL, d_head=4, d_mlp=D_MLP, d_vocab=23, n_ctx=N_POS)
    model = random_model(config)
    tokens = torch.randint(23, (N_PROMPTS, N_POS), generator=torch.Generator().manual_seed(0))
    roles = {"S1": [1] * N_PROMPTS, "S2": [50] * N_PROMPTS}
    clean = uw.Prompts.from_tokens(tokens, [1] * N_PROMPTS, [2] * N_PROMPTS, roles)
    return uw.Contrast(model, clean, uw.Prompts.from_tokens((tokens + 1) % 23), uw.LogitDiff())


# What each would hold if it kept the sites that it reads, of all prompts at all positions, in float64.
WHOLE = N_PROMPTS * N_POS * N_LAYERS * 8
SITES = {
    "lens": 2 * D_MODEL,
    "lens, own norm": 2 * D_MODEL,
    "components": 2 * D_MODEL,
    "neurons": D_MLP,
    "roles": N_HEADS * N_POS,
    "roles by value": N_HEADS * N_POS,
    "contributions": N_HEADS * N_POS,
}


@pytest.mark.parametrize("name", SITES)
def test_no_more_is_held_than_was_allowed(long: uw.Contrast, name: str) -> None:
    result = N_PROMPTS * N_LAYERS * D_MLP * 8 if name == "neurons" else 0
    held = most_held(lambda: READS[name](long, ALLOWED))
    assert WHOLE * SITES[name] > 4 * ALLOWED
    assert held < 1.5 * ALLOWED + result
