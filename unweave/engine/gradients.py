"""Gradients of the metric, at named activations and at what each receiver of an edge reads.

1. A run of some prompts is made with its activations kept for gradients, and scored. Prompts do not act on each other,
   so one backward pass of the summed scores gives each prompt its own gradients.
2. The gradient at a receiver's input is that at its output, taken back through the receiver and its norm: each reads a
   copy of the stream of its own.

A metric that has no gradient (a share right, a rank) is refused.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.engine.context import PatchContext
from unweave.engine.edge_graph import INPUTS, EdgeGraph
from unweave.engine.memory import forward_bytes
from unweave.errors import InputError
from unweave.models.forward import forward, mlp, norm, stage_read, stream_site
from unweave.models.precision import without_autocast
from unweave.models.run import Key


@dataclass(frozen=True)
class Gradients:
    """Activations of some prompts, and the gradients of their scores by site and layer, in the sites' own shapes."""

    values: dict[Key, Tensor]
    slopes: dict[Key, Tensor]


@without_autocast
def gradients(
    context: PatchContext,
    prompts: Sequence[int],
    keys: Iterable[Key],
    given: dict[Key, Tensor] | None = None,
) -> Gradients:
    """The gradients at some sites of the recipient's run, with the values `given` at some of them.

    Raises:
        InputError: the metric has no gradient.
    """
    config, weights, side, given = context.config, context.weights, context.recipient, given or {}
    wanted = dict.fromkeys(key for key in keys if key == ("embed", -1) or key not in given)
    last = ("resid_post", config.n_layers - 1)
    number = torch.tensor(list(prompts), device=weights.w_e.device)
    kept: dict[Key, Tensor] = {}

    def tap(site: str, layer: int, value: Tensor) -> Tensor:
        key = (site, layer)
        value = given.get(key, value)
        if site == "embed":
            value = value.detach().requires_grad_()
        if key in wanted or key == last:
            kept[key] = value
        return value

    with torch.enable_grad():
        forward(config, weights, side.tokens[number], tap, side.lengths[number])
        read = context.prompts.role(context.metric.role).to(number.device)[number]
        scores = context.score(kept[last][torch.arange(len(number), device=number.device), read], number)
        if not scores.requires_grad:
            raise InputError(
                f"metric {context.metric.name!r} has no gradient; use one that has, such as uw.LogitDiff(), or "
                "how='exact', which needs none"
            )
        found = torch.autograd.grad(scores.sum(), [kept[key] for key in wanted], allow_unused=True)
    # What is given does not depend on what came before it, and some sites do not act on the score.
    slopes = {key: torch.zeros_like(value) for key, value in given.items()}
    for key, slope in zip(wanted, found, strict=True):
        slopes[key] = torch.zeros_like(kept[key]) if slope is None else slope
    return Gradients({key: kept[key].detach() for key in wanted}, slopes)


def gradient_bytes(context: PatchContext) -> int:
    """What one prompt's run holds for its backward pass."""
    config = context.config
    return 2 * (config.n_layers + 1) * forward_bytes(config, context.recipient.tokens.shape[1], context.itemsize)


def keys_at_outputs(graph: EdgeGraph) -> list[Key]:
    """The sites whose gradients `at_inputs` reads: what receivers compute, and the streams that they read."""
    config = graph.config
    keys = [(site, layer) for layer in range(config.n_layers) for site in INPUTS]
    keys += [("mlp_out", layer) for layer in range(config.n_layers)] if config.d_mlp else []
    streams = [stream_site(config, graph.read(receiver)) for receiver in graph.receivers]
    return list(dict.fromkeys([*keys, *streams]))


def at_inputs(
    context: PatchContext, graph: EdgeGraph, found: Gradients
) -> Float[Tensor, "prompt receiver pos d_model"]:
    """The gradient of each prompt's score by what each receiver reads, in the order of the graph."""
    config, weights, slopes = graph.config, context.weights, []
    for layer, block in enumerate(weights.layers):
        stream = found.values[stream_site(config, stage_read(config, "attention", layer))]
        fused = torch.cat([found.slopes[site, layer] for site in INPUTS], dim=2).transpose(1, 2)
        by_part = block.w_qkv.unflatten(0, (-1, config.d_head))
        normed = torch.einsum("n r p e, r e d -> n r p d", fused, by_part)
        slopes.append(_before_norm(context, layer, stream, normed))
        if config.d_mlp:
            stream = found.values[stream_site(config, stage_read(config, "mlp", layer))]
            with torch.enable_grad():
                read = stream.clone().requires_grad_()
                out = mlp(config, block, read)
                (slope,) = torch.autograd.grad(out, read, found.slopes["mlp_out", layer])
            slopes.append(slope[:, None])
    last = found.slopes[stream_site(config, 2 * config.n_layers)]
    return torch.cat([*slopes, last[:, None]], dim=1)


def _before_norm(
    context: PatchContext,
    layer: int,
    stream: Float[Tensor, "prompt pos d_model"],
    slopes: Float[Tensor, "prompt receiver pos d_model"],
) -> Float[Tensor, "prompt receiver pos d_model"]:
    """Gradients after a layer's first norm, taken back through it, for each receiver by itself."""
    with torch.enable_grad():
        read = stream[:, None].expand_as(slopes).clone().requires_grad_()
        out = norm(context.config, context.weights.layers[layer].norm1, read)
        if out is read:
            return slopes
        (slope,) = torch.autograd.grad(out, read, slopes)
    return slope
