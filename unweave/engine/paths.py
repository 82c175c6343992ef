"""Path patching: what a sender's change does on the way to chosen receivers, and nowhere else.

Wang et al. 2022 (arXiv 2211.00593), appendix B:

1. recipient and donor are run once (`record`);
2. the sender's change is carried down with every other head frozen, and the receivers' inputs are read
   (`FrozenPass`); a change that reaches no receiver has effect exactly 0;
3. the recipient is run again with these inputs in place of its own (`Wavefront` with overrides). To the logits there
   is no third step: the frozen pass ends there.

Senders are taken in portions that fit the memory budget.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.arrivals import Arrival, arrivals
from unweave.engine.frozen import FrozenPass
from unweave.engine.memory import Room, budget_bytes, recording_bytes, room_within
from unweave.engine.question import Question
from unweave.engine.reach import Reach, entry_stage, last_attention, positions
from unweave.engine.recording import Recording, record
from unweave.engine.sheet import Joint, Sheet
from unweave.engine.wavefront import Override, Wavefront
from unweave.models.config import Config
from unweave.models.run import Key
from unweave.progress import Progress


@dataclass(frozen=True)
class Receivers:
    """Columns of the fused queries, keys and values that receive, by layer, and layers whose MLP's input does.

    Where there are neither, the logits receive. `places[prompt]` is the one position where they receive; None stands
    for all.
    """

    columns: Mapping[int, Int[Tensor, " column"]] = field(default_factory=dict)
    mlps: tuple[int, ...] = ()
    places: Int[Tensor, " prompt"] | None = None

    @property
    def logits(self) -> bool:
        return not self.columns and not self.mlps

    def stages(self, config: Config) -> list[int]:
        """The stages where the receivers read, in order."""
        later = 1 if config.block == "serial" else 0
        return sorted({*(2 * layer for layer in self.columns), *(2 * layer + later for layer in self.mlps)})

    def wanted(self, prompt: int, reach: Reach, batch: Sequence[int]) -> Sequence[int]:
        """The positions of a prompt of the batch that lead to a receiver."""
        first, last = reach.first[prompt], reach.last[prompt]
        if self.logits:
            return [reach.read[prompt]] if first <= last else []
        at = range(first, last + 1)
        return at if self.places is None else [p for p in [int(self.places[batch[prompt]])] if p in at]


# What receivers read: for ("qkv" or "mlp", layer), the values of some rows and each row's variant, prompt and position.
Read = dict[tuple[str, int], tuple[Tensor, Tensor]]


@dataclass
class PathSweep:
    """Scores `values[variant, prompt]` of senders, NaN where not reached yet."""

    question: Question
    senders: Sequence[Sheet | Joint]
    receivers: Receivers
    live_mlps: bool = True
    memory: int | float | None = None
    progress: Progress | None = None
    values: Float[Tensor, "variant prompt"] = field(init=False)

    def __post_init__(self) -> None:
        shape = (sum(sender.size for sender in self.senders), len(self.question.recipient))
        self.values = torch.full(shape, float("nan"), dtype=self.question.baseline.dtype)

    def run(self) -> Float[Tensor, "variant prompt"]:
        """All scores. After an exception `values` holds what was finished."""
        with torch.no_grad():
            for batch in self._batches():
                self._run_batch(batch)
        return self.values

    def _sheets(self) -> list[Sheet]:
        return [sheet for sender in self.senders for sheet in members_of(sender)]

    def _kept(self) -> tuple[list[Key], list[Key]]:
        layers = range(self.question.config.n_layers)
        frozen = [("attn_out", layer) for layer in layers]
        if not self.live_mlps and self.question.config.d_mlp:
            frozen += [("mlp_out", layer) for layer in layers]
        frozen += [(sheet.site, sheet.layer) for sheet in held_by(self.senders)]
        inputs = [(site, layer) for layer in self.receivers.columns for site in ("q", "k", "v")]
        return list(dict.fromkeys((sheet.site, sheet.layer) for sheet in self._sheets())), frozen + inputs

    def _batches(self) -> list[range]:
        q = self.question
        patched, also = self._kept()
        one = recording_bytes(
            q.config, q.recipient.tokens.shape[1], len(patched) + len(also), q.baseline.element_size()
        )
        size = max(1, budget_bytes(self.memory, q.weights.w_e.device) // 2 // one)
        return [range(start, min(start + size, len(q.recipient))) for start in range(0, len(q.recipient), size)]

    def _run_batch(self, batch: range) -> None:
        q = self.question
        reach = q.reach(batch)
        recording = record(q.config, q.weights, q.recipient, q.donor, batch, *self._kept())
        for portion in self._portions(batch, reach):
            flown = self._carry(portion, batch, recording, reach)
            self._land(portion, flown, batch, recording, reach)
            if self.progress is not None:
                self.progress(float((~self.values.isnan()).sum()), float(self.values.numel()))

    def _portions(self, batch: range, reach: Reach) -> Iterator[list[Sheet | Joint]]:
        """Senders, with variants numbered by their place in `values`, as many at once as the budget holds."""
        rows_each = sum(len(self.receivers.wanted(n, reach, batch)) for n in range(len(batch)))
        room = max(1, self._room().rows // max(1, rows_each))
        portion: list[Sheet | Joint] = []
        for sender in self.senders:
            for part in pieces_of(sender.of(batch), room):
                if portion and sum(sheet.size for sheet in portion) + part.size > room:
                    yield portion
                    portion = []
                portion.append(part)
        if portion:
            yield portion

    def _room(self) -> Room:
        q = self.question
        budget = budget_bytes(self.memory, q.weights.w_e.device) // 2
        return room_within(q.config, budget, q.baseline.element_size(), q.recipient.tokens.shape[1])

    def _end(self) -> int:
        """The stage where the frozen pass ends: the last receivers', or the end."""
        config = self.question.config
        return 2 * config.n_layers if self.receivers.logits else self.receivers.stages(config)[-1]

    def _carry(
        self, portion: list[Sheet | Joint], batch: range, recording: Recording, reach: Reach
    ) -> tuple[FrozenPass, Read]:
        """The frozen pass over a portion: the pass, and what the receivers read on the way."""
        config, read = self.question.config, {}
        flown = FrozenPass(recording, self._room().chunk, self.live_mlps, held_by(portion))
        by_stage: dict[int, list[tuple[Sheet, bool]]] = {}
        for sender in portion:
            for sheet in members_of(sender):
                entry = entry_stage(config, sheet.site, sheet.layer)
                by_stage.setdefault(entry, []).append((sheet, isinstance(sender, Joint)))
        for stage in range(self._end() + 1):
            recording.forget()
            for sheet, meets in by_stage.get(stage, ()):
                for prompt in range(len(batch)):
                    wanted = self.receivers.wanted(prompt, reach, batch)
                    for arrival in arrivals(sheet, prompt, recording, reach):
                        flown.join(arrival, stage, wanted, meets)
            if stage in self.receivers.stages(config):
                read |= self._read(flown, stage)
            if stage < self._end():
                flown.advance(stage)
        return flown, read

    def _read(self, flown: FrozenPass, stage: int) -> Read:
        """What the receivers of one stage read of the rows in flight."""
        layer, read = stage // 2, {}
        if stage % 2 == 0 and layer in self.receivers.columns:
            columns = self.receivers.columns[layer].to(flown.x.device)
            read["qkv", layer] = flown.inputs(layer, columns), flown.landed()[0]
        parallel = self.question.config.block == "parallel"
        if layer in self.receivers.mlps and parallel == (stage % 2 == 0):
            place, stream = flown.landed()
            read["mlp", layer] = stream.clone(), place
        return read

    def _own(
        self, kind: str, layer: int, recording: Recording
    ) -> tuple[Float[Tensor, "prompt pos column"], Int[Tensor, " column"]]:
        """What the recipient's own receivers read, and which columns that is."""
        if kind == "mlp":
            stage = 2 * layer + (1 if self.question.config.block == "serial" else 0)
            own = recording.stream(stage)
            return own, torch.arange(own.shape[-1], device=own.device)
        columns = self.receivers.columns[layer].to(recording.stream(0).device)
        return fused(recording, layer)[..., columns], columns

    def _land(
        self,
        portion: list[Sheet | Joint],
        flown: tuple[FrozenPass, Read],
        batch: range,
        recording: Recording,
        reach: Reach,
    ) -> None:
        """Scores a portion. A variant with no row in flight reached no receiver."""
        q, (frozen, read) = self.question, flown
        numbers = torch.cat([torch.arange(sender.offset, sender.offset + sender.size) for sender in portion])
        where = torch.tensor(batch)
        self.values[numbers[:, None], where] = q.baseline.cpu()[where]
        if not self.receivers.logits:
            variant, prompt, stream = self._run_again(numbers, read, recording, reach)
        else:
            place, stream = frozen.landed()
            variant, prompt = place[:, 0], place[:, 1]
        if len(variant):
            at = where.to(prompt.device)[prompt]
            self.values[variant.cpu(), at.cpu()] = q.score(stream, at).cpu()

    def _run_again(
        self,
        numbers: Int[Tensor, " variant"],
        read: Read,
        recording: Recording,
        reach: Reach,
    ) -> tuple[Int[Tensor, " run"], Int[Tensor, " run"], Float[Tensor, "run d_model"]]:
        """The third step: the recipient's run with the receivers' inputs in place."""
        local = torch.full((int(numbers.max()) + 1,), -1)
        local[numbers] = torch.arange(len(numbers))
        start = self.receivers.stages(self.question.config)[0]
        edits: dict[str, dict[int, Override]] = {"qkv": {}, "mlp": {}}
        first: dict[tuple[int, int], int] = {}
        for (kind, layer), (inputs, place) in read.items():
            own, columns = self._own(kind, layer, recording)
            values = own.expand(len(numbers), *own.shape).clone()
            at = local.to(place.device)[place[:, 0]], place[:, 1], place[:, 2]
            values[at] = inputs
            edits[kind][layer] = Override(columns, values)
            for variant, prompt, pos in zip(*(part.tolist() for part in at), strict=True):
                if start <= last_attention(self.question.config) or pos == reach.read[prompt]:
                    first[variant, prompt] = min(first.get((variant, prompt), pos), pos)
        config = self.question.config
        n_rows = sum(len(positions(config, reach, prompt, pos, start)) for (_, prompt), pos in first.items())
        wave = Wavefront(recording, Room(n_rows, self._room().chunk), edits["qkv"], edits["mlp"])
        together: dict[tuple[int, int], list[int]] = {}
        for (variant, prompt), pos in first.items():
            together.setdefault((pos, prompt), []).append(variant)
        for (pos, prompt), variants in sorted(together.items()):
            nothing = wave.x.new_zeros(len(variants), 1, self.question.config.d_model)
            wave.join(Arrival(torch.tensor(variants), prompt, pos, nothing), start, reach)
        for stage in range(start, 2 * self.question.config.n_layers):
            recording.forget()
            wave.advance(stage)
        variant, prompt, stream = wave.landed()
        return numbers.to(variant.device)[variant], prompt, stream


def members_of(sender: Sheet | Joint) -> tuple[Sheet, ...]:
    """The sheets of a sender, numbered as the sender."""
    if isinstance(sender, Sheet):
        return (sender,)
    return tuple(replace(member, offset=sender.offset) for member in sender.members)


def held_by(senders: Sequence[Sheet | Joint]) -> list[Sheet]:
    """The MLPs that send beside others."""
    joint = [sender for sender in senders if isinstance(sender, Joint) and len(sender.members) > 1]
    return [sheet for sender in joint for sheet in members_of(sender) if sheet.site == "mlp_out"]


def pieces_of(sender: Sheet | Joint, room: int) -> Iterator[Sheet | Joint]:
    """A sheet of heads, cut into sheets of at most `room` variants; anything else as it is."""
    if isinstance(sender, Joint) or sender.parts is None or sender.size <= room:
        yield sender
        return
    for start in range(0, len(sender.parts), room):
        yield replace(sender, parts=sender.parts[start : start + room], offset=sender.offset + start)


def fused(recording: Recording, layer: int) -> Float[Tensor, "prompt pos qkv"]:
    """The recipient's queries, keys and values, in the order of the fused projection."""
    return torch.cat([recording.recipient[site, layer].flatten(-2) for site in ("q", "k", "v")], dim=-1)
