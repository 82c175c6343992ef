"""Tiny models of the reference library, and their logits in the dtype that a model is given in.

The library's RMS norm falls back to float32 whatever the dtype of the model. `reference_logits` lifts that cast, so
that a float64 model computes in float64. Attention is `sdpa`: the other implementation casts its softmax likewise.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm

N_VOCAB, N_CONTEXT = 23, 32
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def llama(**options: Any) -> LlamaConfig:
    small = {
        "vocab_size": N_VOCAB,
        "hidden_size": 20,
        "intermediate_size": 18,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "max_position_embeddings": N_CONTEXT,
    }
    return LlamaConfig(**{**small, **NO_TOKENS, **options})


def gpt2(**options: Any) -> GPT2Config:
    small = {"vocab_size": N_VOCAB, "n_embd": 20, "n_layer": 3, "n_head": 4, "n_positions": N_CONTEXT}
    return GPT2Config(**{**small, **NO_TOKENS, **options})


def neox(**options: Any) -> GPTNeoXConfig:
    small = {
        "vocab_size": N_VOCAB,
        "hidden_size": 24,
        "intermediate_size": 18,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": N_CONTEXT,
    }
    return GPTNeoXConfig(**{**small, **NO_TOKENS, **options})


def random_model(config: PreTrainedConfig, dtype: torch.dtype = torch.float64, seed: int = 0) -> PreTrainedModel:
    """A model whose every parameter is random and matters: norms and biases too, which start as ones and zeros."""
    hf = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(torch.float64).eval()
    generator = torch.Generator().manual_seed(seed)
    norms = {id(module.weight) for module in hf.modules() if isinstance(module, nn.LayerNorm | LlamaRMSNorm)}
    with torch.no_grad():
        for parameter in hf.parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(1 + noise if id(parameter) in norms else noise)
    return hf.to(dtype)


def reference_logits(hf: PreTrainedModel, tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt pos d_vocab"]:
    """Logits of the library's model, without its casts to float32."""
    norms = [module for module in hf.modules() if isinstance(module, LlamaRMSNorm)]
    handles = [module.register_forward_hook(_uncast) for module in norms] if hf.dtype == torch.float64 else []
    try:
        with torch.no_grad():
            return hf(tokens).logits
    finally:
        for handle in handles:
            handle.remove()


def _uncast(module: LlamaRMSNorm, args: tuple[Tensor], _output: Tensor) -> Tensor:
    (x,) = args
    return module.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon))
