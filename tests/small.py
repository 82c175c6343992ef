"""Tiny random models of any config, and prompts for them with padding of two kinds."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import unweave as uw
from unweave.metrics.metric import Metric
from unweave.models.config import Config
from unweave.models.state_dict import shapes_of, weights_from_state_dict

PAD = 1


def random_state(config: Config, seed: int = 0) -> dict[str, Tensor]:
    """A state dict in TransformerLens naming: scales of norms around 1, everything else around 0."""
    draw = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(s, generator=draw, dtype=torch.float64) for name, s in shapes_of(config).items()}
    return {name: 1 + value / 4 if name.endswith(".w") else value / 2 for name, value in state.items()}


def random_model(config: Config, seed: int = 0) -> uw.Model:
    """A model with such weights, in float64."""
    return uw.Model(config, weights_from_state_dict(config, random_state(config, seed)))


SHAPE: dict[str, Any] = {
    "n_layers": 2,
    "n_heads": 2,
    "d_model": 8,
    "d_head": 4,
    "d_vocab": 7,
    "n_ctx": 8,
    "d_vocab_out": 3,
}
SEEING: dict[str, Any] = {"causal": False, "pad_token": PAD}


def small_model(kind: str) -> uw.Model:
    """A classifier of three classes, in float64.

    These see both ways: `layer` norm with MLPs, `none` with attention alone, `rotary` with grouped keys and parallel
    blocks. `causal` has attention alone, `causal none` MLPs and no norm.
    """
    config = uw.small_config(**SHAPE, d_mlp=6, activation="gelu", **SEEING)
    models = {
        "layer": config,
        "none": uw.small_config(**SHAPE, norm="none", **SEEING),
        "rotary": replace(config, n_kv_heads=1, norm="rms", block="parallel", positions="rotary", rotary_dim=4),
        "causal": uw.small_config(**SHAPE),
        "causal none": uw.small_config(**SHAPE, d_mlp=6, norm="none"),
    }
    return random_model(models[kind], list(models).index(kind))


def small_pair(model: uw.Model, metric: Metric | None = None) -> uw.Contrast:
    """Three prompts of unequal lengths, one with padding inside it, which the corrupted prompt has elsewhere."""
    tokens = torch.tensor([[0, 3, 4, 5, 2, PAD], [0, 4, PAD, 3, 4, 2], [0, 6, 3, 2, 5, 5]])
    other = torch.tensor([[0, 3, 4, 6, 2, PAD], [0, PAD, 5, 3, 4, 2], [0, 6, 4, 2, 3, PAD]])
    lengths, roles = [5, 6, 4], {"start": [0, 0, 0], "turn": [3, 4, 2]}
    clean = uw.Prompts.from_tokens(tokens, answers=[0, 1, 2], wrong=[1, 2, 0], roles=roles, lengths=lengths)
    corrupted = uw.Prompts.from_tokens(other, lengths=lengths)
    return uw.Contrast(model, clean, corrupted, uw.LogitDiff("start") if metric is None else metric)
