"""Tiny random models of any config, and prompts for models that see both ways."""

from dataclasses import replace

import torch
from torch import Tensor

import unweave as uw
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


def both_ways(kind: str) -> uw.Model:
    """A classifier of three classes that sees both ways: `layer` norm, `none` with attention alone, `rotary`."""
    shape = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 7, "n_ctx": 8, "d_vocab_out": 3}
    seeing = {"causal": False, "pad_token": PAD}
    if kind == "none":
        return random_model(uw.small_config(**shape, norm="none", **seeing), 1)
    config = uw.small_config(**shape, d_mlp=6, activation="gelu", **seeing)
    if kind == "layer":
        return random_model(config, 2)
    grouped = replace(config, n_kv_heads=1, norm="rms", block="parallel", positions="rotary", rotary_dim=4)
    return random_model(grouped, 3)


def both_ways_pair(model: uw.Model, metric: object = None) -> uw.Contrast:
    """Three prompts of unequal lengths, one with padding inside it, which the corrupted prompt has elsewhere."""
    tokens = torch.tensor([[0, 3, 4, 5, 2, PAD], [0, 4, PAD, 3, 4, 2], [0, 6, 3, 2, 5, 5]])
    other = torch.tensor([[0, 3, 4, 6, 2, PAD], [0, PAD, 5, 3, 4, 2], [0, 6, 4, 2, 3, PAD]])
    lengths, roles = [5, 6, 4], {"start": [0, 0, 0], "turn": [3, 4, 2]}
    clean = uw.Prompts.from_tokens(tokens, answers=[0, 1, 2], wrong=[1, 2, 0], roles=roles, lengths=lengths)
    return uw.Contrast(
        model,
        clean,
        uw.Prompts.from_tokens(other, lengths=lengths),
        uw.LogitDiff("start") if metric is None else metric,  # type: ignore[arg-type]
    )
