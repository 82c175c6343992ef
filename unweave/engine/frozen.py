"""The frozen pass: changes carried down the network with every attention held at the recipient's.

With attention frozen positions do not mix: a row of the stream goes on through MLPs alone, and only rows at positions
that lead to a receiver need be carried. This is the second step of path patching (arXiv 2211.00593, appendix B).

Receivers may be live heads: then what they write is added, and rows are carried at all positions that they mix.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.engine.arrivals import Arrival
from unweave.engine.live_heads import LiveHeads
from unweave.engine.memory import Room
from unweave.engine.recording import Recording
from unweave.engine.sheet import Sheet
from unweave.models.forward import half_block, halves, mlp, project


class FrozenPass:
    """Rows in flight, each of one variant, prompt and position. MLPs are live, or frozen like attention.

    `room` bounds one matrix product and one attention product. `held` are sheets that send beside others: what they
    write is the donor's, so the MLP or the live head is frozen in the rows of their variant, and the change joins
    behind it.
    `live` are the heads that are not frozen, by layer: the rows of a run must then be all its positions from the first
    that its senders change. The recording must hold `attn_out` of every layer, `mlp_out` where MLPs are frozen or held,
    and `q k v z` where heads are live.
    """

    def __init__(
        self,
        recording: Recording,
        room: Room,
        live_mlps: bool,
        held: Sequence[Sheet] = (),
        live: Mapping[int, LiveHeads] | None = None,
    ) -> None:
        self.recording, self.config, self.room = recording, recording.config, room
        self.live_mlps, self.held, self.live = live_mlps, held, live or {}
        self.x = recording.stream(0).new_empty(0, self.config.d_model)
        self.place = torch.empty(0, 3, dtype=torch.long, device=self.x.device)  # variant, prompt, pos of each row
        self.n_rows = 0
        self._start: dict[tuple[int, int], slice] = {}
        self._new: list[tuple[Tensor, Tensor]] = []

    def join(self, arrival: Arrival, stage: int, wanted: Sequence[int], meets: bool = False) -> None:
        """Takes in the arrival's rows at the wanted positions.

        `meets` says that other changes of the same variant may come, before or after: then all wanted positions are
        carried, and the change is added to what is in flight of this variant and prompt.
        """
        lead = range(arrival.first, arrival.first + arrival.delta.shape[1])
        at = [pos for pos in wanted if meets or pos in lead]
        if not at:
            return
        count = len(arrival.variants)
        delta = arrival.delta.new_zeros(count, len(at), self.config.d_model)
        inside = [n for n, pos in enumerate(at) if pos in lead]
        delta[:, inside] = arrival.delta[:, [at[n] - arrival.first for n in inside]]
        key = (int(arrival.variants[0]), arrival.prompt)
        if meets and key in self._start:
            self._settle()
            self.x[self._start[key]] += delta[0]
            return
        self._start[key] = slice(self.n_rows, self.n_rows + count * len(at))
        self.n_rows += count * len(at)
        variants = arrival.variants.to(self.x.device).repeat_interleave(len(at))
        positions = torch.tensor(at, device=self.x.device).repeat(count)
        rows = self.recording.stream(stage)[arrival.prompt, at] + delta
        self._new.append(
            (rows.flatten(0, 1), torch.stack([variants, torch.full_like(variants, arrival.prompt), positions], 1))
        )

    def _settle(self) -> None:
        """Puts the newcomers' rows behind those in flight, all of a stage at once."""
        if self._new:
            self.x = torch.cat([self.x, *(rows for rows, _ in self._new)])
            self.place = torch.cat([self.place, *(place for _, place in self._new)])
            self._new.clear()

    def advance(self, stage: int) -> None:
        """Half a layer down; a whole one in a parallel block."""
        self._settle()
        layer, parts = stage // 2, halves(self.config)[stage % 2]
        written = self._written_live(self.live[layer]) if "attention" in parts and layer in self.live else None
        for rows in self._chunks() if parts else ():
            self.x[rows] = half_block(
                self.config,
                stage % 2,
                self.x[rows],
                lambda _, rows=rows: self._attention(layer, rows, written),
                lambda _, rows=rows: self._mlp(layer, rows),
            )

    def _attention(
        self, layer: int, rows: slice, live: Float[Tensor, "all d_model"] | None
    ) -> Float[Tensor, "row d_model"]:
        """What frozen attention writes to some rows, and what the change of live heads adds."""
        _, prompt, pos = self.place[rows].T
        frozen = self.recording.recipient["attn_out", layer][prompt, pos]
        return frozen if live is None else frozen + live[rows]

    def inputs(self, layer: int, columns: Int[Tensor, " column"]) -> Float[Tensor, "row column"]:
        """What some columns of a layer's queries, keys and values read of the rows in flight."""
        self._settle()
        whole = self.recording.weights.layers[layer]
        weights = replace(
            whole, w_qkv=whole.w_qkv[columns], b_qkv=None if whole.b_qkv is None else whole.b_qkv[columns]
        )
        parts = [project(self.config, weights, self.x[rows]) for rows in self._chunks()]
        return torch.cat(parts) if parts else self.x.new_empty(0, len(columns))

    def landed(self) -> tuple[Int[Tensor, "row 3"], Float[Tensor, "row d_model"]]:
        """Variant, prompt and position of the rows in flight, and the rows."""
        self._settle()
        return self.place, self.x

    def _mlp(self, layer: int, rows: slice) -> Float[Tensor, "row d_model"]:
        """What the MLP writes to some rows."""
        _, prompt, pos = self.place[rows].T
        if not self.live_mlps:
            return self.recording.recipient["mlp_out", layer][prompt, pos]
        out = mlp(self.config, self.recording.weights.layers[layer], self.x[rows])
        for sheet in self.held:
            if (sheet.site, sheet.layer) == ("mlp_out", layer):
                there = self._sent(sheet, rows)
                out[there] = self.recording.recipient["mlp_out", layer][prompt[there], pos[there]]
        return out

    def _sent(self, sheet: Sheet, rows: slice | Int[Tensor, "run pos"]) -> Bool[Tensor, "..."]:
        """Which rows are of the sheet's variant, at a position where it sends."""
        variant, prompt, pos = self.place[rows].unbind(-1)
        there = variant == sheet.offset
        return there if sheet.places is None else there & (pos == sheet.places[0].to(pos.device)[prompt])

    def _written_live(self, heads: LiveHeads) -> Float[Tensor, "row d_model"]:
        """What the change of live heads writes to all rows in flight."""
        inputs, written = self.inputs(heads.layer, heads.columns), torch.zeros_like(self.x)
        for rows in self._runs():
            _, prompt, first = self.place[rows[0, 0]].tolist()
            change = heads.change(self.recording, prompt, first, inputs[rows])
            for sheet in self.held:
                if (sheet.site, sheet.layer) == ("z", heads.layer) and sheet.parts and sheet.parts[0] in heads.heads:
                    change[:, :, heads.heads.index(sheet.parts[0])][self._sent(sheet, rows)] = 0
            written[rows] = heads.written(self.recording, change)
        return written

    def _runs(self) -> Iterator[Int[Tensor, "run pos"]]:
        """The rows of runs of one prompt, in portions that bound the memory of attention."""
        prompts, positions = self.place[:, 1], self.place[:, 2]
        for prompt in prompts.unique().tolist():
            rows = (prompts == prompt).nonzero()[:, 0]
            first, last = int(positions[rows].min()), int(positions[rows].max())
            yield from rows.unflatten(0, (-1, last - first + 1)).split(max(1, self.room.keys // (last + 1)))

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.x), self.room.chunk):
            yield slice(start, start + self.room.chunk)
