"""Reading and replacing the activations of a reference model with PyTorch hooks.

A site of a layer is the input or the output of one of the model's modules, seen in named axes:

- `resid_pre resid_post`: the block's input and output; `resid_mid`: the input of the second norm (serial blocks);
- `attn_out mlp_out`: the outputs of the attention and MLP modules; `mlp_pre`: the input of the activation function;
  `mlp_post`: the input of the MLP's last product;
- `q k v`: the outputs of the projections, before rotary positions, `[prompt, pos, head, d_head]`, with as many heads as
  there are of keys and values where these are grouped; `z`: the input of the output projection, in the same axes;
- `scores pattern`: `[prompt, head, q_pos, k_pos]`, the points that `tests.oracle.models.instrument` adds.

Hooks write into the tensor that passes by. For `resid_mid` this is needed: the block adds the MLP's output to the very
tensor that the second norm reads, and a replaced input of the norm would not reach that sum.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

SITES = (
    "resid_pre", "q", "k", "v", "scores", "pattern", "z", "attn_out", "resid_mid", "mlp_pre", "mlp_post",
    "mlp_out", "resid_post",
)  # fmt: skip

_MODULES = {
    "llama": {
        "blocks": "model.layers", "attn": "self_attn", "mlp": "mlp", "norm2": "post_attention_layernorm",
        "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
        "out": "self_attn.o_proj", "act": "mlp.act_fn", "down": "mlp.down_proj",
    },
    "gpt2": {
        "blocks": "transformer.h", "attn": "attn", "mlp": "mlp", "norm2": "ln_2",
        "q": "attn.c_attn", "k": "attn.c_attn", "v": "attn.c_attn", "out": "attn.c_proj",
        "act": "mlp.act", "down": "mlp.c_proj",
    },
    "gpt_neox": {
        "blocks": "gpt_neox.layers", "attn": "attention", "mlp": "mlp", "norm2": "post_attention_layernorm",
        "q": "attention.query_key_value", "k": "attention.query_key_value", "v": "attention.query_key_value",
        "out": "attention.dense", "act": "mlp.act", "down": "mlp.dense_4h_to_h",
    },
}  # fmt: skip

# How the output of the projections holds queries, keys and values: one module each, or one for all three.
_FUSED = {
    "gpt2": "prompt pos (qkv head d_head) -> qkv prompt pos head d_head",
    "gpt_neox": "prompt pos (head qkv d_head) -> qkv prompt pos head d_head",
}

Index = tuple[int | slice | Int[Tensor, " prompt"], ...]


@dataclass(frozen=True)
class Edit:
    """Replace `site[layer][index]` by `donor[index]`, where `donor` holds the whole site."""

    site: str
    layer: int
    index: Index
    donor: Tensor


@dataclass(frozen=True)
class Trace:
    """One forward pass: `logits [prompt, pos, d_vocab]` and the kept activations by (site, layer)."""

    logits: Float[Tensor, "prompt pos d_vocab"]
    sites: Mapping[tuple[str, int], Tensor] = field(default_factory=dict)


@torch.no_grad()
def run(
    hf: PreTrainedModel, tokens: Int[Tensor, "prompt pos"], edits: Iterable[Edit] = (), keep: Iterable[str] = ()
) -> Trace:
    """One whole forward pass with `edits`, keeping the sites `keep` of every layer, as edited."""
    kept: dict[tuple[str, int], Tensor] = {}
    with ExitStack() as hooks:
        for edit in edits:
            hooks.enter_context(_on_pass(hf, edit.site, edit.layer, lambda x, e=edit: _replace(x, e)))
        for site in keep:
            for layer in range(hf.config.num_hidden_layers):
                note = lambda x, key=(site, layer): kept.__setitem__(key, x.clone())  # noqa: E731
                hooks.enter_context(_on_pass(hf, site, layer, note))
        logits = hf(input_ids=tokens, use_cache=False).logits
    return Trace(logits, kept)


def has_site(hf: PreTrainedModel, site: str) -> bool:
    """Whether a model has the site: parallel blocks have no `resid_mid`."""
    return site != "resid_mid" or not getattr(hf.config, "use_parallel_residual", False)


def sites_of(hf: PreTrainedModel) -> tuple[str, ...]:
    return tuple(site for site in SITES if has_site(hf, site))


def n_heads(hf: PreTrainedModel, site: str) -> int:
    """Heads of a site; keys and values may have fewer than queries."""
    all_heads = hf.config.num_attention_heads
    return getattr(hf.config, "num_key_value_heads", all_heads) if site in ("k", "v") else all_heads


def block(hf: PreTrainedModel, layer: int) -> Any:
    return hf.get_submodule(f"{_MODULES[hf.config.model_type]['blocks']}.{layer}")


def part(hf: PreTrainedModel, name: str, layer: int) -> Any:
    """A block's module by what it does: `attn mlp norm2 q k v out act down`."""
    return block(hf, layer).get_submodule(_MODULES[hf.config.model_type][name])


def _replace(x: Tensor, edit: Edit) -> None:
    x[edit.index] = edit.donor[edit.index]


def _on_pass(hf: PreTrainedModel, site: str, layer: int, see: Callable[[Tensor], None]) -> RemovableHandle:
    """Call `see` with a view of the site, in its named axes, when the forward pass computes it."""
    match site:
        case "resid_pre":
            return _on_input(block(hf, layer), see)
        case "resid_post":
            return _on_output(block(hf, layer), see)
        case "resid_mid" if has_site(hf, site):
            return _on_input(part(hf, "norm2", layer), see)
        case "attn_out" | "mlp_out":
            return _on_output(part(hf, site.removesuffix("_out"), layer), see)
        case "mlp_pre":
            return _on_input(part(hf, "act", layer), see)
        case "mlp_post":
            return _on_input(part(hf, "down", layer), see)
        case "z":
            return _on_input(part(hf, "out", layer), lambda x: see(_by_head(hf, x)))
        case "q" | "k" | "v":
            return _on_output(part(hf, site, layer), lambda x: see(_projection(hf, site, x)))
        case "scores" | "pattern":
            return _on_output(part(hf, "attn", layer).get_submodule(f"{site}_point"), see)
    raise KeyError(site)


def _on_input(module: nn.Module, see: Callable[[Tensor], None]) -> RemovableHandle:
    return module.register_forward_pre_hook(lambda _module, args: see(args[0]))


def _on_output(module: nn.Module, see: Callable[[Tensor], None]) -> RemovableHandle:
    def hook(_module: nn.Module, _args: tuple, out: Any) -> None:
        see(out[0] if isinstance(out, tuple) else out)  # attention returns its pattern too

    return module.register_forward_hook(hook)


def _by_head(hf: PreTrainedModel, x: Float[Tensor, "prompt pos z"]) -> Float[Tensor, "prompt pos head d_head"]:
    return rearrange(x, "prompt pos (head d_head) -> prompt pos head d_head", head=hf.config.num_attention_heads)


def _projection(
    hf: PreTrainedModel, site: str, x: Float[Tensor, "prompt pos projected"]
) -> Float[Tensor, "prompt pos head d_head"]:
    fused = _FUSED.get(hf.config.model_type)
    if fused is None:
        return rearrange(x, "prompt pos (head d_head) -> prompt pos head d_head", head=n_heads(hf, site))
    queries, keys, values = rearrange(x, fused, qkv=3, head=n_heads(hf, site))
    return {"q": queries, "k": keys, "v": values}[site]
