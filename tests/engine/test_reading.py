"""What methods read as runs pass: the same numbers in batches of any size, and no more held than was allowed."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import xarray as xr

import unweave as uw
from tests.held import most_held
from tests.small import random_model
from tests.tiny import tiny_model, tiny_pair

READS: dict[str, Callable[..., xr.DataArray | xr.Dataset]] = {
    "lens": uw.logit_lens,
    "lens, own norm": partial(uw.logit_lens, norm="own"),
    "components": uw.attribute,
    "layers": partial(uw.attribute, by="layer"),
    "heads": partial(uw.attribute, by="head", prompts="corrupted"),
    "neurons": partial(uw.attribute, by="neuron"),
    "attention": partial(uw.attention, heads=["2.1", "0.3"]),
    "roles": uw.heads.role_attention,
    "roles by value": partial(uw.heads.role_attention, by_value=True),
    "contributions": partial(uw.heads.attention_contribution, roles=["S1", "S2"], by_value=True),
    "without heads": partial(uw.heads.knockout_attribution, knocked_out=["0.1", "mlp 1"], at=["S2", "end"]),
    "backup heads": partial(uw.heads.backup_heads, knocked_out=["0.1", "1.2"], how="resample"),
}
# Of a model and prompts, or of the model.
OF_PROMPTS: dict[str, Callable[..., xr.DataArray]] = {
    "classes": uw.classifier.class_attribution,
    "norm scales": uw.weights.norm_scales,
    "through a head": partial(uw.classifier.attribution_through, sender="0.1", receiver="1.2"),
    "offered to a head": partial(uw.classifier.attribution_through, sender="0.1", receiver="1.2", looking="self"),
    "rebuilt": partial(uw.classifier.rebuilt_attention, head="0.1"),
    "single changes": lambda model, prompts, **how: uw.classifier.blind_spots(
        model, prompts, 3, (prompts.tokens + 1) % 23, **how
    ),
    "head scores": lambda model, _, **how: uw.heads.head_scores(model, 3, 4, bos=False, **how),
    "a query": lambda model, prompts, **how: xr.DataArray(uw.weights.mean_query(model, prompts, "1.0", **how)),
}
READS |= {
    name: lambda pair, read=read, **how: read(pair.model, pair.prompts, **how) for name, read in OF_PROMPTS.items()
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_one_prompt_at_a_time_gives_the_same_numbers(kind, name: str) -> None:
    pair, seen = tiny_pair(tiny_model(kind)), []
    read = READS[name](pair, memory=1, progress=lambda done, total: seen.append(done / total))
    xr.testing.assert_allclose(read, READS[name](pair), rtol=0, atol=1e-12)
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert len(seen) >= 3


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
    "without heads": 2 * D_MODEL,
}


@pytest.mark.parametrize("name", SITES)
def test_no_more_is_held_than_was_allowed(long: uw.Contrast, name: str) -> None:
    result = N_PROMPTS * N_LAYERS * D_MLP * 8 if name == "neurons" else 0
    held = most_held(lambda: READS[name](long, memory=ALLOWED))
    assert WHOLE * SITES[name] > 4 * ALLOWED
    assert held < 1.5 * ALLOWED + result
