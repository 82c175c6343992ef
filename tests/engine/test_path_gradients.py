"""First-order effects through receivers are the slopes of path patches."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import unweave as uw
from tests.small import small_model, small_pair
from tests.tiny import tiny_model, tiny_pair
from unweave.engine.context import GivenDonor, context_of
from unweave.engine.executor import execute
from unweave.engine.path_gradients import foreseen, path_gradients
from unweave.engine.paths import path_runs
from unweave.methods.path_patching import receivers_of, receiving, senders_of
from unweave.metrics.metric import Metric

TINY = ["0.1 q", "1.0 k", "1.1 v", "2.0 k", "2.1 v", "2.3 q"]
SMALL = ["1.0 q", "1.0 k", "1.1 v"]
SHARED = ["1.0 q", "1.0 k", "1.0 v"]


def slopes(pair: uw.Contrast, receivers: Sequence[str], role: str, step: float = 1e-5) -> Tensor:
    """`[prompt, layer, head]`: how path patches begin: heads send the recipient's values and a bit of the change."""
    config, places = pair.model.config, pair.prompts.role(role)
    own, donor = context_of(pair, "noise"), context_of(pair, "denoise").own

    def scores(share: float) -> Tensor:
        def nudged(prompts: Sequence[int]) -> dict[tuple[str, int], Tensor]:
            keys = [("z", layer) for layer in range(config.n_layers)]
            ends = [side.values(config, pair.model.weights, keys, prompts) for side in (own.own, donor)]
            return {key: ends[0][key] + share * (ends[1][key] - ends[0][key]) for key in keys}

        senders = senders_of(config, pair.prompts, "heads", role)
        target = receiving(config, receivers_of(config, list(receivers)), places, live=False)
        return execute(path_runs(context_of(pair, "noise", GivenDonor(nudged)), senders.patches, target)).complete()

    found = (scores(step) - scores(-step)) / (2 * step)
    return found.T.unflatten(1, (config.n_layers, config.n_heads))


def estimated(pair: uw.Contrast, receivers: Sequence[str], role: str, memory: int | None = None) -> Tensor:
    config = pair.model.config
    target = receiving(config, receivers_of(config, list(receivers)), pair.prompts.role(role), live=False)
    return path_gradients(context_of(pair, "noise"), target, memory)


CASES = {kind: TINY for kind in ("llama", "gpt2", "gpt_neox")}
CASES |= {"rotary": SHARED} | {kind: SMALL for kind in ("layer", "none", "causal", "causal none")}


@pytest.mark.parametrize(("kind", "receivers"), CASES.items())
def test_they_are_the_slopes_of_path_patches(kind, receivers) -> None:
    """Receivers in several layers, prompts of unequal lengths, grouped keys, parallel blocks, attention both ways."""
    tiny = receivers is TINY
    pair = tiny_pair(tiny_model(kind)) if tiny else small_pair(small_model(kind), uw.LogitDiff("turn"))
    role = "S2" if tiny else "turn"
    expected = slopes(pair, receivers, role)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(estimated(pair, receivers, role), expected, rtol=1e-6, atol=1e-8)


def test_little_memory_changes_nothing() -> None:
    pair = tiny_pair(tiny_model("llama"))
    torch.testing.assert_close(estimated(pair, TINY, "S2", 1), estimated(pair, TINY, "S2"), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loses_no_small_slopes(dtype) -> None:
    wide, half = (tiny_pair(tiny_model("gpt2", kind)) for kind in (torch.float32, dtype))
    faint = uw.Custom(lambda logits, prompts: 1e-7 * (logits[:, 1] - logits[:, 2]).float(), "faint")
    wide, half = (
        estimated(uw.Contrast(pair.model, pair.prompts, pair.corrupted, metric), TINY, "S2")
        for pair, metric in ((wide, faint), (half, faint))
    )
    largest = float(wide.abs().max())
    assert half.dtype == torch.float32
    assert largest > 1e-9
    torch.testing.assert_close(half, wide, rtol=0.1, atol=0.1 * largest)


def outside_torch(logits: Tensor, prompts: uw.Prompts) -> Tensor:
    return torch.from_numpy(logits[:, 1].numpy() - logits[:, 2].numpy())


def test_how_much_a_gradient_foresees() -> None:
    pair = tiny_pair(tiny_model("llama"))

    def share(metric: Metric) -> float:
        return foreseen(context_of(uw.Contrast(pair.model, pair.prompts, pair.corrupted, metric), "noise"))

    assert share(uw.LogitDiff()) > 0.4
    assert share(uw.Rank()) == share(uw.Custom(outside_torch, "outside torch")) == 0
    assert share(uw.KLToClean()) < 1e-6
