"""The one forward pass can be differentiated: its gradients are those of finite differences, in float64."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.tiny import Kind, tiny_model
from unweave.models.config import Config
from unweave.models.forward import forward, unembed
from unweave.models.weights import Weights

TOKENS = torch.randint(0, 23, (3, 6), generator=torch.Generator().manual_seed(1))
STEP = 1e-6

CASES: dict[str, tuple[Kind, dict[str, object]]] = {
    "layer norm, learned positions": ("gpt2", {}),
    "rms norm, rotary, shared keys, gated silu": ("llama", {}),
    "gated relu": ("llama", {"activation": "relu"}),
    "gated gelu": ("llama", {"activation": "gelu"}),
    "parallel, half rotated": ("gpt_neox", {}),
    "relu": ("gpt2", {"activation": "relu"}),
    "no norm": ("gpt2", {"norm": "none"}),
    "attention alone": ("gpt2", {"d_mlp": 0}),
    "bidirectional, padded": ("gpt2", {"causal": False, "pad_token": int(TOKENS[0, 5])}),
}


def loss(config: Config, weights: Weights) -> Tensor:
    """Some number that depends on the logits of every position."""
    return unembed(weights, forward(config, weights, TOKENS)).log_softmax(-1)[..., 2].mean()


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_finite_differences(case: str) -> None:
    kind, changed = CASES[case]
    model = tiny_model(kind)
    config = replace(model.config, **changed)
    # halved, since without a norm this many large weights bend the loss more than a difference can follow
    weights = model.weights.map(lambda tensor: (tensor / 2).requires_grad_())
    loss(config, weights).backward()
    draw = torch.Generator().manual_seed(0)
    moved = 0
    for name, tensor in weights.named().items():
        direction = torch.randn(tensor.shape, generator=draw, dtype=tensor.dtype)
        with torch.no_grad():
            tensor += STEP * direction
            above = loss(config, weights)
            tensor -= 2 * STEP * direction
            below = loss(config, weights)
            tensor += STEP * direction
        slope = float(above - below) / (2 * STEP)
        got = 0.0 if tensor.grad is None else float((tensor.grad * direction).sum())
        assert got == pytest.approx(slope, rel=1e-6, abs=1e-7), name
        moved += abs(slope) > 1e-4
    assert moved >= 8, "nothing was tested"


@pytest.mark.parametrize("case", CASES)
def test_the_forms_with_and_without_gradients_are_one_equation(case: str) -> None:
    kind, changed = CASES[case]
    model = tiny_model(kind)
    config = replace(model.config, **changed)
    with torch.no_grad():
        plain = loss(config, model.weights)
    followed = loss(config, model.weights.map(lambda tensor: tensor.clone().requires_grad_()))
    assert followed.requires_grad
    assert followed.item() == pytest.approx(plain.item(), rel=1e-13)


def test_named_weights_are_all_of_them() -> None:
    weights = tiny_model("llama").weights
    named = weights.named()
    assert "rotary_freq" not in named
    assert {"w_e", "w_u", "layers.0.norm1.weight", "layers.2.w_out", "norm_final.weight"} <= named.keys()
    assert len(named) == 3 + 6 * 3
    tied = replace(weights, w_u=weights.w_e)
    assert "w_u" not in tied.named()
    doubled = tied.map(lambda tensor: 2 * tensor)
    assert doubled.w_u is doubled.w_e
    assert torch.equal(doubled.named()["layers.1.w_qkv"], 2 * named["layers.1.w_qkv"])
