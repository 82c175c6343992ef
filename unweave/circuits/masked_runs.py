"""Many ablated runs that differ little from one of them: only what differs is computed.

1. One ablated run, the base, is made of all prompts: the whole model, or the circuit. Its residual stream, keys and
   values are kept.
2. A variant is another mask. Of each prompt it is the base up to the first layer and the first position where the masks
   differ, so it joins a wavefront there, and reads the base's keys and values before. What differs only where nothing
   leads to the position that is read has exactly the base's score.
3. In flight, `z` is replaced by the variant's mask at each layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.circuits.ablation import Ablation
from unweave.engine.arrivals import Arrival
from unweave.engine.donor import GivenDonor
from unweave.engine.memory import Room, budget_bytes, is_out_of_memory, room_within
from unweave.engine.question import Question, question_of
from unweave.engine.reach import positions
from unweave.engine.recording import Recording, sites_to_keep
from unweave.engine.wavefront import Group, Wavefront, rows_of
from unweave.models.forward import forward, sight_of
from unweave.models.run import Recorder

Mask = Bool[Tensor, "layer prompt pos head"]


@dataclass(frozen=True)
class Joining:
    """Variants that join the wavefront at one layer, prompt and position."""

    layer: int
    prompt: int
    first: int
    variants: Int[Tensor, " run"]


class MaskedRuns:
    """Ablated runs around a base. `values[prompt]` are the base's scores."""

    def __init__(self, ablation: Ablation, base: Mask) -> None:
        self.ablation, self.base, self.question = (
            ablation,
            base,
            question_of(ablation.pair, "noise", GivenDonor(lambda *_: torch.empty(0))),
        )
        self.reach = self.question.reach(range(len(ablation.pair.prompts)))
        self.last, self.read = (torch.tensor(at, device=base.device) for at in (self.reach.last, self.reach.read))
        self.recording = _recorded(ablation, self.question, base)
        rows = torch.arange(len(self.read), device=base.device)
        stream = self.recording.stream(2 * self.question.config.n_layers)
        whole = ~self._counts(~base).flatten(2).any(2).any(0)
        scores = self.question.score(stream[rows, self.read], rows)
        # A run in which nothing is ablated is the model's own, to the bit.
        self.values: Float[Tensor, " prompt"] = torch.where(whole, ablation.pair.clean, scores)

    def scores(self, masks: Sequence[Mask]) -> Float[Tensor, "variant prompt"]:
        """The score of every prompt under each mask."""
        values = self.values.repeat(len(masks), 1)
        if not masks:
            return values
        with torch.no_grad():
            stack = torch.stack(list(masks))
            room, left = self._room(), self._joinings(stack)
            while left:
                wave, rest = self._filled(left, room.rows)
                try:
                    variant, prompt, stream = self._fly(wave, room, stack)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error) or room.rows <= self._longest:
                        raise
                    room = room.halved(self._longest)
                    continue
                values[variant, prompt] = self.question.score(stream, prompt)
                left = rest
        return values

    @property
    def _longest(self) -> int:
        return int(self.last.max()) + 1

    def _room(self) -> Room:
        budget = budget_bytes(None, self.values.device) // 2
        return room_within(self.question.config, budget, self.question.itemsize, self._longest)

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
            instead = self.ablation.values[layer][rows.prompt, span]
            z[rows.index] = torch.where(kept, rows.of(z), instead).flatten(0, 1)


def _recorded(ablation: Ablation, question: Question, base: Mask) -> Recording:
    """The base's run, with what the variants read of it."""
    config, weights = question.config, question.weights
    recorder = Recorder(config, sites_to_keep(config, ())[0])

    def tap(site: str, layer: int, value: Tensor) -> Tensor:
        if site == "z":
            value = torch.where(base[layer, ..., None], value, ablation.values[layer])
        return recorder(site, layer, value)

    tokens, lengths = question.recipient.tokens, question.recipient.lengths
    with torch.no_grad():
        forward(config, weights, tokens, tap, lengths)
    return Recording(config, weights, recorder.kept, {}, sight_of(config, weights, tokens, lengths))
