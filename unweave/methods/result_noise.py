"""Heads whose output in the residual stream is replaced by Gaussian noise.

N(0, 1) in every dimension of `z` and N(0, 1) in every dimension of the stream are different knockouts. The second is
made layer by layer: the run up to a layer, with the earlier layers' edits, gives what its attention writes; the heads'
part of it is taken off, and the noise added.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from unweave.engine.memory import budget_bytes, in_portions, recording_bytes
from unweave.engine.scores import Scores
from unweave.errors import InputError
from unweave.methods.replacement import gaussian
from unweave.metrics.contrast import Contrast, read_logits
from unweave.models.precision import widened, without_autocast
from unweave.models.run import Edit
from unweave.nodes import Node
from unweave.progress import Progress


@dataclass
class NoiseRuns:
    """Scores with the heads of each set of targets replaced, where `mask[prompt, pos]` is true (None: everywhere).

    `run` may be interrupted: `scores` then holds what was finished.
    """

    pair: Contrast
    chosen: Sequence[Sequence[Node]]
    seed: int
    mask: Tensor | None
    memory: int | float | None = None
    progress: Progress | None = None
    scores: Scores = field(init=False)

    def __post_init__(self) -> None:
        self.scores = Scores(len(self.chosen), self.pair.clean, self.progress)

    @without_autocast
    def run(self) -> Float[Tensor, "variant prompt"]:
        """All scores."""
        config, (n_prompts, n_pos) = self.pair.model.config, self.pair.prompts.tokens.shape
        itemsize = self.pair.model.dtype.itemsize
        kept = [("attn_out", layer) for layer in range(config.n_layers)]
        one = recording_bytes(config, n_pos, kept, itemsize) + 3 * n_pos * config.n_heads * config.d_model * itemsize
        size = budget_bytes(self.memory, self.pair.model.device) // one
        for number, targets in enumerate(self.chosen):
            in_portions(n_prompts, size, partial(self._score, number, targets))
        return self.scores.values

    def _score(self, number: int, targets: Sequence[Node], rows: range) -> None:
        pair, prompts = self.pair, self.pair.prompts.take(rows)
        run = pair.model.run(prompts, edits=noise_edits(pair, targets, self.seed, self.mask, rows))
        reference = None if pair.reference is None else pair.reference[list(rows)]
        found = pair.metric.score(read_logits(run, pair.metric, prompts), prompts, reference)
        self.scores.put(torch.full((len(rows),), number), torch.tensor(rows), found)
        self.scores.report()


def noise_edits(pair: Contrast, targets: Iterable[Node], seed: int, mask: Tensor | None, rows: range) -> list[Edit]:
    """For the prompts `rows`, one edit of `attn_out` for each layer in which heads are replaced."""
    by_layer: dict[int, list[int]] = {}
    for node in targets:
        if node.site != "result" or node.part is None:
            raise InputError(f"heads: {str(node)!r} cannot be replaced together with 'result' by how='gaussian'")
        by_layer.setdefault(node.layer, []).append(node.part)
    edits: list[Edit] = []
    for layer, heads in sorted(by_layer.items()):
        edits.append(Edit("attn_out", layer, _with_noise(pair, layer, heads, seed, mask, rows, edits)))
    return edits


def _with_noise(
    pair: Contrast, layer: int, heads: list[int], seed: int, mask: Tensor | None, rows: range, edits: Sequence[Edit]
) -> Float[Tensor, "prompt pos d_model"]:
    """What a layer's attention writes, with some heads' part replaced by noise."""
    config, at = pair.model.config, list(rows)
    run = pair.model.run(pair.prompts.take(at), keep=[("z", layer), ("attn_out", layer)], edits=edits)
    w_o = rearrange(pair.model.weights.layers[layer].w_o, "d (head e) -> head e d", e=config.d_head)
    own = einsum(run["z", layer][:, :, heads], w_o[heads], "prompt pos head e, head e d -> prompt pos d")
    shape = (*pair.prompts.tokens.shape, config.n_heads, config.d_model)
    noise = gaussian(shape, seed, "attn_out", layer)[at].to(widened(own))[:, :, heads].sum(2)
    change = noise - own
    return run["attn_out", layer] + (change if mask is None else change * mask[at, :, None])
