"""The logit lens and direct logit attribution of a reference model, from its own weights and recorded activations.

A residual stream x at the end of a prompt reads as the logit difference

    ((x - mean(x)) / scale * w + b) · (U[answer] - U[wrong])            LayerNorm; without mean and b for RMS norm

where `scale` is that of the whole run's final norm. It is linear in x apart from b, so the parts that add up to the
final residual stream have contributions that, with b's, add up to the logit difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from tests.oracle.hooks import Trace, part, run, sites_of
from tests.oracle.pairs import Pair
from tests.oracle.sweeps import at_role

_FINAL_NORM = {"llama": "model.norm", "gpt2": "transformer.ln_f", "gpt_neox": "gpt_neox.final_layer_norm"}


@dataclass(frozen=True)
class Reader:
    """Reads vectors of the residual stream, `[prompt, ..., d_model]`, as contributions to the logit difference."""

    centred: bool
    scale: Float[Tensor, " prompt"]
    direction: Float[Tensor, "prompt d_model"]
    bias: Float[Tensor, " prompt"]

    def __call__(self, x: Float[Tensor, "prompt *part d_model"]) -> Float[Tensor, "prompt *part"]:
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        read = einsum(x, self.direction, "prompt ... d_model, prompt d_model -> prompt ...")
        return read / self.scale.reshape(-1, *[1] * (read.ndim - 1))


@torch.no_grad()
def reader(hf: PreTrainedModel, pair: Pair, trace: Trace) -> Reader:
    """The final norm of the run at each prompt's end, and the answers' directions."""
    final_norm: Any = hf.get_submodule(_FINAL_NORM[hf.config.model_type])
    centred = isinstance(final_norm, nn.LayerNorm)
    x = at_role(trace.sites["resid_post", hf.config.num_hidden_layers - 1], pair)
    x = x - x.mean(-1, keepdim=True) if centred else x
    scale = (x.pow(2).mean(-1) + (final_norm.eps if centred else final_norm.variance_epsilon)).sqrt()
    unembed: Any = hf.get_output_embeddings()
    answers = unembed.weight[pair.answers] - unembed.weight[pair.wrong]
    bias = answers @ final_norm.bias if centred else torch.zeros_like(scale)
    return Reader(centred, scale, answers * final_norm.weight, bias)


def lens(hf: PreTrainedModel, pair: Pair) -> Mapping[str, Float[Tensor, " prompt"]]:
    """The residual stream of the clean run before, within and after each layer, read as the logit difference."""
    trace = run(hf, pair.clean, keep=[site for site in sites_of(hf) if site.startswith("resid")])
    read = reader(hf, pair, trace)
    stages = {"resid_pre": "{}_pre", "resid_mid": "{}_mid", "resid_post": "{}_post"}
    return {
        stages[site].format(layer): read(at_role(x, pair)) + read.bias
        for (site, layer), x in sorted(trace.sites.items(), key=lambda item: item[0][1])
    }


@torch.no_grad()
def by_component(hf: PreTrainedModel, pair: Pair) -> Mapping[str, Float[Tensor, " prompt"]]:
    """Contributions of the embeddings, of what each attention and each MLP write, and of the final norm's bias."""
    trace = run(hf, pair.clean, keep=("attn_out", "mlp_out", "resid_post"))
    read = reader(hf, pair, trace)
    embed: Any = hf.get_input_embeddings()
    parts = {"embed": read(embed.weight[at_role(pair.clean, pair)]), "bias": read.bias}
    if hf.config.model_type == "gpt2":
        parts["pos_embed"] = read(hf.get_submodule("transformer.wpe")(pair.roles["end"]))
    for layer in range(hf.config.num_hidden_layers):
        parts[f"{layer}_attn"] = read(at_role(trace.sites["attn_out", layer], pair))
        parts[f"{layer}_mlp"] = read(at_role(trace.sites["mlp_out", layer], pair))
    return parts


@torch.no_grad()
def by_head(hf: PreTrainedModel, pair: Pair) -> Float[Tensor, "prompt layer head"]:
    """Contributions of what each head writes, without the output projection's bias."""
    return _through(hf, pair, "z", "out")


@torch.no_grad()
def by_neuron(hf: PreTrainedModel, pair: Pair) -> Float[Tensor, "prompt layer neuron"]:
    """Contributions of what each neuron writes, without the MLP's last bias."""
    return _through(hf, pair, "mlp_post", "down")


def _through(hf: PreTrainedModel, pair: Pair, site: str, module: str) -> Float[Tensor, "prompt layer unit"]:
    """Each unit's own rows of the module's matrix, applied to its own activation."""
    trace = run(hf, pair.clean, keep=(site, "resid_post"))
    read, layers = reader(hf, pair, trace), []
    for layer in range(hf.config.num_hidden_layers):
        weight = part(hf, module, layer).weight
        weight = weight.mT if isinstance(part(hf, module, layer), nn.Linear) else weight  # [in, d_model]
        x = at_role(trace.sites[site, layer], pair)
        x = x if x.ndim == 3 else x[..., None]
        rows = weight.unflatten(0, x.shape[1:])
        written = einsum(x, rows, "prompt unit size, unit size d_model -> prompt unit d_model")
        layers.append(read(written))
    return torch.stack(layers, dim=1)
