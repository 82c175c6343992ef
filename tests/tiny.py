"""Tiny random models and prompts, made without any library, for tests of what does not depend on real weights."""

from typing import Literal

import torch
from torch import Tensor

from unweave.metrics import LogitDiff
from unweave.metrics.contrast import Contrast
from unweave.models.config import Config
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.models.weights import LayerWeights, NormWeights, Weights

Kind = Literal["llama", "gpt2", "gpt_neox"]

D_MODEL, D_HEAD, D_MLP, D_VOCAB, N_CTX, N_LAYERS, N_HEADS = 16, 4, 20, 23, 32, 3, 4


def tiny_model(kind: Kind, dtype: torch.dtype = torch.float64, seed: int = 0) -> Model:
    """Three layers of four heads: grouped and rotary, learned positions with biases, or parallel with half rotation."""
    draw = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=draw, dtype=torch.float64) * 0.4).to(dtype)

    n_kv = 2 if kind == "llama" else N_HEADS
    rotary = {"llama": D_HEAD, "gpt2": 0, "gpt_neox": D_HEAD // 2}[kind]
    biased = kind != "llama"
    config = Config(
        name=f"tiny {kind}",
        family=kind,
        n_layers=N_LAYERS,
        n_heads=N_HEADS,
        n_kv_heads=n_kv,
        d_model=D_MODEL,
        d_head=D_HEAD,
        d_mlp=D_MLP,
        d_vocab=D_VOCAB,
        d_vocab_out=D_VOCAB,
        n_ctx=N_CTX,
        norm="rms" if kind == "llama" else "layer",
        norm_eps=1e-5,
        block="parallel" if kind == "gpt_neox" else "serial",
        positions="rotary" if rotary else "learned",
        score_scale=D_HEAD**-0.5,
        activation="silu" if kind == "llama" else "gelu_new",
        gated_mlp=kind == "llama",
        rotary_dim=rotary,
    )
    n_qkv = (N_HEADS + 2 * n_kv) * D_HEAD

    def norm() -> NormWeights:
        return NormWeights(1 + random(D_MODEL), random(D_MODEL) if biased else None)

    def layer() -> LayerWeights:
        return LayerWeights(
            norm1=norm(),
            w_qkv=random(n_qkv, D_MODEL),
            b_qkv=random(n_qkv) if biased else None,
            w_o=random(D_MODEL, N_HEADS * D_HEAD),
            b_o=random(D_MODEL) if biased else None,
            norm2=norm(),
            w_in=random(2 * D_MLP if config.gated_mlp else D_MLP, D_MODEL),
            b_in=random(D_MLP) if biased else None,
            w_out=random(D_MODEL, D_MLP),
            b_out=random(D_MODEL) if biased else None,
        )

    weights = Weights(
        w_e=random(D_VOCAB, D_MODEL),
        w_pos=None if rotary else random(N_CTX, D_MODEL),
        layers=tuple(layer() for _ in range(N_LAYERS)),
        norm_final=norm(),
        w_u=random(D_VOCAB, D_MODEL),
        b_u=random(D_VOCAB) if biased else None,
        rotary_freq=1 / 100 ** (torch.arange(0, rotary, 2) / rotary) if rotary else None,
    )
    return Model(config, weights)


def tiny_pair(model: Model, lengths: tuple[int, ...] = (7, 5, 7)) -> Contrast:
    """Three prompts that differ from their corrupted ones at role `S2` (position 3), and in prompt 1 at `end` too."""
    draw = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, D_VOCAB, (len(lengths), max(lengths)), generator=draw)
    other = tokens.clone()
    other[:, 3] = (other[:, 3] + 7) % D_VOCAB
    other[1, lengths[1] - 1] = (other[1, lengths[1] - 1] + 3) % D_VOCAB
    roles = {"S1": [1] * len(lengths), "S2": [3] * len(lengths)}
    clean = Prompts.from_tokens(tokens, answers=[1, 2, 3], wrong=[4, 5, 6], roles=roles, lengths=lengths)
    return Contrast(model, clean, Prompts.from_tokens(other, roles=roles, lengths=lengths), LogitDiff())
