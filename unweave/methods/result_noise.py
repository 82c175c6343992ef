"""Heads whose output in the residual stream is replaced by Gaussian noise.

N(0, 1) in every dimension of `z` and N(0, 1) in every dimension of the stream are different knockouts. The second is
made layer by layer: the run up to a layer, with the earlier layers' edits, gives what its attention writes; the heads'
part of it is taken off, and the noise added.
"""

from collections.abc import Iterable, Sequence

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from unweave.errors import InputError
from unweave.methods.knockout_targets import Target
from unweave.methods.replacement import gaussian
from unweave.metrics.contrast import Contrast, read_logits
from unweave.models.precision import widened, without_autocast
from unweave.models.run import Edit


@without_autocast
def noise_scores(
    pair: Contrast, chosen: Sequence[Sequence[Target]], seed: int, mask: Tensor | None
) -> Float[Tensor, "variant prompt"]:
    """Scores with the heads of each set of targets replaced, where `mask[prompt, pos]` is true (None: everywhere)."""
    scores = []
    for targets in chosen:
        run = pair.model.run(pair.prompts, edits=noise_edits(pair, targets, seed, mask))
        scores.append(pair.metric.score(read_logits(run, pair.metric, pair.prompts), pair.prompts, pair.reference))
    return torch.stack(scores)


def noise_edits(pair: Contrast, targets: Iterable[Target], seed: int, mask: Tensor | None) -> list[Edit]:
    """One edit of `attn_out` for each layer in which heads are replaced."""
    by_layer: dict[int, list[int]] = {}
    for target in targets:
        (address,) = target.addresses
        if not target.name.startswith("result ") or address.part is None:
            raise InputError(f"heads: {target.name!r} cannot be replaced together with 'result' by how='gaussian'")
        by_layer.setdefault(address.layer, []).append(address.part)
    edits: list[Edit] = []
    for layer, heads in sorted(by_layer.items()):
        edits.append(Edit("attn_out", layer, _with_noise(pair, layer, heads, seed, mask, edits)))
    return edits


def _with_noise(
    pair: Contrast, layer: int, heads: list[int], seed: int, mask: Tensor | None, edits: Sequence[Edit]
) -> Float[Tensor, "prompt pos d_model"]:
    """What a layer's attention writes, with some heads' part replaced by noise."""
    config = pair.model.config
    run = pair.model.run(pair.prompts, keep=[("z", layer), ("attn_out", layer)], edits=edits)
    w_o = rearrange(pair.model.weights.layers[layer].w_o, "d (head e) -> head e d", e=config.d_head)
    own = einsum(run["z", layer][:, :, heads], w_o[heads], "prompt pos head e, head e d -> prompt pos d")
    shape = (*pair.prompts.tokens.shape, config.n_heads, config.d_model)
    noise = gaussian(shape, seed, "attn_out", layer).to(widened(own))[:, :, heads].sum(2)
    change = noise - own
    return run["attn_out", layer] + (change if mask is None else change * mask[:, :, None])
