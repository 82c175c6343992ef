"""The wavefront: all patched runs in flight, advanced together down the network.

Each run is a block of rows, at consecutive positions. At a stage the rows in flight are advanced by half a layer, and
then the runs whose patch enters there join, as the recipient's residual stream plus their change:

- matrix products run once over the rows of all runs, in chunks that stay in the cache;
- attention runs in groups of equal first, last and read position, over the recipient's keys and values of the prefix
  and the run's own;
- in the last layer only the position that is read goes on;
- edits in flight give runs other values at some sites, as they pass.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.context import AffectedSpan, last_attention
from unweave.engine.memory import CHUNK_KEYS, RowBudget
from unweave.engine.recording import Recording
from unweave.models.forward import (
    Tap,
    attention_output,
    attention_z,
    half_block,
    halves,
    mlp,
    project,
    read_by,
    untapped,
)
from unweave.models.run import Key


@dataclass(frozen=True)
class EnteringRuns:
    """Runs of one prompt, changed from position `first` on; `delta` covers those from there, and is 0 after them."""

    variants: Int[Tensor, " run"]
    prompt: int
    first: int
    delta: Float[Tensor, "run lead d_model"]

    @staticmethod
    def unchanged(variants: Int[Tensor, " run"], prompt: int, first: int, like: Tensor) -> "EnteringRuns":
        """Runs that enter as the recipient's, to be edited in flight."""
        return EnteringRuns(variants, prompt, first, like.new_zeros(1, 0, like.shape[-1]).expand(len(variants), -1, -1))


@dataclass(frozen=True)
class Rows:
    """Of each row in flight: its variant, prompt and position."""

    variant: Int[Tensor, "*row"]
    prompt: Int[Tensor, "*row"]
    pos: Int[Tensor, "*row"]


# By site and layer: from a value `[*row …]` and its rows (of a pattern `[run head q_pos k_pos]`, whose rows are
# `[run q_pos]`), to the value to go on with. Sites are also "qkv", the fused projection, and "mlp_in", what an MLP
# reads. The value given must not be changed.
EditsInFlight = Mapping[Key, Callable[[Tensor, Rows], Tensor]]


@dataclass(frozen=True)
class Block:
    """The rows of some runs of a group, run by run; a slice if they are consecutive, so that nothing is copied."""

    index: slice | Int[Tensor, " row"]
    n_pos: int

    def of(self, buffer: Tensor) -> Tensor:
        """`[run pos …]` of a buffer `[row …]`."""
        return buffer[self.index].unflatten(0, (-1, self.n_pos))


@dataclass(frozen=True)
class Group:
    """Runs of equal first, last and read position, and the row where each starts (on the processor: it is looped over).

    Its `blocks` have at most so many keys, which bounds the memory of attention.
    """

    first: int
    last: int
    read: int
    start: Int[Tensor, " run"]
    device: torch.device
    keys: int = CHUNK_KEYS

    @cached_property
    def blocks(self) -> list[Block]:
        blocks, n_pos = [], self.last - self.first + 1
        for start in self.start.split(max(1, self.keys // (self.last + 1))):
            first, size = int(start[0]), len(start) * n_pos
            rows = slice(first, first + size)
            if int(start[-1]) - first != size - n_pos:  # starts only grow, so else the runs are consecutive
                rows = (start[:, None] + torch.arange(n_pos)).flatten().to(self.device)
            blocks.append(Block(rows, n_pos))
        return blocks


class Wavefront:
    """Patched runs in flight, as many rows as the budget holds."""

    def __init__(self, recording: Recording, budget: RowBudget, edits: EditsInFlight | None = None) -> None:
        self.recording, self.config = recording, recording.config
        self.budget, self.edits = budget, edits or {}
        like = recording.stream(0)
        self.x = like.new_empty(budget.rows, self.config.d_model)
        # variant, prompt and position of each row
        self.rows = torch.empty(3, budget.rows, dtype=torch.long, device=like.device)
        self.groups: dict[tuple[int, int, int], Group] = {}
        self.n_rows = self.n_runs = 0

    def join(self, runs: EnteringRuns, stage: int, span: AffectedSpan) -> int:
        """Takes in as many of the runs as there is room for, and returns their number."""
        if stage > last_attention(self.config):
            at = range(span.read, span.read + 1)
        else:
            at = read_by(self.config, runs.first, range(span.positions.stop))
        n_pos, lead = len(at), runs.first - at.start
        count = min(len(runs.variants), (len(self.x) - self.n_rows) // n_pos)
        if count == 0:
            return 0
        end = self.n_rows + count * n_pos
        x = self.x[self.n_rows : end].unflatten(0, (count, n_pos))
        x[:] = self.recording.stream(stage)[runs.prompt, at.start : at.stop]
        x[:, lead : lead + runs.delta.shape[1]] += runs.delta[:count]
        rows = self.rows[:, self.n_rows : end].unflatten(1, (count, n_pos))
        rows[0], rows[1] = runs.variants[:count, None].to(rows.device), runs.prompt
        rows[2] = torch.arange(at.start, at.stop, device=rows.device)
        self._add((at.start, at.stop - 1, span.read), torch.arange(self.n_rows, end, n_pos))
        self.n_rows, self.n_runs = end, self.n_runs + count
        return count

    def _add(self, key: tuple[int, int, int], start: Int[Tensor, " run"]) -> None:
        before = [self.groups[key].start] if key in self.groups else []
        self.groups[key] = Group(*key, torch.cat([*before, start]), self.x.device, self.budget.keys)

    def advance(self, stage: int) -> None:
        """Half a layer down; a whole one if attention and MLP read the same stream."""
        self.recording.forget()
        half, layer = halves(self.config)[stage % 2], stage // 2
        if self.n_rows == 0 or not half:
            return
        weights, z = self.recording.weights.layers[layer], self.x
        if self.edits:
            self._edit_stream(stage)
        if "attention" in half:
            z = self._attention(stage)
        for rows in self._chunks():
            tap = self._tap(self.rows[:, rows]) if self.edits else untapped
            self.x[rows] = half_block(
                self.config,
                stage % 2,
                self.x[rows],
                lambda _, rows=rows, tap=tap: tap("attn_out", layer, attention_output(weights, z[rows])),
                lambda x, tap=tap: mlp(self.config, weights, tap("mlp_in", layer, x), tap, layer),
            )

    def landed(self) -> tuple[Int[Tensor, " run"], Int[Tensor, " run"], Float[Tensor, "run d_model"]]:
        """After the last stage: each run's variant and prompt, and its residual stream where the metric reads."""
        if self.edits:
            self._edit_stream(2 * self.config.n_layers)
        return self.rows[0, : self.n_rows], self.rows[1, : self.n_rows], self.x[: self.n_rows]

    def _tap(self, rows: Int[Tensor, "3 *row"], queries: slice = slice(None)) -> Tap:
        """A tap that makes the edits in these rows. Of `z` and the pattern only the `queries` are there."""

        def tap(site: str, layer: int, value: Tensor) -> Tensor:
            if (site, layer) not in self.edits:
                return value
            there = rows[..., queries] if site in ("scores", "pattern", "z") else rows
            return self.edits[site, layer](value, Rows(*there))

        return tap

    def _edit_stream(self, stage: int) -> None:
        """Edits of the residual stream before a stage."""
        layer, half = divmod(stage, 2)
        keys = [("resid_mid", layer)] if half else [("resid_post", layer - 1), ("resid_pre", layer)]
        for key in keys:
            for rows in self._chunks():
                self.x[rows] = self._tap(self.rows[:, rows])(*key, self.x[rows])

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, self.n_rows, self.budget.chunk):
            yield slice(start, min(start + self.budget.chunk, self.n_rows))

    def _attention(self, stage: int) -> Float[Tensor, "row head d_head"]:
        """`z` of all rows in flight. In the last layer the rows that are not read leave the wavefront on the way."""
        config, layer = self.config, stage // 2
        weights = self.recording.weights.layers[layer]
        qkv = self.x.new_empty(self.n_rows, weights.w_qkv.shape[0])
        for rows in self._chunks():
            qkv[rows] = project(config, weights, self.x[rows])
            if ("qkv", layer) in self.edits:
                qkv[rows] = self._tap(self.rows[:, rows])("qkv", layer, qkv[rows])
        if stage == last_attention(config):
            return self._attention_where_read(layer, qkv)
        z = self.x.new_empty(self.n_rows, config.n_heads, config.d_head)
        for group in self.groups.values():
            for block in group.blocks:
                z[block.index] = self._attend(layer, group, block, qkv, slice(None)).flatten(0, 1)
        return z

    def _attention_where_read(self, layer: int, qkv: Float[Tensor, "row qkv"]) -> Float[Tensor, "run head d_head"]:
        """As `_attention`, only at the position that is read: of each run this row is left."""
        groups, x, rows, z = self.groups, [], [], []
        self.groups, self.n_rows = {}, 0
        for group in groups.values():
            at = group.read - group.first
            for block in group.blocks:
                z.append(self._attend(layer, group, block, qkv, slice(at, at + 1))[:, 0])
                x.append(block.of(self.x)[:, at])
                rows.append(block.of(self.rows.T)[:, at])
            start = torch.arange(self.n_rows, self.n_rows + len(group.start))
            self._add((group.read, group.read, group.read), start)
            self.n_rows += len(start)
        self.x[: self.n_rows], self.rows[:, : self.n_rows] = torch.cat(x), torch.cat(rows).T
        return torch.cat(z)

    def _attend(
        self, layer: int, group: Group, block: Block, qkv: Float[Tensor, "row qkv"], queries: slice
    ) -> Float[Tensor, "run q_pos head d_head"]:
        """Attention of some runs of a group over the recipient's prefix and their own keys and values."""
        rows, prefix = torch.stack([block.of(each) for each in self.rows]), None
        prompt = rows[1, :, 0]
        if group.first:
            keys, values = self.recording.prefix(layer)
            prefix = keys[prompt, :, : group.first], values[prompt, :, : group.first]
        return attention_z(
            self.config,
            block.of(qkv),
            self.recording.inputs.take(prompt, group.last + 1),
            self._tap(rows, queries) if self.edits else untapped,
            layer,
            first=group.first,
            prefix=prefix,
            queries=queries,
        )
