"""Every method on a second, pretended device: nothing meets a tensor of the processor, and the numbers are the same."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.methods.ioi_model import ioi_model
from tests.methods.test_weight_results import RESULTS
from tests.pretend_device import AWAY, Away, pretended
from tests.small import small_model, small_pair
from tests.tiny import Kind, tiny_model, tiny_pair
from unweave.circuits.circuit import Group

HEADS = ["0.1", "1.2"]
EFFORT = uw.EvaluationOptions(controls=2, best=2, subsets=1, searches=1, steps=1)
SWEEPS: dict[str, Callable[[uw.Contrast], Any]] = {
    "stream": lambda p: uw.patch(p, "resid_pre", over=("layer", "pos")),
    "noise at roles": lambda p: uw.patch(p, ["q", "k", "v", "z"], over=("layer", "role"), direction="noise"),
    "heads": lambda p: uw.patch(p, ["z", "k", "pattern"], over=("layer", "head")),
    "sources": lambda p: uw.patch(p, "pattern", over={"layer": [1], "q_pos": [3, 6], "k_pos": None}),
    "neurons": lambda p: uw.patch(p, "mlp_post", over={"layer": [1], "neuron": None}),
    "little memory": lambda p: uw.patch(p, "v", over=("layer", "pos"), memory=1),
    "addresses": lambda p: uw.patch_at(p, ["z 1.1 @S2", ["z 0.1", "mlp_out 1"]]),
    "paths": lambda p: uw.path_patch(p),
    "paths from MLPs": lambda p: uw.path_patch(p, "logits", "mlps", mlps="frozen", direction="denoise"),
    "paths to heads": lambda p: uw.path_patch(p, [(1, 1, "v"), (2, 0, "q")], at=("S2", "end")),
    "paths to MLPs": lambda p: uw.path_patch(p, ["mlp 1"], [(0, 0), "embed", [(0, 1), "mlp 0"]], at="S2"),
    "paths to live heads": lambda p: uw.path_patch(p, [(1, 0, "k"), (2, 1, "v")], attention="qkv"),
    "edges": lambda p: uw.edges(p, verify=9, control=9, at="S2"),
    "edges by gradient": lambda p: uw.edges(p, "integrated", direction="denoise"),
    "circuits of edges": lambda p: uw.curve(p, uw.edges(p, "integrated activations"), [0.5], how="mean"),
    "prediction": lambda p: uw.attribution_patch(p, ["z", "k", "pattern"], over=("layer", "head")),
    "zeros": lambda p: uw.knockout(p, "z", "zero", at="S2"),
    "means": lambda p: uw.knockout(p, ["0.1", "mlp 1", "layer 2"], "mean", joint=True),
    "another prompt's": lambda p: uw.knockout(p, "pattern", "resample"),
    "noise": lambda p: uw.knockout(p, ["0.1", "1.1"], "gaussian"),
    "lens": lambda p: uw.logit_lens(p),
    "attribution by head": lambda p: uw.attribute(p, by="head"),
    "attribution by neuron": lambda p: uw.attribute(p, by="neuron"),
    "attention": lambda p: uw.attention(p, HEADS),
    "attention by role": lambda p: uw.heads.role_attention(p),
    "attribution without": lambda p: uw.heads.knockout_attribution(p, HEADS),
    "backups": lambda p: uw.heads.backup_heads(p, HEADS),
    "evaluate": lambda p: uw.evaluate(_circuit(p), p, how="mean", effort=EFFORT),
    "sketch": lambda p: uw.sketch(p, uw.SketchOptions(0.1, 1.0, 1.0, 0.0, levels=2), roles=["S2"]),
}
METRICS = (uw.LogitDiff, uw.LogProb, uw.ProbDiff, uw.KLToClean, uw.Rank, uw.Accuracy, uw.CrossEntropy)


def _circuit(pair: uw.Contrast) -> uw.Circuit:
    return uw.Circuit((Group("movers", ((0, 1), (1, 2))),))


def numbers(result: Any) -> list[np.ndarray]:
    """All numbers of a result."""
    if isinstance(result, xr.DataArray):
        return [result.values]
    if isinstance(result, xr.Dataset):
        return [array.values for array in result.values() if array.dtype.kind in "fiub"]
    if isinstance(result, xr.DataTree):
        return [array for node in result.subtree for array in numbers(node.to_dataset())]
    if isinstance(result, uw.Circuit):
        return [np.array(result.heads), np.array([edge.effect for edge in result.edges])]
    raise TypeError(type(result))


def same(found: Any, expected: Any) -> None:
    for ours, theirs in zip(numbers(found), numbers(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def check(name: str, kind: Kind) -> None:
    pair = tiny_pair(tiny_model(kind))
    expected = SWEEPS[name](pair)
    with pretended() as device:
        away = uw.Contrast(pair.model.to(device), pair.prompts, pair.corrupted, pair.metric)
        assert isinstance(away.clean_scores, Away)
        same(SWEEPS[name](away), expected)


@pytest.mark.parametrize("name", SWEEPS)
def test_methods_of_a_contrast(name: str) -> None:
    check(name, "llama")


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
@pytest.mark.parametrize("name", ["heads", "paths", "paths to live heads", "means", "lens"])
def test_other_families(name: str, kind: Kind) -> None:
    check(name, kind)


@pytest.mark.parametrize("name", RESULTS)
def test_methods_of_weights(name: str) -> None:
    expected = RESULTS[name](tiny_model("gpt2"))
    with pretended() as device:
        same(RESULTS[name](tiny_model("gpt2").to(device)), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics(metric: type) -> None:
    pair = tiny_pair(tiny_model("llama"))
    asked = uw.Contrast(pair.model, pair.prompts, pair.corrupted, metric())
    expected = uw.patch(asked, "resid_pre", over=("layer", "pos"))
    with pretended() as device:
        away = uw.Contrast(pair.model.to(device), pair.prompts, pair.corrupted, metric())
        same(uw.patch(away, "resid_pre", over=("layer", "pos")), expected)


@pytest.mark.parametrize("kind", ["layer", "none", "rotary"])
def test_attention_that_sees_both_ways(kind: str) -> None:
    model = small_model(kind)
    asks: list[Callable[[uw.Contrast], xr.DataArray]] = [
        lambda p: uw.patch(p, "k", over=("layer", "pos")),
        lambda p: uw.path_patch(p, [(1, 0, "v")]),
        lambda p: uw.knockout(p, "pattern", "mean"),
    ]
    expected = [ask(small_pair(model)) for ask in asks]
    with pretended() as device:
        away = small_pair(model.to(device))
        for ask, table in zip(asks, expected, strict=True):
            same(ask(away), table)


def test_head_names_and_signals_of_indirect_objects() -> None:
    def asked(model: uw.Model) -> list[Any]:
        task = uw.tasks.ioi(model, n_prompts=6, seed=0)
        pair = uw.Contrast(model, task.prompts, task.corrupt("ABC"), uw.LogitDiff())
        names = [" Mary", " John"]
        return [
            uw.heads.head_scores(model, n_tokens=4, n_sequences=2),
            uw.heads.copying_scores(model, names),
            uw.heads.position_token(pair, task, ["1.1"]),
            uw.heads.attention_contribution(pair, by_value=True),
            uw.heads.classify_heads(pair, rules=uw.heads.HeadTypeThresholds(n_tokens=4, n_sequences=2)).measures,
        ]

    expected = asked(ioi_model("llama"))
    with pretended() as device:
        for found, table in zip(asked(ioi_model("llama").to(device)), expected, strict=True):
            same(found, table)


def test_what_a_real_device_refuses_is_refused() -> None:
    with pretended() as device:
        away, here = torch.ones(3, device=device), torch.ones(3)
        assert away.device == AWAY
        assert torch.arange(3, device=away.device).device == AWAY
        assert here.to(away).device == AWAY
        assert (away + 1)[torch.tensor([0, 2])].cpu().device == torch.device("cpu")
        for refused in (
            lambda: away + here,
            lambda: torch.cat([here, away]),
            lambda: here[away.long()],
            lambda: torch.where(here > 0, away, here),
            lambda: torch.randn(2, device=device, generator=torch.Generator()),
        ):
            with pytest.raises(RuntimeError):
                refused()
        with pytest.raises(TypeError):
            away.numpy()
        with pytest.raises(TypeError):
            np.asarray(away)
