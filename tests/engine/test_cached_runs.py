"""What the runs of a contrast kept is used: the same numbers, and no prompt is run twice."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import unweave as uw
from tests.oracle.both import both
from tests.tiny import tiny_model, tiny_pair
from unweave.engine import context
from unweave.models import cache_policy

MODELS = ["llama-grouped", "gpt2", "neox-parallel", "neox-serial"]

# What sweeps read of both runs, or of the recipient's alone; and what they do not find there.
CACHED: dict[str, Callable[[uw.Contrast], np.ndarray]] = {
    "stream": lambda pair: uw.patch(pair, "resid_pre", over=("layer", "pos")).values,
    "halves": lambda pair: uw.patch(pair, "mlp_out", over=("layer", "pos")).values,
    "keys": lambda pair: uw.patch(pair, "k", over=("layer", "head"), direction="noise").values,
    "addresses": lambda pair: uw.patch_at(pair, ["z 1.2 @S2", "attn_out 0 @end"]).values,
    "paths": lambda pair: uw.path_patch(pair, [(1, 1, "v"), (1, 0, "q")], at="S2").values,
    "frozen paths": lambda pair: uw.path_patch(pair, senders="mlps", mlps="frozen").values,
    "live receivers": lambda pair: uw.path_patch(pair, [(1, 2, "q")], attention="qkv").values,
    "zeros at a role": lambda pair: uw.knockout(pair, "z", "zero", at="S2").values,
}
RUN_AGAIN: dict[str, Callable[[uw.Contrast], np.ndarray]] = {
    "patterns": lambda pair: uw.patch(pair, "pattern", over=("layer", "head")).values,
    "neurons": lambda pair: uw.patch(pair, "mlp_post", over=("layer", "neuron")).values,
}


def uncached(pair: uw.Contrast, monkeypatch: pytest.MonkeyPatch) -> uw.Contrast:
    """The same contrast, made where there is no memory to keep anything in."""
    with monkeypatch.context() as patched:
        patched.setattr(cache_policy, "free_bytes", lambda _: 0)
        return replace(pair)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ask", CACHED)
def test_cached_activations_give_the_numbers_of_runs_made_again(
    name: str, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = both(name, "unequal", "ABC").contrast
    expected = CACHED[ask](uncached(pair, monkeypatch))
    monkeypatch.setattr(context, "run_model", None)  # a prompt that is run again is an error
    np.testing.assert_allclose(CACHED[ask](pair), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ask", RUN_AGAIN)
def test_what_was_not_kept_is_run_again(ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = both("llama-grouped", "unequal", "ABC").contrast
    expected = RUN_AGAIN[ask](uncached(pair, monkeypatch))
    np.testing.assert_allclose(RUN_AGAIN[ask](pair), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_runs_are_kept_while_they_take_a_small_part_of_the_free_memory(name: str) -> None:
    pair = both(name, "equal", "swap").contrast
    config, prompts, itemsize = pair.model.config, pair.prompts, pair.model.dtype.itemsize
    kept = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in _kept(pair)}
    free = 32 * sum(kept.values())
    for tenths, fits in ((5, False), (11, True)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(cache_policy, "free_bytes", lambda _, share=tenths: free * share // 10)
            assert bool(cache_policy.cached_sites(config, prompts, itemsize)) == fits


def _kept(pair: uw.Contrast) -> list[torch.Tensor]:
    return list(pair.clean_run.kept.values())


def test_a_sweep_leaves_what_it_read_as_it_was() -> None:
    pair = tiny_pair(tiny_model("llama"))
    before = {key: value.clone() for key, value in pair.clean_run.kept.items()}
    uw.patch(pair, ["resid_pre", "z", "k"], over=("layer",), direction="noise")
    uw.path_patch(pair, [(1, 1, "v")])
    uw.knockout(pair, "z", "zero")
    assert all(torch.equal(pair.clean_run.kept[key], value) for key, value in before.items())
