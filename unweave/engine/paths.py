"""Path patching: what a sender's change does on the way to chosen receivers, and nowhere else.

Wang et al. 2022 (arXiv 2211.00593), appendix B:

1. recipient and donor are run once (`record`);
2. the sender's change is carried down with every other head frozen, and the receivers' inputs are read
   (`FrozenPass`); a change that reaches no receiver has effect exactly 0. Receiving heads are frozen too, or live, and
   then act on later receivers;
3. the recipient is run again, and takes these inputs in flight. To the logits there is no third step: the frozen pass
   ends there.

Half of the memory budget is for the recording of a batch of prompts, a quarter for the frozen rows of a portion of the
senders, and a quarter for the runs of the third step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.context import AffectedSpan, PatchContext, entry_stage, last_attention
from unweave.engine.executor import Batch, Portion, Runs, WorkItem
from unweave.engine.frozen import FrozenPass, LiveHeads
from unweave.engine.memory import MOST_ROWS, RowBudget, recording_bytes, row_budget
from unweave.engine.patches import NodeGrid, entering
from unweave.engine.recording import Recording, record, sites_to_keep
from unweave.engine.wavefront import EnteringRuns, Rows
from unweave.models.config import Config
from unweave.models.forward import looks_ahead, reads, stage_read
from unweave.models.run import Key

# What receivers read, for ("qkv" or "mlp_in", layer): values of some rows, and each row's variant, prompt and position.
Read = dict[Key, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Receivers:
    """Columns of the fused queries, keys and values that receive, by layer, and layers whose MLP's input does.

    Where there are neither, the logits receive. `places[prompt]` is the one position where they receive; None stands
    for all. `live` says that receiving heads, at all positions, go on with what they read while inputs are read.
    """

    columns: Mapping[int, Int[Tensor, " column"]] = field(default_factory=dict)
    mlps: tuple[int, ...] = ()
    places: Int[Tensor, " prompt"] | None = None
    live: bool = False

    @property
    def logits(self) -> bool:
        return not self.columns and not self.mlps

    def stages(self, config: Config) -> list[int]:
        """The stages where the receivers read, in order."""
        attention = {stage_read(config, "attention", layer) for layer in self.columns}
        return sorted(attention | {stage_read(config, "mlp", layer) for layer in self.mlps})

    def acting(self, config: Config) -> list[int]:
        """The layers whose live heads come before another receiver."""
        last = self.stages(config)[-1] if self.live and not self.logits else 0
        return [layer for layer in self.columns if 2 * layer < last]

    def wanted(self, config: Config, span: AffectedSpan, prompt: int) -> range:
        """The positions of a prompt that lead to a receiver."""
        at = span.positions
        if self.logits:
            return range(span.read, span.read + 1) if at else at
        if self.places is None:
            return at
        place = int(self.places[prompt])
        if place not in at:
            return range(0)
        return reads(config, place, at) if self.acting(config) else range(place, place + 1)


def path_runs(context: PatchContext, senders: Sequence[NodeGrid], receivers: Receivers, live_mlps: bool = True) -> Runs:
    """A run for each sender and prompt; as many senders at once as a quarter of the budget holds."""
    config, n_pos, itemsize = context.config, context.recipient.tokens.shape[1], context.itemsize
    sent, also = _kept(config, senders, receivers, live_mlps)
    one = recording_bytes(config, n_pos, [key for keys in sites_to_keep(config, sent, also) for key in keys], itemsize)
    row = _row_bytes(config, receivers, itemsize)

    def prepared(prompts: range, budget: int) -> Batch:
        spans = context.spans(prompts)
        recording = record(config, context.weights, context.own, context.donor, prompts, sent, also)
        wanted = [receivers.wanted(config, *at) for at in zip(spans, prompts, strict=True)]
        most = min(MOST_ROWS, budget // 4 // row) // max(1, sum(map(len, wanted)))
        pieces = [piece for sender in senders for piece in sender.of(prompts).pieces(max(1, most))]
        rows = row_budget(config, budget // 4, itemsize, n_pos)
        batch = PathBatch(receivers, live_mlps, prompts, recording, spans, rows, wanted, pieces)
        return Batch(recording, spans, rows, batch.portion, len(pieces), most // max(piece.size for piece in pieces))

    return Runs(context, sum(sender.size for sender in senders), max(2 * one, 4 * n_pos * row), prepared)


def _row_bytes(config: Config, receivers: Receivers, itemsize: int) -> int:
    """What one row of a frozen pass holds: the stream as it is joined, what receivers read, and its place."""
    read = sum(map(len, receivers.columns.values())) + len(receivers.mlps) * config.d_model
    stream = (5 if receivers.acting(config) else 4) * config.d_model
    return (stream + 2 * read) * itemsize + 8 * (6 + len(receivers.columns) + len(receivers.mlps))


def _kept(
    config: Config, senders: Sequence[NodeGrid], receivers: Receivers, live_mlps: bool
) -> tuple[list[Key], list[Key]]:
    """Sites and layers that are sent, and that are kept of the recipient as well."""
    frozen = [("attn_out", layer) for layer in range(config.n_layers)]
    if not live_mlps and config.d_mlp:
        frozen += [("mlp_out", layer) for layer in range(config.n_layers)]
    frozen += [(grid.site, grid.layer) for grid in held_by(senders)]
    inputs = [(site, layer) for layer in receivers.columns for site in ("q", "k", "v")]
    inputs += [("z", layer) for layer in receivers.acting(config)]
    sent = [(grid.site, grid.layer) for sender in senders for grid in sender.members]
    return list(dict.fromkeys(sent)), frozen + inputs


@dataclass(frozen=True)
class PathBatch:
    """What the senders of a batch of prompts share. `wanted` are the positions of each that lead to a receiver."""

    receivers: Receivers
    live_mlps: bool
    prompts: range
    recording: Recording
    spans: Sequence[AffectedSpan]
    rows: RowBudget
    wanted: Sequence[range]
    pieces: Sequence[NodeGrid]

    def portion(self, pieces: range) -> Portion:
        """The frozen pass of some senders, and what is left to be run. One without rows reached no receiver."""
        senders = [self.pieces[number] for number in pieces]
        variants = torch.cat([sender.variants for sender in senders])
        frozen, read = self._carried(senders)
        if self.receivers.logits:
            place, stream = frozen.landed()
            return Portion(variants, landed=(place[:, 0], place[:, 1], stream))
        again = RunsAgain(self, variants)
        for key, (values, place) in read.items():
            again.receive(key, values, place)
        return Portion(variants, again.items(), again.edits)

    def _carried(self, senders: Sequence[NodeGrid]) -> tuple[FrozenPass, Read]:
        """The frozen pass of some senders, and what the receivers read on the way."""
        config, receivers = self.recording.config, self.receivers
        live = {layer: LiveHeads.reading(config, layer, receivers.columns[layer]) for layer in receivers.acting(config)}
        frozen = FrozenPass(self.recording, self.rows, self.live_mlps, held_by(senders), live)
        by_stage: dict[int, list[tuple[NodeGrid, bool]]] = {}
        for sender in senders:
            for grid in sender.members:
                entry = entry_stage(config, grid.site, grid.layer)
                by_stage.setdefault(entry, []).append((grid, bool(sender.also)))
        stages, read = receivers.stages(config), {}
        end = 2 * config.n_layers if receivers.logits else stages[-1]
        for stage in range(end + 1):
            self.recording.forget()
            for (grid, meets), prompt in product(by_stage.get(stage, ()), range(len(self.wanted))):
                self._send(frozen, grid, prompt, stage, meets or bool(live))
            if stage in stages:
                read |= self._read(frozen, stage)
            if stage < end:
                frozen.advance(stage)
        return frozen, read

    def _send(self, frozen: FrozenPass, grid: NodeGrid, prompt: int, stage: int, meets: bool) -> None:
        """A sender's change in one prompt joins the frozen pass where it leads to a receiver."""
        config, wanted, span = self.recording.config, self.wanted[prompt], self.spans[prompt]
        if stage <= last_attention(config):  # later, `entering` itself leaves out what cannot matter
            span = AffectedSpan(wanted, wanted[-1] if wanted else 0)
        for runs in entering(grid, prompt, self.recording, span):
            # a live head takes the change on to all later positions, or to all if it sees both ways
            later = bool(frozen.live) and not looks_ahead(config)
            at = [pos for pos in wanted if pos >= runs.first] if later else wanted
            frozen.join(runs, stage, at, meets)

    def _read(self, frozen: FrozenPass, stage: int) -> Read:
        """What the receivers of one stage read of the rows in flight, where they receive."""
        layer, read, receivers = stage // 2, {}, self.receivers
        place, stream = frozen.landed()
        at = slice(None)
        if receivers.places is not None:
            at = receivers.places[list(self.prompts)].to(place.device)[place[:, 1]] == place[:, 2]
        if layer in receivers.columns and stage == stage_of(self, "qkv", layer):
            columns = receivers.columns[layer].to(stream.device)
            read["qkv", layer] = frozen.inputs(layer, columns)[at], place[at]
        if layer in receivers.mlps and stage == stage_of(self, "mlp_in", layer):
            read["mlp_in", layer] = stream[at].clone(), place[at]
        return read


@dataclass
class RunsAgain:
    """The third step: the recipient's run with the receivers' inputs in place, for the senders that reached them.

    A run joins where the first of its receivers reads: before that it is the recipient's. `begins` has the stage and
    position of each variant and prompt.
    """

    batch: PathBatch
    variants: Int[Tensor, " variant"]
    edits: dict[Key, Callable[[Tensor, Rows], Tensor]] = field(default_factory=dict)
    begins: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def receive(self, key: Key, values: Tensor, place: Int[Tensor, "row 3"]) -> None:
        """What the rows of variants, prompts and positions `place` give a receiver."""
        batch, (own, columns) = self.batch, self._own(key)
        places = batch.receivers.places
        if places is not None:
            places = places[list(batch.prompts)].to(place.device)
            own = own[torch.arange(len(places), device=own.device), places][:, None]
        number = torch.full((int(self.variants.max()) + 1,), -1)
        number[self.variants] = torch.arange(len(self.variants))
        number = number.to(place.device)
        variant, prompt, pos = place.T
        row = place.new_full((len(self.variants), *own.shape[:2]), -1)
        row[number[variant], prompt, pos if places is None else 0] = torch.arange(len(place), device=place.device)
        self.edits[key] = Received(columns, values, own, number, row, places)
        stage, last = stage_of(batch, *key), last_attention(batch.recording.config)
        # in the last layer only keys and values go on to another position
        goes_on = stage < last or (stage == last and self._read_elsewhere(key, columns))
        for run, at in zip(zip(variant.tolist(), prompt.tolist(), strict=True), pos.tolist(), strict=True):
            if goes_on or at == batch.spans[run[1]].read:
                first, earliest = self.begins.get(run, (stage, at))
                self.begins[run] = min(first, stage), min(earliest, at)

    def items(self) -> list[WorkItem]:
        """A work item for all runs that begin together."""
        joining: dict[tuple[int, int, int], list[int]] = {}
        for (variant, prompt), (stage, pos) in self.begins.items():
            joining.setdefault((stage, pos, prompt), []).append(variant)
        items = []
        for (stage, pos, prompt), variants in sorted(joining.items()):
            runs = EnteringRuns.unchanged(torch.tensor(variants), prompt, pos, self.batch.recording.stream(0))
            items.append(WorkItem(stage, prompt, runs.variants, lambda runs=runs: [runs]))
        return items

    def _own(self, key: Key) -> tuple[Float[Tensor, "prompt pos column"], Int[Tensor, " column"]]:
        """What the recipient's own receivers read, and which columns that is."""
        recording = self.batch.recording
        if key[0] == "mlp_in":
            own = recording.stream(stage_of(self.batch, *key))
            return own, torch.arange(own.shape[-1], device=own.device)
        columns = self.batch.receivers.columns[key[1]].to(recording.stream(0).device)
        return recording.fused(key[1])[..., columns], columns

    def _read_elsewhere(self, key: Key, columns: Int[Tensor, " column"]) -> bool:
        """Whether other positions read what is received: keys or values are among the columns."""
        config = self.batch.recording.config
        return key[0] == "qkv" and int(columns.max()) >= config.n_heads * config.d_head


@dataclass(frozen=True)
class Received:
    """An edit in flight: what receivers read, whatever the stream says.

    `number` is a variant's among those of `row`, which says which of `values` a run has at a position, and -1 that it
    has the recipient's `own`. They are at all positions of a run; with `places`, at one of each prompt, which is all
    that `row` and `own` hold.
    """

    columns: Int[Tensor, " column"]
    values: Float[Tensor, "row column"]
    own: Float[Tensor, "prompt pos column"]
    number: Int[Tensor, " every_variant"]
    row: Int[Tensor, "variant prompt pos"]
    places: Int[Tensor, " prompt"] | None

    def __call__(self, value: Tensor, rows: Rows) -> Tensor:
        pos = rows.pos if self.places is None else torch.zeros_like(rows.pos)
        given = self.own[rows.prompt, pos]
        if len(self.values):
            row = self.row[self.number[rows.variant], rows.prompt, pos]
            given = torch.where((row >= 0)[..., None], self.values[row.clamp_min(0)], given)
        if self.places is not None:
            there = rows.pos == self.places[rows.prompt]
            given = torch.where(there[..., None], given, value[..., self.columns])
        return value.index_copy(-1, self.columns, given)


def stage_of(batch: PathBatch, kind: str, layer: int) -> int:
    """The stage whose stream a receiver of a layer reads: "qkv" or "mlp_in"."""
    return stage_read(batch.recording.config, "mlp" if kind == "mlp_in" else "attention", layer)


def held_by(senders: Sequence[NodeGrid]) -> list[NodeGrid]:
    """The MLPs and heads that send together with others."""
    joint = [sender for sender in senders if sender.also]
    return [grid for sender in joint for grid in sender.members if grid.site in ("mlp_out", "z")]
