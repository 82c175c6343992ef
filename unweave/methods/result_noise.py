"""Heads whose output in the residual stream is replaced by Gaussian noise.

N(0, 1) in every dimension of `z` and N(0, 1) in every dimension of the stream are different knockouts. The second is
made in flight: `z` of the heads becomes zero, and the noise is added to what their layer's attention writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.engine.context import GivenDonor, MaskedDonor, PatchContext, context_of
from unweave.engine.executor import Batch, Portion, Runs, WorkItem
from unweave.engine.memory import recording_bytes, row_budget
from unweave.engine.recording import Recording, record, sites_to_keep
from unweave.engine.wavefront import EnteringRuns, Rows
from unweave.errors import InputError
from unweave.methods.replacement import gaussian
from unweave.metrics.contrast import Contrast
from unweave.models.forward import stage_read
from unweave.models.run import Key
from unweave.nodes import Node

# Of a variant, the heads that are replaced, by layer.
Replaced = dict[int, list[int]]


# By layer, the variants (counted from the first piece) whose heads there are replaced, and by what.
Noise = dict[int, tuple[Int[Tensor, " variant"], Float[Tensor, "variant prompt pos d"]]]


def noise_runs(
    pair: Contrast, chosen: Sequence[Sequence[Node]], seed: int, mask: Bool[Tensor, "prompt pos"] | None
) -> Runs:
    """A run for each set of nodes, whose heads are replaced at the positions of a mask; None for all.

    Raises:
        InputError: a node that is no head's result.
    """
    heads = [_heads(nodes) for nodes in chosen]
    where = torch.ones_like(pair.prompts.tokens, dtype=torch.bool) if mask is None else mask
    nothing = GivenDonor(lambda _: {})
    context = context_of(pair, "noise", MaskedDonor(nothing, context_of(pair, "noise").own, where))
    config, n_pos, itemsize = context.config, where.shape[1], context.itemsize
    # what the noise of a prompt and a layer holds, for one variant
    each = n_pos * config.d_model * itemsize

    def prepared(prompts: range, budget: int) -> Batch:
        at_once = max(1, budget // 4 // (len(prompts) * each * max(map(len, heads))))
        noise = NoiseBatch(context, heads, seed, where[list(prompts)], prompts)
        # the draws are larger than what is kept of them, so the first are made before there is a recording
        first = range(min(at_once, len(heads)))
        drawn = noise.drawn(first)
        recording = record(config, context.weights, context.own, context.donor, prompts, ())
        rows = row_budget(config, budget // 4, itemsize, n_pos)

        def portion(pieces: range) -> Portion:
            return noise.portion(pieces, drawn if pieces == first else noise.drawn(pieces), recording)

        return Batch(recording, context.spans(prompts), rows, portion, len(heads), at_once)

    one = recording_bytes(config, n_pos, sites_to_keep(config, ())[0], itemsize) + each
    return Runs(context, len(heads), 2 * one, prepared)


@dataclass(frozen=True)
class NoiseBatch:
    """The runs of a batch of prompts: of each variant the heads that are replaced where `mask` is true."""

    context: PatchContext
    heads: Sequence[Replaced]
    seed: int
    mask: Bool[Tensor, "prompt pos"]
    prompts: range

    def portion(self, pieces: range, noise: Noise, recording: Recording) -> Portion:
        config, edits = self.context.config, dict[Key, Callable[[Tensor, Rows], Tensor]]()
        for layer, (variants, added) in noise.items():
            heads = torch.zeros(len(pieces), config.n_heads, dtype=torch.bool, device=added.device)
            for number in variants.tolist():
                heads[number, self.heads[pieces[number]][layer]] = True
            edits["z", layer] = partial(self._silenced, heads, pieces.start)
            edits["attn_out", layer] = partial(self._noised, variants + pieces.start, added)
        items = []
        for variant, (prompt, span) in product(pieces, enumerate(self.context.spans(self.prompts))):
            layer, number = min(self.heads[variant]), torch.tensor([variant])
            run = EnteringRuns.unchanged(number, prompt, span.positions.start, recording.stream(0))
            # what the last layer writes elsewhere than where the metric reads cannot matter
            matters = span.positions and (layer < config.n_layers - 1 or bool(self.mask[prompt, span.read]))
            runs = [run] if matters else []
            items.append(WorkItem(stage_read(config, "attention", layer), prompt, number, lambda runs=runs: runs))
        return Portion(torch.tensor(pieces), items, edits)

    def drawn(self, pieces: range) -> Noise:
        """What is added in place of the heads' output."""
        found, like, config = {}, self.context.weights.w_e, self.context.config
        shape = (len(self.context.recipient), self.mask.shape[1], config.n_heads, config.d_model)
        for layer in sorted({layer for variant in pieces for layer in self.heads[variant]}):
            chosen = {n: self.heads[one][layer] for n, one in enumerate(pieces) if layer in self.heads[one]}
            drawn = gaussian(shape, self.seed, "attn_out", layer)[list(self.prompts)]
            wide = torch.promote_types(like.dtype, torch.float32)
            added = torch.stack([drawn[:, :, heads].to(wide).sum(2) for heads in chosen.values()])
            found[layer] = torch.tensor([*chosen], device=like.device), added.to(like.device)
        return found

    def _silenced(self, heads: Bool[Tensor, "variant head"], start: int, value: Tensor, rows: Rows) -> Tensor:
        known = (rows.variant - start).clamp(0, len(heads) - 1)
        there = heads[known] & self.mask[rows.prompt, rows.pos][..., None]
        return value.masked_fill(there[..., None], 0)

    def _noised(
        self, variants: Int[Tensor, " variant"], added: Float[Tensor, "variant prompt pos d"], value: Tensor, rows: Rows
    ) -> Tensor:
        number = torch.searchsorted(variants, rows.variant).clamp_max(len(variants) - 1)
        there = (variants[number] == rows.variant) & self.mask[rows.prompt, rows.pos]
        noisy = (value + added[number, rows.prompt, rows.pos]).to(value.dtype)
        return torch.where(there[..., None], noisy, value)


def _heads(nodes: Sequence[Node]) -> Replaced:
    by_layer: Replaced = {}
    for node in nodes:
        if node.site != "result" or node.part is None:
            raise InputError(f"heads: {str(node)!r} cannot be replaced together with 'result' by how='gaussian'")
        by_layer.setdefault(node.layer, []).append(node.part)
    return by_layer
