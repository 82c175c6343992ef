"""GPT-2: learned positions, LayerNorm, biases everywhere, fused queries, keys and values.

Read from `transformers.models.gpt2.modeling_gpt2`. Its `Conv1D` stores matrices as `[in, out]`, the transpose of ours.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from unweave.models.config import Config
from unweave.models.families.guard import Options, Tensors
from unweave.models.weights import LayerWeights, NormWeights, Weights

_OLD_BUFFERS = (r"\.attn\.bias$", r"\.attn\.masked_bias$")


def convert(options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Config, Weights]:
    """A HF GPT-2 config (as a dict) and state dict as ours.

    With `scale_attn_by_inverse_layer_idx` the queries of a layer are stored divided by its number: the same scores.

    Raises:
        ModelError: an option that is not understood; a tensor that is missing, misshapen or left over.
    """
    read = Options(options)
    d_model, n_heads, n_ctx = read.read("n_embd"), read.read("n_head"), read.read("n_positions")
    d_head = d_model // n_heads
    config = Config(
        name="gpt2",
        family="gpt2",
        n_layers=read.read("n_layer"),
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_model=d_model,
        d_head=d_head,
        d_mlp=read.read("n_inner", 4 * d_model),
        d_vocab=read.read("vocab_size"),
        d_vocab_out=read.read("vocab_size"),
        n_ctx=n_ctx,
        norm="layer",
        norm_eps=read.read("layer_norm_epsilon"),
        block="serial",
        positions="learned",
        score_scale=d_head**-0.5 if read.read("scale_attn_weights", True) else 1.0,
        activation=read.activation("activation_function"),
        gated_mlp=False,
        tied_unembed=read.read("tie_word_embeddings", True),
    )
    by_layer = read.read("scale_attn_by_inverse_layer_idx", False)
    read.expect("reorder_and_upcast_attn", False, True)  # the order of one product, and float32 as we have anyway
    read.expect("n_ctx", n_ctx)  # an older name
    read.finish()
    return config, _weights(config, Tensors(tensors, "transformer.", _OLD_BUFFERS), by_layer)


def _weights(config: Config, tensors: Tensors, by_layer: bool) -> Weights:
    w_e, w_u = tensors.embeddings("wte.weight", "lm_head.weight", config)
    layers = [_layer(config, tensors, f"h.{index}.") for index in range(config.n_layers)]
    if by_layer:
        layers = [_divide_queries(config, layer, index + 1) for index, layer in enumerate(layers)]
    weights = Weights(
        w_e=w_e,
        w_pos=tensors.take("wpe.weight", config.n_ctx, config.d_model),
        layers=tuple(layers),
        norm_final=_norm(config, tensors, "ln_f"),
        w_u=w_u,
        b_u=None,
    )
    tensors.finish()
    return weights


def _norm(config: Config, tensors: Tensors, name: str) -> NormWeights:
    return NormWeights(*(tensors.take(f"{name}.{part}", config.d_model) for part in ("weight", "bias")))


def _layer(config: Config, tensors: Tensors, at: str) -> LayerWeights:
    d_model, d_mlp = config.d_model, config.d_mlp

    def matrix(name: str, d_in: int, d_out: int) -> tuple[Tensor, Tensor]:
        weight = tensors.take(f"{at}{name}.weight", d_in, d_out).T.contiguous()
        return weight, tensors.take(f"{at}{name}.bias", d_out)

    w_qkv, b_qkv = matrix("attn.c_attn", d_model, 3 * d_model)
    w_o, b_o = matrix("attn.c_proj", d_model, d_model)
    w_in, b_in = matrix("mlp.c_fc", d_model, d_mlp)
    w_out, b_out = matrix("mlp.c_proj", d_mlp, d_model)
    return LayerWeights(
        norm1=_norm(config, tensors, f"{at}ln_1"),
        w_qkv=w_qkv,
        b_qkv=b_qkv,
        w_o=w_o,
        b_o=b_o,
        norm2=_norm(config, tensors, f"{at}ln_2"),
        w_in=w_in,
        b_in=b_in,
        w_out=w_out,
        b_out=b_out,
    )


def _divide_queries(config: Config, layer: LayerWeights, number: int) -> LayerWeights:
    assert layer.b_qkv is not None
    w_qkv, b_qkv = layer.w_qkv.clone(), layer.b_qkv.clone()
    w_qkv[: config.d_model] /= number
    b_qkv[: config.d_model] /= number
    return replace(layer, w_qkv=w_qkv, b_qkv=b_qkv)
