"""A metric that is NaN for patched runs gives NaN effects, however they are cut; an interrupt leaves no zeros."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

import unweave as uw
from tests.small import small_model, small_pair
from tests.tiny import tiny_model, tiny_pair
from unweave.metrics.metric import LogitMetric
from unweave.models.prompts import Prompts


class Spoilt:
    """The logit difference until `broken`, then NaN for every run that is scored."""

    name, unit, role, needs_reference, higher_is_better = "spoilt", "logits", "end", False, True
    broken = False

    def columns(self, prompts: Prompts) -> Tensor | None:
        return uw.LogitDiff().columns(prompts)

    def score(self, logits: Tensor, prompts: Prompts, reference: Tensor | None = None) -> Tensor:
        score = uw.LogitDiff().score(logits, prompts, reference)
        return torch.full_like(score, torch.nan) if self.broken else score


ENTRIES = {"layer": [0, 1], "head": [1], "q_pos": [2, 3], "k_pos": None}
ASKED: dict[str, Callable[..., xr.DataArray]] = {
    "stream": lambda pair, **more: uw.patch(pair, "resid_pre", ("layer", "pos"), **more),
    "heads": lambda pair, **more: uw.patch(pair, "z", ("layer", "head"), **more),
    "values at roles": lambda pair, **more: uw.patch(pair, "v", ("layer", "head", "role"), **more),
    "pattern entries": lambda pair, **more: uw.patch(pair, "pattern", ENTRIES, **more),
    "neurons": lambda pair, **more: uw.patch(pair, "mlp_post", {"layer": [1], "neuron": None}, **more),
    "addresses": lambda pair, **more: uw.patch_at(pair, ["z 1.1", "resid_pre 1 @2"], **more),
    "together": lambda pair, **more: uw.patch_at(pair, [["z 0.1", "k 1.0"], ["z 1.0", "z 1.1"]], **more),
    "every head out": lambda pair, **more: uw.knockout(pair, "heads", "mean", **more),
    "out at a role": lambda pair, **more: uw.knockout(pair, "v", "zero", at="end", **more),
    "out together": lambda pair, **more: uw.knockout(pair, ["layer 1", (0, 1)], joint=True, **more),
    "noise": lambda pair, **more: uw.knockout(pair, "z", "gaussian", **more),
    "noise in the stream": lambda pair, **more: uw.knockout(pair, "result", "gaussian", **more),
    "change": lambda pair, **more: uw.knockout(pair, "heads", measure="change", **more),
    "to the logits": lambda pair, **more: uw.path_patch(pair, **more),
    "to inputs": lambda pair, **more: uw.path_patch(pair, [(1, 0, "v"), (1, 1, "q")], **more),
    "to an MLP": lambda pair, **more: uw.path_patch(pair, ["mlp 1"], **more),
    "to live inputs": lambda pair, **more: uw.path_patch(pair, [(0, 1, "v"), (1, 1, "q")], attention="qkv", **more),
}


@pytest.mark.parametrize(("kind", "memory"), [("llama", 1), ("llama", None), ("gpt_neox", 2**16), ("layer", 1)])
@pytest.mark.parametrize("ask", ASKED)
def test_effects_are_nan_where_the_score_is(ask: str, kind: str, memory: int | None) -> None:
    metric = Spoilt()
    if kind == "layer":  # attention that sees both ways
        pair = small_pair(small_model(kind), metric)
    else:
        plain = tiny_pair(tiny_model(kind))  # type: ignore[arg-type]
        pair = uw.Contrast(plain.model, plain.prompts, plain.corrupted, metric)
    right = ASKED[ask](pair, progress=False)
    metric.broken = True
    effects = ASKED[ask](pair, memory=memory, progress=False)
    changed, exists = (abs(right) > 1e-9).values, right.notnull().values
    assert changed.sum() > 2, "effects that are never there show nothing"
    assert np.isnan(effects.values[changed | ~exists]).all()
    assert (effects.values[~np.isnan(effects.values)] == 0).all()
    assert f"NaN for {int((np.isnan(effects.values) & exists).sum())} of " in effects.attrs["notes"]
    assert "NaN" not in right.attrs["notes"]


@pytest.mark.parametrize("ask", ASKED)
@pytest.mark.parametrize("at", [1, 5])
def test_what_was_finished_before_an_interrupt_is_right_and_the_rest_nan(
    ask: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of scoring, whichever it is."""
    pair, scored = tiny_pair(tiny_model("gpt2")), []
    whole = ASKED[ask](pair, memory=1, progress=False)
    metric = type(pair.metric)
    score = metric.score

    def stopping(self: LogitMetric, *given: object) -> Tensor:
        scored.append(1)
        if len(scored) > at:
            raise KeyboardInterrupt
        return score(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(metric, "score", stopping)
    try:
        ASKED[ask](pair, memory=1, progress=False)
    except uw.Interrupted as error:
        partial = error.partial
    else:
        assert 0 < len(scored) <= at
        return
    assert isinstance(partial, xr.DataArray)
    there = partial.notnull()
    assert int(there.sum()) < int(whole.notnull().sum())
    np.testing.assert_allclose(partial.values[there.values], whole.values[there.values], rtol=0, atol=1e-12)
