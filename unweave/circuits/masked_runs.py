"""Many ablated runs that differ little from one of them: only what differs is computed.

1. One ablated run, the base, is made of a batch of prompts: the whole model, the circuit, or no head. Its residual
   stream, keys and values are kept.
2. A variant is another choice of what stays. Of each prompt it is the base up to the first layer and the first
   position where the masks differ, so it joins a wavefront there, and reads the base's keys and values before. What
   differs only where nothing leads to the position that is read has exactly the base's score.
3. In flight, `z` is replaced by the variant's mask at each layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.circuits.ablation import Ablation, Kept
from unweave.engine.arrivals import Arrival
from unweave.engine.donor import GivenDonor
from unweave.engine.memory import (
    Room,
    budget_bytes,
    is_out_of_memory,
    recording_bytes,
    room_within,
)
from unweave.engine.question import question_of
from unweave.engine.reach import positions
from unweave.engine.recording import Recording, sites_to_keep
from unweave.engine.wavefront import Group, Wavefront, rows_of
from unweave.models.forward import AttentionInputs, forward
from unweave.models.precision import without_autocast
from unweave.models.run import Recorder


@dataclass(frozen=True)
class Joining:
    """Variants that join the wavefront at one layer, prompt and position."""

    layer: int
    prompt: int
    first: int
    variants: Int[Tensor, " run"]


class MaskedRuns:
    """Ablated runs around a base. `values[prompt]` are the base's scores.

    Prompts are taken in batches that fit a sixth of `memory`: the circuit, the whole model and no head are three bases.
    A base of a single batch is recorded once, of several at every call.
    """

    @without_autocast
    def __init__(self, ablation: Ablation, base: Kept, memory: int | float | None = None) -> None:
        self.ablation, self.base = ablation, base
        config, (n_prompts, n_pos) = ablation.pair.model.config, ablation.pair.prompts.tokens.shape
        self.budget = budget_bytes(memory, ablation.pair.model.device)
        itemsize = ablation.pair.model.weights.w_e.element_size()
        values = n_pos * config.n_layers * config.n_heads * config.d_head * itemsize
        each = recording_bytes(config, n_pos, sites_to_keep(config, ())[0], itemsize) + values
        size = max(1, self.budget // 6 // each)
        self.batches = [range(start, min(start + size, n_prompts)) for start in range(0, n_prompts, size)]
        self._kept: MaskedBatch | None = None
        self.values: Float[Tensor, " prompt"] = torch.cat([self._batch(rows).values for rows in self.batches])

    @without_autocast
    def scores(self, kept: Sequence[Kept], of: Collection[int] | None = None) -> Float[Tensor, "variant prompt"]:
        """The score of every prompt with each choice of what stays; NaN for prompts that are not among `of`."""
        values = self.values.repeat(len(kept), 1)
        wanted = range(len(self.values)) if of is None else of
        values[:, [row for row in range(len(self.values)) if row not in wanted]] = float("nan")
        for rows in self.batches if kept else []:
            if any(row in wanted for row in rows):
                self._batch(rows).fill(values, kept, wanted)
        return values

    def _batch(self, rows: range) -> MaskedBatch:
        if self._kept is not None:
            return self._kept
        made = MaskedBatch(self.ablation, self.base, rows, self.budget)
        if len(self.batches) == 1:
            self._kept = made
        return made


class MaskedBatch:
    """The runs of one batch of prompts."""

    def __init__(self, ablation: Ablation, base: Kept, rows: range, budget: int) -> None:
        self.pair, self.rows, self.budget = ablation.pair, rows, budget
        self.base, self.instead = base.mask(ablation.pair, rows), ablation.values(rows)
        self.question = question_of(ablation.pair, "noise", GivenDonor(lambda _: {}))
        self.reach = self.question.reach(rows)
        device = self.base.device
        self.number = torch.tensor(rows, device=device)
        self.last, self.read = (torch.tensor(at, device=device) for at in (self.reach.last, self.reach.read))
        self.recording = self._recorded()
        stream = self.recording.stream(2 * self.question.config.n_layers)
        whole = ~self._counts(~self.base).flatten(2).any(2).any(0)
        scores = self.question.score(stream[torch.arange(len(rows), device=device), self.read], self.number)
        # A run in which nothing is ablated is the model's own, to the bit.
        self.values: Float[Tensor, " prompt"] = torch.where(whole, ablation.pair.clean[self.number], scores)

    def fill(
        self, values: Float[Tensor, "variant every_prompt"], kept: Sequence[Kept], wanted: Collection[int]
    ) -> None:
        """Puts the scores of the batch's prompts in their place, if they are not the base's."""
        size = max(1, self.budget // 8 // (4 * self.base.numel()))  # masks, and what they are compared by
        with torch.no_grad():
            for start in range(0, len(kept), size):
                masks = torch.stack([one.mask(self.pair, self.rows) for one in kept[start : start + size]])
                joinings = [one for one in self._joinings(masks) if self.rows[one.prompt] in wanted]
                for variant, prompt, score in self._flown(joinings, masks):
                    values[start + variant, self.number[prompt]] = score

    def _flown(
        self, left: list[Joining], masks: Bool[Tensor, "variant layer prompt pos head"]
    ) -> Iterator[tuple[Int[Tensor, " run"], Int[Tensor, " run"], Float[Tensor, " run"]]]:
        """Variant, prompt and score of all runs, wave by wave."""
        room = room_within(self.question.config, self.budget // 4, self.question.itemsize, self._longest)
        while left:
            wave, rest = self._filled(left, room.rows)
            try:
                variant, prompt, stream = self._fly(wave, room, masks)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or room.rows <= self._longest:
                    raise
                room = room.halved(self._longest)
                continue
            yield variant, prompt, self.question.score(stream, self.number[prompt])
            left = rest

    @property
    def _longest(self) -> int:
        return int(self.last.max()) + 1

    def _counts(
        self, differs: Bool[Tensor, "*variant layer prompt pos head"]
    ) -> Bool[Tensor, "*variant layer prompt pos"]:
        """Where a difference can matter: as far as reach goes, and in the last layer at the position that is read."""
        where = torch.arange(differs.shape[-2], device=differs.device)
        matters = differs.any(-1) & (where <= self.last[:, None])
        matters[..., -1, :, :] &= where == self.read[:, None]
        return matters

    def _joinings(self, masks: Bool[Tensor, "variant layer prompt pos head"]) -> list[Joining]:
        """Where each variant leaves the base, sorted by layer. Variants that never do are left out."""
        differs = self._counts(masks != self.base)
        in_layer, at_pos = differs.any(3), differs.any(1)
        variant, prompt = in_layer.any(1).nonzero(as_tuple=True)
        layer, first = in_layer.int().argmax(1)[variant, prompt], at_pos.int().argmax(2)[variant, prompt]
        found: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for number, *key in zip(variant.tolist(), layer.tolist(), prompt.tolist(), first.tolist(), strict=True):
            found[tuple(key)].append(number)
        return [Joining(*key, torch.tensor(numbers, device=masks.device)) for key, numbers in sorted(found.items())]

    def _filled(self, joinings: list[Joining], n_rows: int) -> tuple[list[Joining], list[Joining]]:
        """The first of them, as many runs as fit in `n_rows`, and those that are left."""
        wave: list[Joining] = []
        for number, one in enumerate(joinings):
            fit = n_rows // self._n_pos(one)
            if fit:
                wave.append(replace(one, variants=one.variants[:fit]))
                n_rows -= self._n_pos(one) * len(one.variants[:fit])
            if fit < len(one.variants):
                return wave, [replace(one, variants=one.variants[fit:]), *joinings[number + 1 :]]
        return wave, []

    def _n_pos(self, one: Joining) -> int:
        return len(positions(self.question.config, self.reach, one.prompt, one.first, 2 * one.layer))

    def _fly(
        self, wave: list[Joining], room: Room, masks: Bool[Tensor, "variant layer prompt pos head"]
    ) -> tuple[Int[Tensor, " run"], Int[Tensor, " run"], Float[Tensor, "run d_model"]]:
        """Takes a wave's runs down the network: variant, prompt, and the stream where the metric reads."""
        n_rows = sum(self._n_pos(one) * len(one.variants) for one in wave)

        def edit(layer: int, z: Tensor, groups: Collection[Group]) -> None:
            for group in groups:
                self._ablate(layer, z, group, masks)

        front = Wavefront(self.recording, replace(room, rows=n_rows), edit=edit)
        waiting = wave[::-1]
        for layer in range(waiting[-1].layer, self.question.config.n_layers):
            self.recording.forget()
            while waiting and waiting[-1].layer == layer:
                one = waiting.pop()
                unchanged = self.recording.stream(0).new_zeros(len(one.variants), 0, self.question.config.d_model)
                arrival = Arrival(one.variants, one.prompt, one.first, unchanged)
                front.join(arrival, 2 * layer, self.reach)
            front.advance(2 * layer)
            front.advance(2 * layer + 1)
        return front.landed()

    def _ablate(
        self, layer: int, z: Tensor, group: Group, masks: Bool[Tensor, "variant layer prompt pos head"]
    ) -> None:
        """Replaces `z` of a group's rows, in place, where their variant's mask does not keep it."""
        span = slice(group.first, group.last + 1)
        for rows in rows_of(group):
            kept = masks[rows.variant, layer, rows.prompt, span, :, None]
            instead = self.instead["z", layer][rows.prompt, span]
            z[rows.index] = torch.where(kept, rows.of(z), instead).flatten(0, 1)

    def _recorded(self) -> Recording:
        """The base's run, with what the variants read of it."""
        config, weights = self.question.config, self.question.weights
        recorder = Recorder(config, sites_to_keep(config, ())[0])

        def tap(site: str, layer: int, value: Tensor) -> Tensor:
            if site == "z":
                value = torch.where(self.base[layer, ..., None], value, self.instead["z", layer])
            return recorder(site, layer, value)

        tokens, lengths = self.question.recipient.tokens[self.number], self.question.recipient.lengths[self.number]
        with torch.no_grad():
            forward(config, weights, tokens, tap, lengths)
        return Recording(config, weights, recorder.kept, {}, AttentionInputs.of(config, weights, tokens, lengths))
