"""A budget is kept: the bytes of tensors that are alive at once, measured while a method runs."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.held import most_held
from tests.small import random_model
from unweave.metrics.metric import Metric
from unweave.models import cache_policy

N_PROMPTS, N_POS, BUDGET = 8, 24, 2**18

# Few heads and layers, long prompts that differ from their third token on.
ASKED: dict[str, Callable[..., xr.DataArray]] = {
    "stream": lambda pair, **more: uw.patch(pair, "resid_pre", {"layer": [0], "pos": None}, **more),
    "keys by position": lambda pair, **more: uw.patch(
        pair, "k", {"layer": [1], "head": None, "pos": [2, 9, 23]}, **more
    ),
    "pattern entries": lambda pair, **more: uw.patch(
        pair, "pattern", {"layer": [0], "head": None, "q_pos": [N_POS - 1], "k_pos": None}, **more
    ),
    "neurons": lambda pair, **more: uw.patch(pair, "mlp_post", {"layer": [0], "neuron": range(16)}, **more),
    "together": lambda pair, **more: uw.patch_at(pair, [["z 0.1", "mlp_post 1.3"], ["resid_pre 1 @S"]], **more),
    "means": lambda pair, **more: uw.knockout(pair, "heads", "mean", **more),
    "mean patterns": lambda pair, **more: uw.knockout(pair, ["pattern 1.0"], "mean", **more),
    "zeros together": lambda pair, **more: uw.knockout(pair, ["layer 1", (0, 1)], joint=True, **more),
    "noise in the stream": lambda pair, **more: uw.knockout(pair, ["result 1.1"], "gaussian", **more),
    "to the logits": lambda pair, **more: uw.path_patch(pair, **more),
    "to early values": lambda pair, **more: uw.path_patch(pair, [(1, 2, "v"), (2, 1, "v")], at="S", **more),
    "to inputs everywhere": lambda pair, **more: uw.path_patch(pair, [(1, 1, "k"), (2, 1, "q")], **more),
    "to MLPs": lambda pair, **more: uw.path_patch(pair, ["mlp 0", "mlp 1"], **more),
    "to live inputs": lambda pair, **more: uw.path_patch(
        pair, [(1, 1, "v"), (2, 1, "q")], ["0.0", "0.1", "mlp 0"], attention="qkv", **more
    ),
}


@cache
def pair_of(metric: Metric) -> uw.Contrast:
    """A pair whose runs kept nothing, in float32."""
    model = random_model(
        uw.small_config(n_layers=3, n_heads=8, d_model=32, d_head=4, d_mlp=64, d_vocab=2000, n_ctx=N_POS)
    )
    tokens = torch.randint(2000, (N_PROMPTS, N_POS), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[:, 2] = (other[:, 2] + 7) % 2000
    given = {"answers": [1] * N_PROMPTS, "wrong": [2] * N_PROMPTS, "roles": {"S": [2] * N_PROMPTS}}
    clean, corrupted = uw.Prompts.from_tokens(tokens, **given), uw.Prompts.from_tokens(other)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cache_policy, "free_bytes", lambda _: 0)
        return uw.Contrast(model.to(dtype=torch.float32), clean, corrupted, metric)


@pytest.mark.parametrize("ask", ASKED)
def test_a_budget_is_kept(ask: str) -> None:
    check_budget(ask, uw.LogitDiff())


@pytest.mark.parametrize("ask", ["stream", "together", "to the logits"])
def test_a_budget_is_kept_where_the_whole_vocabulary_is_read(ask: str) -> None:
    check_budget(ask, uw.LogProb())


def check_budget(ask: str, metric: Metric) -> None:
    pair, found = pair_of(metric), []

    def run(memory: int) -> int:
        return most_held(lambda: found.append(ASKED[ask](pair, memory=memory, progress=False)))

    assert run(BUDGET) <= BUDGET
    assert run(2**30) > BUDGET, "what fits anyway shows nothing"
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-4 * float(abs(found[1]).max()))
