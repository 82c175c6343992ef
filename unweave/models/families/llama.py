"""Llama and its like: rotary positions, RMS norm, gated MLP, grouped keys and values.

Read from `transformers.models.llama.modeling_llama`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unweave.errors import ModelError
from unweave.models.config import Config
from unweave.models.families.guard import Options, Tensors, join
from unweave.models.families.rotary import rotary_tables
from unweave.models.weights import LayerWeights, NormWeights, Weights

_OLD_BUFFERS = (r"rotary_emb\.inv_freq$",)


def convert(options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Config, Weights]:
    """A HF Llama config (as a dict) and state dict as ours.

    Raises:
        ModelError: an option that is not understood; a tensor that is missing, misshapen or left over.
    """
    read = Options(options)
    d_model, n_heads = read.read("hidden_size"), read.read("num_attention_heads")
    d_head = read.read("head_dim", d_model // n_heads)
    rope = read.read("rope_parameters")
    if rope.get("partial_rotary_factor") not in (None, 1):
        raise ModelError("config option rope_parameters: the llama converter does not support partial_rotary_factor")
    rotary_dim, freq, scale = rotary_tables(options, rope, d_head)
    biases = read.read("attention_bias", False), read.read("mlp_bias", False)
    tied = read.read("tie_word_embeddings", False)
    config = Config(
        name="llama",
        family="llama",
        n_layers=read.read("num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=read.read("num_key_value_heads", n_heads),
        d_model=d_model,
        d_head=d_head,
        d_mlp=read.read("intermediate_size"),
        d_vocab=read.read("vocab_size"),
        d_vocab_out=read.read("vocab_size"),
        n_ctx=read.read("max_position_embeddings"),
        norm="rms",
        norm_eps=read.read("rms_norm_eps"),
        block="serial",
        positions="rotary",
        score_scale=d_head**-0.5,
        activation=read.activation("hidden_act"),
        gated_mlp=True,
        rotary_dim=rotary_dim,
        tied_unembed=tied,
    )
    # Written by some conversions; True would pair neighbouring dimensions instead of halves.
    read.expect("rope_interleaved", False)
    read.finish()
    return _with_weights(config, Tensors(tensors, "model.", _OLD_BUFFERS), biases, freq, scale)


def _with_weights(
    config: Config, tensors: Tensors, biases: tuple[bool, bool], freq: Tensor, scale: float
) -> tuple[Config, Weights]:
    w_e, w_u = tensors.embeddings("embed_tokens.weight", "lm_head.weight", config)
    weights = Weights(
        w_e=w_e,
        w_pos=None,
        layers=tuple(_layer(config, tensors, f"layers.{index}.", *biases) for index in range(config.n_layers)),
        norm_final=NormWeights(tensors.take("norm.weight", config.d_model)),
        w_u=w_u,
        b_u=None,
        rotary_freq=freq,
        rotary_scale=scale,
    )
    tensors.finish()
    return config, weights


def _layer(config: Config, tensors: Tensors, at: str, attention_bias: bool, mlp_bias: bool) -> LayerWeights:
    d_model, d_mlp = config.d_model, config.d_mlp
    z, kv = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
    rows = {"q_proj": z, "k_proj": kv, "v_proj": kv}
    attn, mlp = f"{at}self_attn.", f"{at}mlp."
    return LayerWeights(
        norm1=NormWeights(tensors.take(f"{at}input_layernorm.weight", d_model)),
        w_qkv=torch.cat([tensors.take(f"{attn}{name}.weight", n, d_model) for name, n in rows.items()]),
        b_qkv=join(*(tensors.take_if(attention_bias, f"{attn}{name}.bias", n) for name, n in rows.items())),
        w_o=tensors.take(f"{attn}o_proj.weight", d_model, z),
        b_o=tensors.take_if(attention_bias, f"{attn}o_proj.bias", d_model),
        norm2=NormWeights(tensors.take(f"{at}post_attention_layernorm.weight", d_model)),
        w_in=torch.cat([tensors.take(f"{mlp}{name}_proj.weight", d_mlp, d_model) for name in ("gate", "up")]),
        b_in=join(*(tensors.take_if(mlp_bias, f"{mlp}{name}_proj.bias", d_mlp) for name in ("gate", "up"))),
        w_out=tensors.take(f"{mlp}down_proj.weight", d_model, d_mlp),
        b_out=tensors.take_if(mlp_bias, f"{mlp}down_proj.bias", d_model),
    )
