"""The frozen pass: changes carried down the network with every attention held at the recipient's.

With attention frozen positions do not mix: a row of the stream goes on only through MLPs, and only rows at positions
that lead to a receiver need be carried. This is the second step of path patching (arXiv 2211.00593, appendix B).

Receivers may be live heads: such a head takes the inputs that receive from the rows in flight; its other inputs, and
the keys and values of its prefix, are the recipient's. What its changed `z` writes is added, and rows are carried at
all positions that it mixes: thus a receiver acts on later ones if attention is frozen by `q k v` outside the receivers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.engine.memory import RowBudget
from unweave.engine.patches import NodeGrid
from unweave.engine.recording import Recording
from unweave.engine.wavefront import EnteringRuns
from unweave.models.config import Config
from unweave.models.forward import attention_z, half_block, halves, mlp, project


@dataclass(frozen=True)
class LiveHeads:
    """The heads of a layer whose `z` depends on `columns` of the fused queries, keys and values."""

    layer: int
    columns: Int[Tensor, " column"]
    groups: tuple[int, ...]
    heads: tuple[int, ...]

    @staticmethod
    def reading(config: Config, layer: int, columns: Int[Tensor, " column"]) -> LiveHeads:
        """The heads that read these columns. Query heads that share a key and value head are taken together."""
        share, blocks = config.heads_per_kv, {int(column) // config.d_head for column in columns}
        groups = {n // share if n < config.n_heads else (n - config.n_heads) % config.n_kv_heads for n in blocks}
        heads = [group * share + n for group in sorted(groups) for n in range(share)]
        return LiveHeads(layer, columns, tuple(sorted(groups)), tuple(heads))

    def change(
        self, recording: Recording, prompt: int, first: int, inputs: Float[Tensor, "run pos column"]
    ) -> Float[Tensor, "run pos head d_head"]:
        """The change of these heads' `z` in runs of one prompt that read `inputs` from position `first` on."""
        config, span = recording.config, slice(first, first + inputs.shape[1])
        own = recording.fused(self.layer)[prompt, span].repeat(len(inputs), 1, 1)
        own[..., self.columns] = inputs
        n_kv, groups = config.n_kv_heads, list(self.groups)
        blocks = [*self.heads, *(config.n_heads + n for n in groups), *(config.n_heads + n_kv + n for n in groups)]
        chosen = own.unflatten(-1, (-1, config.d_head))[:, :, blocks].flatten(-2)
        few = replace(config, n_heads=len(self.heads), n_kv_heads=len(groups))
        prefix = None
        if first:
            k, v = (x[prompt, groups, :first].expand(len(inputs), -1, -1, -1) for x in recording.prefix(self.layer))
            prefix = k, v
        seen = recording.inputs.take(slice(prompt, prompt + 1), span.stop)
        z = attention_z(few, chosen, seen, first=first, prefix=prefix)
        return z - recording.recipient["z", self.layer][prompt, span][:, list(self.heads)]

    def written(
        self, recording: Recording, change: Float[Tensor, "run pos head d_head"]
    ) -> Float[Tensor, "run pos d_model"]:
        """What a change of their `z` writes to the residual stream."""
        w_o = rearrange(recording.weights.layers[self.layer].w_o, "d (head e) -> head e d", e=recording.config.d_head)
        return einsum(change, w_o[list(self.heads)], "run pos head e, head e d -> run pos d")


class FrozenPass:
    """Rows in flight, each of one variant, prompt and position. MLPs are live, or frozen like attention.

    `budget` bounds one matrix product and one attention product. `held` are grids that send together with others: what
    they write is the donor's, so the MLP or the live head is frozen in the rows of their variant, and the change joins
    after it.
    `live` are the heads that are not frozen, by layer: the rows of a run must then be all its positions from the first
    that its senders change. The recording must hold `attn_out` of every layer, `mlp_out` where MLPs are frozen or held,
    and `q k v z` where heads are live.
    """

    def __init__(
        self,
        recording: Recording,
        budget: RowBudget,
        live_mlps: bool,
        held: Sequence[NodeGrid] = (),
        live: Mapping[int, LiveHeads] | None = None,
    ) -> None:
        self.recording, self.config, self.budget = recording, recording.config, budget
        self.live_mlps, self.held, self.live = live_mlps, held, live or {}
        self.x = recording.stream(0).new_empty(0, self.config.d_model)
        self.place = torch.empty(0, 3, dtype=torch.long, device=self.x.device)  # variant, prompt, pos of each row
        self.n_rows = 0
        self._start: dict[tuple[int, int], slice] = {}
        self._new: list[tuple[Tensor, Tensor]] = []

    def join(self, runs: EnteringRuns, stage: int, wanted: Sequence[int], meets: bool = False) -> None:
        """Takes in the runs' rows at the wanted positions.

        `meets` says that other changes of the same variant may come, before or after: then all wanted positions are
        carried, and the change is added to what is in flight of this variant and prompt.
        """
        lead = range(runs.first, runs.first + runs.delta.shape[1])
        at = [pos for pos in wanted if meets or pos in lead]
        if not at:
            return
        count = len(runs.variants)
        delta = runs.delta.new_zeros(count, len(at), self.config.d_model)
        inside = [n for n, pos in enumerate(at) if pos in lead]
        delta[:, inside] = runs.delta[:, [at[n] - runs.first for n in inside]]
        key = (int(runs.variants[0]), runs.prompt)
        if meets and key in self._start:
            self._settle()
            self.x[self._start[key]] += delta[0]
            return
        self._start[key] = slice(self.n_rows, self.n_rows + count * len(at))
        self.n_rows += count * len(at)
        variants = runs.variants.to(self.x.device).repeat_interleave(len(at))
        positions = torch.tensor(at, device=self.x.device).repeat(count)
        rows = self.recording.stream(stage)[runs.prompt, at] + delta
        self._new.append(
            (rows.flatten(0, 1), torch.stack([variants, torch.full_like(variants, runs.prompt), positions], 1))
        )

    def _settle(self) -> None:
        """Appends the newcomers' rows to those in flight, all of a stage at once."""
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
        weights = self.recording.weights.layers[layer].of_columns(columns)
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
        for grid in self.held:
            if (grid.site, grid.layer) == ("mlp_out", layer):
                there = self._sent(grid, rows)
                out[there] = self.recording.recipient["mlp_out", layer][prompt[there], pos[there]]
        return out

    def _sent(self, grid: NodeGrid, rows: slice | Int[Tensor, "run pos"]) -> Bool[Tensor, "..."]:
        """Which rows are of the grid's variant, at a position where it sends."""
        variant, prompt, pos = self.place[rows].unbind(-1)
        there = variant == grid.offset
        return there if grid.places is None else there & (pos == grid.places[0].to(pos.device)[prompt])

    def _written_live(self, heads: LiveHeads) -> Float[Tensor, "row d_model"]:
        """What the change of live heads writes to all rows in flight."""
        inputs, written = self.inputs(heads.layer, heads.columns), torch.zeros_like(self.x)
        for rows in self._runs():
            _, prompt, first = self.place[rows[0, 0]].tolist()
            change = heads.change(self.recording, prompt, first, inputs[rows])
            for grid in self.held:
                if (grid.site, grid.layer) == ("z", heads.layer) and grid.parts and grid.parts[0] in heads.heads:
                    change[:, :, heads.heads.index(grid.parts[0])][self._sent(grid, rows)] = 0
            written[rows] = heads.written(self.recording, change)
        return written

    def _runs(self) -> Iterator[Int[Tensor, "run pos"]]:
        """The rows of runs of one prompt, in portions that bound the memory of attention."""
        prompts, positions = self.place[:, 1], self.place[:, 2]
        for prompt in prompts.unique().tolist():
            rows = (prompts == prompt).nonzero()[:, 0]
            first, last = int(positions[rows].min()), int(positions[rows].max())
            yield from rows.unflatten(0, (-1, last - first + 1)).split(max(1, self.budget.keys // (last + 1)))

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.x), self.budget.chunk):
            yield slice(start, start + self.budget.chunk)
