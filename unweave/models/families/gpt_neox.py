"""GPT-NeoX (Pythia): partial rotary positions, LayerNorm, attention and MLP side by side or in series.

Read from `transformers.models.gpt_neox.modeling_gpt_neox`. Its fused projection holds query, key and value of head 0,
then those of head 1, and so on; ours holds all queries, then all keys, then all values.
"""

from collections.abc import Mapping
from typing import Any

from einops import rearrange
from torch import Tensor

from unweave.models.config import Config
from unweave.models.families.guard import Options, Tensors
from unweave.models.families.rotary import rotary_tables
from unweave.models.weights import LayerWeights, NormWeights, Weights

_OLD_BUFFERS = (r"attention\.bias$", r"attention\.masked_bias$", r"rotary_emb\.inv_freq$")


def convert(options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Config, Weights]:
    """A HF GPT-NeoX config (as a dict) and state dict as ours.

    Raises:
        ModelError: an option that is not understood; a tensor that is missing, misshapen or left over.
    """
    read = Options(options)
    d_model, n_heads = read.read("hidden_size"), read.read("num_attention_heads")
    d_head = d_model // n_heads
    read.expect("head_dim", d_head)  # read by the library's rotary tables, but not by its attention
    rotary_dim, freq, scale = rotary_tables(options, read.read("rope_parameters"), d_head)
    attention_bias = read.read("attention_bias", True)
    config = Config(
        name="gpt_neox",
        family="gpt_neox",
        n_layers=read.read("num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_model=d_model,
        d_head=d_head,
        d_mlp=read.read("intermediate_size"),
        d_vocab=read.read("vocab_size"),
        d_vocab_out=read.read("vocab_size"),
        n_ctx=read.read("max_position_embeddings"),
        norm="layer",
        norm_eps=read.read("layer_norm_eps"),
        block="parallel" if read.read("use_parallel_residual", True) else "serial",
        positions="rotary",
        score_scale=d_head**-0.5,
        activation=read.activation("hidden_act"),
        gated_mlp=False,
        rotary_dim=rotary_dim,
        tied_unembed=read.read("tie_word_embeddings", False),
    )
    read.finish()
    return config, _weights(config, Tensors(tensors, "gpt_neox.", _OLD_BUFFERS), attention_bias, freq, scale)


def _weights(config: Config, tensors: Tensors, attention_bias: bool, freq: Tensor, scale: float) -> Weights:
    head = "embed_out.weight" if "embed_out.weight" in tensors else "lm_head.weight"  # an older name
    w_e, w_u = tensors.embeddings("embed_in.weight", head, config)
    weights = Weights(
        w_e=w_e,
        w_pos=None,
        layers=tuple(_layer(config, tensors, f"layers.{i}.", attention_bias) for i in range(config.n_layers)),
        norm_final=_norm(config, tensors, "final_layer_norm"),
        w_u=w_u,
        b_u=None,
        rotary_freq=freq,
        rotary_scale=scale,
    )
    tensors.finish()
    return weights


def _norm(config: Config, tensors: Tensors, name: str) -> NormWeights:
    return NormWeights(*(tensors.take(f"{name}.{part}", config.d_model) for part in ("weight", "bias")))


def _layer(config: Config, tensors: Tensors, at: str, attention_bias: bool) -> LayerWeights:
    d_model, d_mlp = config.d_model, config.d_mlp
    qkv, dense = f"{at}attention.query_key_value", f"{at}attention.dense"
    b_qkv = tensors.take_if(attention_bias, f"{qkv}.bias", 3 * d_model)
    return LayerWeights(
        norm1=_norm(config, tensors, f"{at}input_layernorm"),
        w_qkv=_by_kind(config, tensors.take(f"{qkv}.weight", 3 * d_model, d_model)),
        b_qkv=None if b_qkv is None else _by_kind(config, b_qkv),
        w_o=tensors.take(f"{dense}.weight", d_model, d_model),
        b_o=tensors.take_if(attention_bias, f"{dense}.bias", d_model),
        norm2=_norm(config, tensors, f"{at}post_attention_layernorm"),
        w_in=tensors.take(f"{at}mlp.dense_h_to_4h.weight", d_mlp, d_model),
        b_in=tensors.take(f"{at}mlp.dense_h_to_4h.bias", d_mlp),
        w_out=tensors.take(f"{at}mlp.dense_4h_to_h.weight", d_model, d_mlp),
        b_out=tensors.take(f"{at}mlp.dense_4h_to_h.bias", d_model),
    )


def _by_kind(config: Config, fused: Tensor) -> Tensor:
    return rearrange(fused, "(head kind e) ... -> (kind head e) ...", kind=3, head=config.n_heads)
