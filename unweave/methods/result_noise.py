"""Heads whose output in the residual stream is replaced by Gaussian noise.

N(0, 1) in every dimension of `z` and N(0, 1) in every dimension of the stream are different knockouts. The second is
made in flight: `z` of the heads becomes zero, and the noise is added to what their layer's attention writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.engine.context import AffectedSpan, PatchContext, context_of
from unweave.engine.donors import GivenDonor, MaskedDonor
from unweave.engine.entering import EnteringRuns
from unweave.engine.executor import Portion, WorkItem
from unweave.engine.memory import RowBudget, recording_bytes, row_budget
from unweave.engine.recording import Recording, record, sites_to_keep
from unweave.engine.wavefront import Rows
from unweave.errors import InputError
from unweave.methods.replacement import gaussian
from unweave.metrics.contrast import Contrast
from unweave.models.forward import stage_read
from unweave.models.run import Key
from unweave.nodes import Node

# Of a variant, the heads that are replaced, by layer.
Replaced = dict[int, list[int]]


@dataclass(frozen=True)
class NoiseRuns:
    """A run for each set of heads, which are replaced where `mask[prompt, pos]` is true."""

    context: PatchContext
    heads: Sequence[Replaced]
    seed: int
    mask: Bool[Tensor, "prompt pos"]

    @property
    def n_variants(self) -> int:
        return len(self.heads)

    def prompts_at_once(self, budget: int) -> int:
        config, n_pos = self.context.config, self.mask.shape[1]
        kept = sites_to_keep(config, ())[0]
        return budget // 2 // (recording_bytes(config, n_pos, kept, self.context.itemsize) + self.noise_bytes)

    @property
    def noise_bytes(self) -> int:
        """What the noise of a prompt and a layer holds, for one variant."""
        return self.mask.shape[1] * self.context.config.d_model * self.context.itemsize

    def prepared(self, prompts: range, budget: int) -> NoiseBatch:
        most = budget // 4 // (len(prompts) * self.noise_bytes * max(map(len, self.heads)))
        return NoiseBatch(self, prompts, budget, max(1, most))


class NoiseBatch:
    """The runs of a batch of prompts, a piece for each variant."""

    def __init__(self, runs: NoiseRuns, prompts: range, budget: int, at_once: int) -> None:
        self.runs, self.prompts, self.at_once = runs, prompts, at_once
        self.n_pieces = runs.n_variants
        context = runs.context
        self.spans: Sequence[AffectedSpan] = context.spans(prompts)
        self.mask = runs.mask[list(prompts)]
        self._at_read = self.mask[range(len(prompts)), [span.read for span in self.spans]].tolist()
        self.rows: RowBudget = row_budget(context.config, budget // 4, context.itemsize, runs.mask.shape[1])
        # the draws are larger than what is kept of them, so the first are made before there is a recording
        self._first = self._noise(range(min(at_once, self.n_pieces)))
        self.recording: Recording = record(context.config, context.weights, context.own, context.donor, prompts, ())

    def portion(self, pieces: range) -> Portion:
        noise = self._first if pieces == range(min(self.at_once, self.n_pieces)) else self._noise(pieces)
        edits: dict[Key, Callable[[Tensor, Rows], Tensor]] = {}
        for layer, (variants, added) in noise.items():
            heads = torch.zeros(len(pieces), self.runs.context.config.n_heads, dtype=torch.bool, device=added.device)
            for number in variants.tolist():
                heads[number, self.runs.heads[pieces[number]][layer]] = True
            edits["z", layer] = partial(self._silenced, heads, pieces.start)
            edits["attn_out", layer] = partial(self._noised, variants + pieces.start, added)
        items = [self._item(variant, prompt) for variant in pieces for prompt in range(len(self.prompts))]
        return Portion(torch.tensor(pieces), items, edits)

    def _item(self, variant: int, prompt: int) -> WorkItem:
        config, span, layer = self.runs.context.config, self.spans[prompt], min(self.runs.heads[variant])
        number = torch.tensor([variant])
        run = EnteringRuns.unchanged(number, prompt, span.positions.start, self.recording.stream(0))
        # what the last layer writes elsewhere than where the metric reads cannot matter
        matters = span.positions and (layer < config.n_layers - 1 or self._at_read[prompt])
        return WorkItem(stage_read(config, "attention", layer), prompt, number, lambda: [run] if matters else [])

    def _noise(self, pieces: range) -> dict[int, tuple[Int[Tensor, " variant"], Float[Tensor, "variant prompt pos d"]]]:
        """By layer, the variants (counted from the first piece) whose heads there are replaced, and by what."""
        context, found = self.runs.context, {}
        like = context.weights.w_e
        for layer in sorted({layer for variant in pieces for layer in self.runs.heads[variant]}):
            chosen = {
                n: self.runs.heads[variant][layer]
                for n, variant in enumerate(pieces)
                if layer in self.runs.heads[variant]
            }
            shape = (*self.runs.mask.shape, context.config.n_heads, context.config.d_model)
            drawn = gaussian(shape, self.runs.seed, "attn_out", layer)
            drawn = drawn[list(self.prompts)]
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


def noise_runs(
    pair: Contrast, chosen: Sequence[Sequence[Node]], seed: int, mask: Bool[Tensor, "prompt pos"] | None
) -> NoiseRuns:
    """The runs of each set of nodes. Raises InputError for one that is no head's result."""
    where = torch.ones_like(pair.prompts.tokens, dtype=torch.bool) if mask is None else mask
    nothing = GivenDonor(lambda _: {})
    context = context_of(pair, "noise", MaskedDonor(nothing, context_of(pair, "noise").own, where))
    return NoiseRuns(context, [_heads(targets) for targets in chosen], seed, where)


def _heads(nodes: Sequence[Node]) -> Replaced:
    by_layer: Replaced = {}
    for node in nodes:
        if node.site != "result" or node.part is None:
            raise InputError(f"heads: {str(node)!r} cannot be replaced together with 'result' by how='gaussian'")
        by_layer.setdefault(node.layer, []).append(node.part)
    return by_layer
