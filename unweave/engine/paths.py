"""Path patching: what a sender's change does on the way to chosen receivers, and nowhere else.

Wang et al. 2022 (arXiv 2211.00593), appendix B:

1. recipient and donor are run once (`record`);
2. the sender's change is carried down with every other head frozen, and the receivers' inputs are read
   (`FrozenPass`); a change that reaches no receiver has effect exactly 0. Receiving heads are frozen too, or live, and
   then act on later receivers;
3. the recipient is run again with these inputs in place of its own (`Wavefront` with overrides). To the logits there
   is no third step: the frozen pass ends there.

Half of the memory budget is for the recording of a batch of prompts, a quarter for the frozen rows of a portion of the
senders, and a quarter for the runs of the third step. Out of memory, less is taken at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.arrivals import Arrival, arrivals
from unweave.engine.flight import Ticket, fly
from unweave.engine.frozen import FrozenPass
from unweave.engine.live_heads import LiveHeads
from unweave.engine.memory import MOST_ROWS, Room, budget_bytes, in_portions, recording_bytes, room_within
from unweave.engine.question import Question
from unweave.engine.reach import Reach, entry_stage, last_attention
from unweave.engine.receivers import Receivers
from unweave.engine.recording import Recording, record, sites_to_keep
from unweave.engine.scores import Scores
from unweave.engine.sheet import Joint, Sheet
from unweave.engine.wavefront import Override, Wavefront
from unweave.models.forward import looks_ahead, stage_read
from unweave.models.precision import without_autocast
from unweave.models.run import Key
from unweave.progress import Progress

# What receivers read: for ("qkv" or "mlp", layer), the values of some rows and each row's variant, prompt and position.
Read = dict[tuple[str, int], tuple[Tensor, Tensor]]


@dataclass
class PathSweep:
    """The scores of senders. `run` may be interrupted: `scores` then holds what was finished."""

    question: Question
    senders: Sequence[Sheet | Joint]
    receivers: Receivers
    live_mlps: bool = True
    memory: int | float | None = None
    progress: Progress | None = None
    scores: Scores = field(init=False)
    budget: int = field(init=False)

    def __post_init__(self) -> None:
        self.scores = Scores(sum(sender.size for sender in self.senders), self.question.baseline, self.progress)
        self.budget = budget_bytes(self.memory, self.question.weights.w_e.device)

    @without_autocast
    def run(self) -> Float[Tensor, "variant prompt"]:
        """All scores."""
        q, n_pos = self.question, self.question.recipient.tokens.shape[1]
        kept = [key for keys in sites_to_keep(q.config, *self._kept()) for key in keys]
        one = recording_bytes(q.config, n_pos, kept, q.itemsize)
        with torch.no_grad():
            size = min(self.budget // 2 // one, self.budget // 4 // (n_pos * self._row_bytes()))
            in_portions(len(q.recipient), size, self._run_batch)
        return self.scores.values

    def _room(self) -> Room:
        q = self.question
        return room_within(q.config, self.budget // 4, q.itemsize, q.recipient.tokens.shape[1])

    def _row_bytes(self) -> int:
        """What one row of a frozen pass holds: the stream as it is joined, what receivers read, and its place."""
        config, receivers = self.question.config, self.receivers
        read = sum(map(len, receivers.columns.values())) + len(receivers.mlps) * config.d_model
        stream = (5 if receivers.acting(config) else 4) * config.d_model
        return (stream + 2 * read) * self.question.itemsize + 8 * (6 + len(receivers.columns) + len(receivers.mlps))

    def _kept(self) -> tuple[Sequence[Key], Sequence[Key]]:
        layers = range(self.question.config.n_layers)
        frozen = [("attn_out", layer) for layer in layers]
        if not self.live_mlps and self.question.config.d_mlp:
            frozen += [("mlp_out", layer) for layer in layers]
        frozen += [(sheet.site, sheet.layer) for sheet in held_by(self.senders)]
        inputs = [(site, layer) for layer in self.receivers.columns for site in ("q", "k", "v")]
        inputs += [("z", layer) for layer in self.receivers.acting(self.question.config)]
        sent = [(sheet.site, sheet.layer) for sender in self.senders for sheet in sender.members]
        return list(dict.fromkeys(sent)), frozen + inputs

    def _run_batch(self, batch: range) -> None:
        """A batch of prompts, as many senders at once as a quarter of the budget holds."""
        q = self.question
        reach = q.reach(batch)
        recording = record(q.config, q.weights, q.own, q.donor, batch, *self._kept())
        wanted = [self.receivers.wanted(q.config, prompt, reach, batch) for prompt in range(len(batch))]
        most = min(MOST_ROWS, self.budget // 4 // self._row_bytes()) // max(1, sum(map(len, wanted)))
        pieces = [piece for sender in self.senders for piece in sender.of(batch).pieces(max(1, most))]
        largest = max(piece.size for piece in pieces)
        senders = PathBatch(self, batch, recording, reach, wanted)
        in_portions(len(pieces), most // largest, lambda part: senders.score([pieces[n] for n in part]))


@dataclass(frozen=True)
class PathBatch:
    """What the senders of one batch of prompts share. `wanted` are the positions that lead to a receiver."""

    sweep: PathSweep
    batch: range
    recording: Recording
    reach: Reach
    wanted: Sequence[Sequence[int]]

    def score(self, portion: Sequence[Sheet | Joint]) -> None:
        """Scores some senders. A variant with no row in flight reached no receiver."""
        scores, numbers = self.sweep.scores, torch.cat([sender.variants for sender in portion])
        if self.sweep.receivers.logits:
            place, stream = self._carried(portion)[0].landed()
            self._put(place[:, 0], place[:, 1], stream)
        else:
            self._run_again(numbers, self._carried(portion)[1])
        scores.put_rest(numbers, self.batch)
        scores.report()

    def _put(self, variant: Tensor, prompt: Tensor, stream: Tensor) -> None:
        where = prompt + self.batch.start
        if len(where):
            scored = self.sweep._room().scored
            self.sweep.scores.put(variant, where, self.sweep.question.score(stream, where, scored))

    def _carried(self, portion: Sequence[Sheet | Joint]) -> tuple[FrozenPass, Read]:
        """The frozen pass over a portion: the pass, and what the receivers read on the way."""
        config, receivers, read = self.recording.config, self.sweep.receivers, {}
        live = {layer: LiveHeads.reading(config, layer, receivers.columns[layer]) for layer in receivers.acting(config)}
        flown = FrozenPass(self.recording, self.sweep._room(), self.sweep.live_mlps, held_by(portion), live)
        by_stage: dict[int, list[tuple[Sheet, bool]]] = {}
        for sender in portion:
            for sheet in sender.members:
                entry = entry_stage(config, sheet.site, sheet.layer)
                by_stage.setdefault(entry, []).append((sheet, isinstance(sender, Joint)))
        stages = receivers.stages(config)
        end = 2 * config.n_layers if receivers.logits else stages[-1]
        for stage in range(end + 1):
            self.recording.forget()
            # behind the last attention `arrivals` itself leaves out what cannot matter, by the whole reach
            needed = self.reach if stage > last_attention(config) else leading(self.wanted)
            for (sheet, meets), (prompt, wanted) in product(by_stage.get(stage, ()), enumerate(self.wanted)):
                for arrival in arrivals(sheet, prompt, self.recording, needed):
                    # a live head takes the change on to all later positions, or to all where it sees both ways
                    later = bool(live) and not looks_ahead(config)
                    at = [pos for pos in wanted if pos >= arrival.first] if later else wanted
                    flown.join(arrival, stage, at, meets or bool(live))
            if stage in stages:
                read |= self._read(flown, stage)
            if stage < end:
                flown.advance(stage)
        return flown, read

    def _read(self, flown: FrozenPass, stage: int) -> Read:
        """What the receivers of one stage read of the rows in flight, where they receive."""
        layer, read, receivers = stage // 2, {}, self.sweep.receivers
        place, stream = flown.landed()
        if receivers.places is None:
            at = slice(None)
        else:
            at = receivers.places[list(self.batch)].to(place.device)[place[:, 1]] == place[:, 2]
        if stage % 2 == 0 and layer in receivers.columns:
            columns = receivers.columns[layer].to(stream.device)
            read["qkv", layer] = flown.inputs(layer, columns)[at], place[at]
        if layer in receivers.mlps and self._stage("mlp", layer) == stage:
            read["mlp", layer] = stream[at].clone(), place[at]
        return read

    def _own(self, kind: str, layer: int) -> tuple[Float[Tensor, "prompt pos column"], Int[Tensor, " column"]]:
        """What the recipient's own receivers read, and which columns that is."""
        if kind == "mlp":
            own = self.recording.stream(self._stage(kind, layer))
            return own, torch.arange(own.shape[-1], device=own.device)
        columns = self.sweep.receivers.columns[layer].to(self.recording.stream(0).device)
        return self.recording.fused(layer)[..., columns], columns

    def _run_again(self, numbers: Int[Tensor, " variant"], read: Read) -> None:
        """The third step: the recipient's run with the receivers' inputs in place, as many at once as there is room.

        A run joins where the first of its receivers reads: before that it is the recipient's.
        """
        edits, begins = self._received(numbers, read)
        joining: dict[tuple[int, int, int], list[int]] = {}
        for (variant, prompt), (stage, pos) in begins.items():
            joining.setdefault((stage, pos, prompt), []).append(variant)
        nothing = self.recording.stream(0).new_zeros(1, 0, self.recording.config.d_model)
        tickets = []
        for (stage, pos, prompt), variants in sorted(joining.items()):
            runs = torch.tensor(variants)
            unchanged = Arrival(runs, prompt, pos, nothing.expand(len(runs), -1, -1))
            tickets.append(Ticket(stage, prompt, numbers[runs], lambda arrival=unchanged: [arrival]))

        def land(wave: Wavefront, _: Sequence[Ticket]) -> None:
            variant, prompt, stream = wave.landed()
            self._put(numbers.to(variant.device)[variant], prompt, stream)

        start = partial(Wavefront, self.recording, overrides=edits["qkv"], mlp_inputs=edits["mlp"])
        fly(tickets, self.sweep._room(), self.reach, start, land)

    def _received(
        self, numbers: Int[Tensor, " variant"], read: Read
    ) -> tuple[dict[str, dict[int, Override]], dict[tuple[int, int], tuple[int, int]]]:
        """What was read, as overrides by layer; and of each variant and prompt, the stage and position where it begins.

        Variants are numbered by their place in `numbers`.
        """
        places = self.sweep.receivers.places
        places = None if places is None else places[list(self.batch)].to(self.recording.stream(0).device)
        local = torch.full((int(numbers.max()) + 1,), -1)
        local[numbers] = torch.arange(len(numbers))
        edits: dict[str, dict[int, Override]] = {"qkv": {}, "mlp": {}}
        begins: dict[tuple[int, int], tuple[int, int]] = {}
        for (kind, layer), (values, place) in read.items():
            own, columns = self._own(kind, layer)
            variant, prompt, pos = local.to(place.device)[place[:, 0]], place[:, 1], place[:, 2]
            if places is not None:
                own = own[torch.arange(len(places), device=own.device), places][:, None]
            row = place.new_full((len(numbers), *own.shape[:2]), -1)
            row[variant, prompt, pos if places is None else 0] = torch.arange(len(place), device=place.device)
            edits[kind][layer] = Override(columns, values, row, own, places)
            stage, last = self._stage(kind, layer), last_attention(self.recording.config)
            # in the last layer only keys and values go on to another position
            goes_on = stage < last or (stage == last and self._passed_on(kind, columns))
            for run, at in zip(zip(variant.tolist(), prompt.tolist(), strict=True), pos.tolist(), strict=True):
                if goes_on or at == self.reach.read[run[1]]:
                    first, earliest = begins.get(run, (stage, at))
                    begins[run] = min(first, stage), min(earliest, at)
        return edits, begins

    def _passed_on(self, kind: str, columns: Int[Tensor, " column"]) -> bool:
        """Whether other positions read what is received: keys or values are among the columns."""
        config = self.recording.config
        return kind == "qkv" and int(columns.max()) >= config.n_heads * config.d_head

    def _stage(self, kind: str, layer: int) -> int:
        """The stage where a layer's attention or MLP reads."""
        return stage_read(self.recording.config, "mlp" if kind == "mlp" else "attention", layer)


def leading(wanted: Sequence[Sequence[int]]) -> Reach:
    """The reach of changes that are needed at these positions of each prompt alone; none is where there are none."""
    last = tuple(at[-1] if at else 0 for at in wanted)
    return Reach(tuple(at[0] if at else 1 for at in wanted), last, last)


def held_by(senders: Sequence[Sheet | Joint]) -> list[Sheet]:
    """The MLPs and heads that send beside others."""
    joint = [sender for sender in senders if isinstance(sender, Joint) and len(sender.members) > 1]
    return [sheet for sender in joint for sheet in sender.members if sheet.site in ("mlp_out", "z")]
