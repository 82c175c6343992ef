"""The weights that training begins with.

Every matrix is drawn from a normal distribution around 0 with standard deviation `0.8 / sqrt(d_model)`, as is usual for
small models of this kind. Biases are 0 (a gated MLP has none on its inputs), norms scale by 1. The draws come from one
generator, in float32 on the processor, so that a seed gives the same weights on every device: block after block
(queries, keys and values; output; MLP in and out), then embedding, positions and unembedding.
"""

import torch
from torch import Tensor

from unweave.models.config import Config
from unweave.models.weights import LayerWeights, NormWeights, Weights

STD, ROTARY_BASE = 0.8, 10_000.0


def initial_weights(config: Config, draw: torch.Generator) -> Weights:
    """Weights of a model that has learned nothing."""
    d, std = config.d_model, STD * config.d_model**-0.5

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=draw) * std

    def norm() -> NormWeights:
        if config.norm == "none":
            return NormWeights()
        return NormWeights(torch.ones(d), torch.zeros(d) if config.norm == "layer" else None)

    def layer() -> LayerWeights:
        n_qkv, hidden = (config.n_heads + 2 * config.n_kv_heads) * config.d_head, config.d_mlp * (1 + config.gated_mlp)
        has_mlp = config.d_mlp > 0
        return LayerWeights(
            norm1=norm(),
            w_qkv=matrix(n_qkv, d),
            b_qkv=torch.zeros(n_qkv),
            w_o=matrix(d, config.n_heads * config.d_head),
            b_o=torch.zeros(d),
            norm2=norm() if has_mlp else NormWeights(),
            w_in=matrix(hidden, d) if has_mlp else None,
            b_in=torch.zeros(hidden) if has_mlp and not config.gated_mlp else None,
            w_out=matrix(d, config.d_mlp) if has_mlp else None,
            b_out=torch.zeros(d) if has_mlp else None,
        )

    layers = tuple(layer() for _ in range(config.n_layers))
    w_e = matrix(config.d_vocab, d)
    return Weights(
        w_e=w_e,
        w_pos=matrix(config.n_ctx, d) if config.positions == "learned" else None,
        layers=layers,
        norm_final=norm(),
        w_u=w_e if config.tied_unembed else matrix(config.d_vocab_out, d),
        b_u=torch.zeros(config.d_vocab_out),
        rotary_freq=_rotary(config.rotary_dim) if config.positions == "rotary" else None,
    )


def _rotary(n_dims: int) -> Tensor:
    """The inverse frequencies of Su et al. 2021 (arXiv 2104.09864)."""
    return ROTARY_BASE ** -(torch.arange(0, n_dims, 2) / n_dims)
