"""Path patching: what a sender's change does on the way to chosen receivers, and nowhere else.

Wang et al. 2022 (arXiv 2211.00593), appendix B:

1. recipient and donor are run once (`record`);
2. the sender's change is carried down with every other head frozen, and the receivers' inputs are read
   (`FrozenPass`); a change that reaches no receiver has effect exactly 0. Receiving heads are frozen too, or live, and
   then act on later receivers;
3. the recipient is run again with these inputs in place of its own (`Wavefront` with overrides). To the logits there
   is no third step: the frozen pass ends there.

Senders are taken in portions that fit the memory budget.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.arrivals import Arrival, arrivals
from unweave.engine.frozen import FrozenPass
from unweave.engine.live_heads import LiveHeads
from unweave.engine.memory import Room, budget_bytes, recording_bytes, room_within
from unweave.engine.question import Question
from unweave.engine.reach import Reach, entry_stage, last_attention, positions
from unweave.engine.receivers import Receivers
from unweave.engine.recording import Recording, record
from unweave.engine.sheet import Joint, Sheet
from unweave.engine.wavefront import Override, Wavefront
from unweave.models.precision import without_autocast
from unweave.models.run import Key
from unweave.progress import Progress

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

    @without_autocast
    def run(self) -> Float[Tensor, "variant prompt"]:
        """All scores. After an exception `values` holds what was finished."""
        with torch.no_grad():
            for batch in self._batches():
                self._run_batch(batch)
        return self.values

    def _sheets(self) -> list[Sheet]:
        return [sheet for sender in self.senders for sheet in members_of(sender)]

    def _kept(self) -> tuple[Sequence[Key], Sequence[Key]]:
        layers = range(self.question.config.n_layers)
        frozen = [("attn_out", layer) for layer in layers]
        if not self.live_mlps and self.question.config.d_mlp:
            frozen += [("mlp_out", layer) for layer in layers]
        frozen += [(sheet.site, sheet.layer) for sheet in held_by(self.senders)]
        inputs = [(site, layer) for layer in self.receivers.columns for site in ("q", "k", "v")]
        inputs += [("z", layer) for layer in self.receivers.acting(self.question.config)]
        return list(dict.fromkeys((sheet.site, sheet.layer) for sheet in self._sheets())), frozen + inputs

    def _batches(self) -> list[range]:
        q = self.question
        patched, also = self._kept()
        one = recording_bytes(q.config, q.recipient.tokens.shape[1], len(patched) + len(also), q.itemsize)
        size = max(1, budget_bytes(self.memory, q.weights.w_e.device) // 2 // one)
        return [range(start, min(start + size, len(q.recipient))) for start in range(0, len(q.recipient), size)]

    def _run_batch(self, batch: range) -> None:
        q = self.question
        reach = q.reach(batch)
        recording = record(q.config, q.weights, q.own, q.donor, batch, *self._kept())
        for portion in self._portions(batch, reach):
            flown = self._carry(portion, batch, recording, reach)
            self._land(portion, flown, batch, recording, reach)
            if self.progress is not None:
                self.progress(float((~self.values.isnan()).sum()), float(self.values.numel()))

    def _portions(self, batch: range, reach: Reach) -> Iterator[list[Sheet | Joint]]:
        """Senders, with variants numbered by their place in `values`, as many at once as the budget holds."""
        rows_each = sum(len(self.receivers.wanted(self.question.config, n, reach, batch)) for n in range(len(batch)))
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
        return room_within(q.config, budget, q.itemsize, q.recipient.tokens.shape[1])

    def _end(self) -> int:
        """The stage where the frozen pass ends: the last receivers', or the end."""
        config = self.question.config
        return 2 * config.n_layers if self.receivers.logits else self.receivers.stages(config)[-1]

    def _carry(
        self, portion: list[Sheet | Joint], batch: range, recording: Recording, reach: Reach
    ) -> tuple[FrozenPass, Read]:
        """The frozen pass over a portion: the pass, and what the receivers read on the way."""
        config, receivers, read = self.question.config, self.receivers, {}
        live = {layer: LiveHeads.reading(config, layer, receivers.columns[layer]) for layer in receivers.acting(config)}
        flown = FrozenPass(recording, self._room().chunk, self.live_mlps, held_by(portion), live)
        wanted = [receivers.wanted(config, prompt, reach, batch) for prompt in range(len(batch))]
        by_stage: dict[int, list[tuple[Sheet, bool]]] = {}
        for sender in portion:
            for sheet in members_of(sender):
                entry = entry_stage(config, sheet.site, sheet.layer)
                by_stage.setdefault(entry, []).append((sheet, isinstance(sender, Joint)))
        for stage in range(self._end() + 1):
            recording.forget()
            # behind the last attention `arrivals` itself leaves out what cannot matter, by the whole reach
            needed = reach if stage > last_attention(config) else leading(wanted)
            for (sheet, meets), prompt in product(by_stage.get(stage, ()), range(len(batch))):
                for arrival in arrivals(sheet, prompt, recording, needed):
                    # a live head takes the change on to all later positions, or to all where it sees both ways
                    later = bool(live) and config.causal
                    at = [pos for pos in wanted[prompt] if pos >= arrival.first] if later else wanted[prompt]
                    flown.join(arrival, stage, at, meets or bool(live))
            if stage in receivers.stages(config):
                read |= self._read(flown, stage, batch)
            if stage < self._end():
                flown.advance(stage)
        return flown, read

    def _read(self, flown: FrozenPass, stage: int, batch: range) -> Read:
        """What the receivers of one stage read of the rows in flight, where they receive."""
        layer, read = stage // 2, {}
        place, stream = flown.landed()
        if self.receivers.places is None:
            at = slice(None)
        else:
            at = self.receivers.places[list(batch)].to(place.device)[place[:, 1]] == place[:, 2]
        if stage % 2 == 0 and layer in self.receivers.columns:
            columns = self.receivers.columns[layer].to(stream.device)
            read["qkv", layer] = flown.inputs(layer, columns)[at], place[at]
        parallel = self.question.config.block == "parallel"
        if layer in self.receivers.mlps and parallel == (stage % 2 == 0):
            read["mlp", layer] = stream[at].clone(), place[at]
        return read

    def _own(
        self, kind: str, layer: int, recording: Recording
    ) -> tuple[Float[Tensor, "prompt pos column"], Int[Tensor, " column"]]:
        """What the recipient's own receivers read, and which columns that is."""
        if kind == "mlp":
            own = recording.stream(self._stage(kind, layer))
            return own, torch.arange(own.shape[-1], device=own.device)
        columns = self.receivers.columns[layer].to(recording.stream(0).device)
        return recording.fused(layer)[..., columns], columns

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
            variant, prompt, stream = self._run_again(numbers, read, batch, recording, reach)
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
        batch: range,
        recording: Recording,
        reach: Reach,
    ) -> tuple[Int[Tensor, " run"], Int[Tensor, " run"], Float[Tensor, "run d_model"]]:
        """The third step: the recipient's run with the receivers' inputs in place.

        A run joins where the first of its receivers reads: before that it is the recipient's.
        """
        config = self.question.config
        edits, begins = self._received(numbers, read, batch, recording, reach)
        joining: dict[int, dict[tuple[int, int], list[int]]] = {}
        for (variant, prompt), (stage, pos) in begins.items():
            joining.setdefault(stage, {}).setdefault((pos, prompt), []).append(variant)
        n_rows = sum(len(positions(config, reach, prompt, pos, stage)) for (_, prompt), (stage, pos) in begins.items())
        wave = Wavefront(recording, Room(n_rows, self._room().chunk), edits["qkv"], edits["mlp"])
        for stage in range(min(joining, default=2 * config.n_layers), 2 * config.n_layers):
            recording.forget()
            for (pos, prompt), variants in sorted(joining.get(stage, {}).items()):
                nothing = wave.x.new_zeros(len(variants), 1, config.d_model)
                wave.join(Arrival(torch.tensor(variants), prompt, pos, nothing), stage, reach)
            wave.advance(stage)
        variant, prompt, stream = wave.landed()
        return numbers.to(variant.device)[variant], prompt, stream

    def _received(
        self, numbers: Int[Tensor, " variant"], read: Read, batch: range, recording: Recording, reach: Reach
    ) -> tuple[dict[str, dict[int, Override]], dict[tuple[int, int], tuple[int, int]]]:
        """What was read, as overrides by layer; and of each variant and prompt, the stage and position where it begins.

        Variants are numbered by their place in `numbers`.
        """
        places = self.receivers.places
        places = None if places is None else places[list(batch)].to(recording.stream(0).device)
        local = torch.full((int(numbers.max()) + 1,), -1)
        local[numbers] = torch.arange(len(numbers))
        edits: dict[str, dict[int, Override]] = {"qkv": {}, "mlp": {}}
        begins: dict[tuple[int, int], tuple[int, int]] = {}
        for (kind, layer), (inputs, place) in read.items():
            own, columns = self._own(kind, layer, recording)
            at = local.to(place.device)[place[:, 0]], place[:, 1], place[:, 2]
            if places is not None:
                own = own[torch.arange(len(places), device=own.device), places][:, None]
            values = own.expand(len(numbers), *own.shape).clone()
            values[(*at[:2], at[2] if places is None else torch.zeros_like(at[2]))] = inputs
            edits[kind][layer] = Override(columns, values, places)
            stage, last = self._stage(kind, layer), last_attention(self.question.config)
            # in the last layer only keys and values go on to another position
            goes_on = stage < last or (stage == last and self._passed_on(kind, columns))
            for variant, prompt, pos in zip(*(part.tolist() for part in at), strict=True):
                if goes_on or pos == reach.read[prompt]:
                    first, earliest = begins.get((variant, prompt), (stage, pos))
                    begins[variant, prompt] = min(first, stage), min(earliest, pos)
        return edits, begins

    def _passed_on(self, kind: str, columns: Int[Tensor, " column"]) -> bool:
        """Whether other positions read what is received: keys or values are among the columns."""
        config = self.question.config
        return kind == "qkv" and int(columns.max()) >= config.n_heads * config.d_head

    def _stage(self, kind: str, layer: int) -> int:
        """The stage where a layer's attention or MLP reads."""
        return 2 * layer + (1 if kind == "mlp" and self.question.config.block == "serial" else 0)


def members_of(sender: Sheet | Joint) -> tuple[Sheet, ...]:
    """The sheets of a sender, numbered as the sender."""
    if isinstance(sender, Sheet):
        return (sender,)
    return tuple(replace(member, offset=sender.offset) for member in sender.members)


def leading(wanted: Sequence[Sequence[int]]) -> Reach:
    """The reach of changes that are needed at these positions of each prompt alone; none is where there are none."""
    last = tuple(at[-1] if at else 0 for at in wanted)
    return Reach(tuple(at[0] if at else 1 for at in wanted), last, last)


def held_by(senders: Sequence[Sheet | Joint]) -> list[Sheet]:
    """The MLPs and heads that send beside others."""
    joint = [sender for sender in senders if isinstance(sender, Joint) and len(sender.members) > 1]
    return [sheet for sender in joint for sheet in members_of(sender) if sheet.site in ("mlp_out", "z")]


def pieces_of(sender: Sheet | Joint, room: int) -> Iterator[Sheet | Joint]:
    """A sheet of heads, cut into sheets of at most `room` variants; anything else as it is."""
    if isinstance(sender, Joint) or sender.parts is None or sender.size <= room:
        yield sender
        return
    for start in range(0, len(sender.parts), room):
        yield replace(sender, parts=sender.parts[start : start + room], offset=sender.offset + start)
