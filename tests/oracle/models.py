"""Tiny random models of the reference library, and a copy of them that computes in float64 throughout.

`FAMILIES` names the models; `tiny(name)` builds one, the same on every call. `instrument(hf)` returns a copy in which

1. RMS norms, softmax and nothing else no longer fall back to float32 (the library casts there, whatever the dtype);
2. each attention module has two identity modules, `scores_point` and `pattern_point`, through which scores and pattern
   pass, so that a hook can read and replace them like any other activation.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm

N_VOCAB = 23
N_CONTEXT = 16
_COMMON: dict[str, Any] = {"vocab_size": N_VOCAB, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def _llama(n_layers: int, **options: Any) -> PreTrainedModel:
    # d_head * heads differs from d_model, so that the two cannot be mistaken for each other.
    config = LlamaConfig(
        hidden_size=20,
        head_dim=6,
        intermediate_size=18,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        max_position_embeddings=N_CONTEXT,
        **_COMMON,
        **options,
    )
    return LlamaForCausalLM(config)


def _gpt2(n_layers: int) -> PreTrainedModel:
    config = GPT2Config(n_embd=20, n_layer=n_layers, n_head=4, n_inner=18, n_positions=N_CONTEXT, **_COMMON)
    return GPT2LMHeadModel(config)


def _neox(n_layers: int, *, parallel: bool) -> PreTrainedModel:
    config = GPTNeoXConfig(
        hidden_size=24,
        intermediate_size=18,
        num_hidden_layers=n_layers,
        num_attention_heads=3,
        max_position_embeddings=N_CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        use_parallel_residual=parallel,
        **_COMMON,
    )
    return GPTNeoXForCausalLM(config)


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama-grouped": lambda: _llama(3, num_key_value_heads=2, tie_word_embeddings=True),
    "llama-biased": lambda: _llama(2, num_key_value_heads=4, attention_bias=True, mlp_bias=True),
    "gpt2": lambda: _gpt2(3),
    "neox-parallel": lambda: _neox(3, parallel=True),
    "neox-serial": lambda: _neox(2, parallel=False),
}


def tiny(name: str, seed: int = 0) -> PreTrainedModel:
    """A random model of `FAMILIES`, in float64, with weights large enough that every part of it matters."""
    hf = FAMILIES[name]().double().eval()
    generator = torch.Generator().manual_seed(seed)
    norms = {id(p) for m in hf.modules() if isinstance(m, nn.LayerNorm | LlamaRMSNorm) for p in [m.weight]}
    with torch.no_grad():
        for parameter in hf.parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(1 + noise if id(parameter) in norms else noise)
    return hf


def instrument(hf: PreTrainedModel) -> PreTrainedModel:
    """A copy of `hf` whose attention is `_attention` and whose RMS norms stay in float64."""
    traced = copy.deepcopy(hf)
    traced.set_attn_implementation("unweave_oracle")
    for module in list(traced.modules()):
        if isinstance(module, LlamaRMSNorm):
            module.register_forward_hook(_rms_norm)
        if hasattr(module, "layer_idx"):
            module.scores_point = nn.Identity()
            module.pattern_point = nn.Identity()
    return traced


def _rms_norm(module: LlamaRMSNorm, args: tuple[Tensor], _output: Tensor) -> Tensor:
    (x,) = args
    return module.weight * x / (x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon).sqrt()


def _attention(
    module: Any,
    q: Float[Tensor, "prompt head q_pos d_head"],
    k: Float[Tensor, "prompt kv_head k_pos d_head"],
    v: Float[Tensor, "prompt kv_head k_pos d_head"],
    _mask: Tensor | None,
    scaling: float,
    **_options: object,
) -> tuple[Float[Tensor, "prompt q_pos head d_head"], Float[Tensor, "prompt head q_pos k_pos"]]:
    """Causal attention, whatever mask the library hands over. Padding stands on the right, where nothing looks."""
    shared = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
    ahead = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(1)
    scores = module.scores_point((q @ k.mT * scaling).masked_fill(ahead, -torch.inf))
    pattern = module.pattern_point(scores.softmax(-1))
    return (pattern @ v).transpose(1, 2).contiguous(), pattern


AttentionInterface.register("unweave_oracle", _attention)
