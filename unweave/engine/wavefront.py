"""The wavefront: all patched runs in flight, advanced together down the network.

Each run is a block of rows, its positions from `first` to `last`. At a stage the rows in flight are advanced by half
a layer, and then the runs whose patch enters there join, as the recipient's residual stream plus their change:

- matrix products run once over the rows of all runs, in chunks that stay in the cache;
- attention runs in groups of equal first, last and read position, over the recipient's keys and values of the prefix
  and the run's own;
- in the last layer only the position that is read goes on;
- an edit in flight changes `z` of the runs at each layer, in place, before it is written to the stream.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.arrivals import Arrival
from unweave.engine.memory import CHUNK_KEYS, Room
from unweave.engine.reach import Reach, last_attention, positions
from unweave.engine.recording import Recording
from unweave.models.forward import attention_output, attention_z, half_block, halves, mlp, project


@dataclass(frozen=True)
class Group:
    """Runs of equal first, last and read position: of each the row where it starts, its prompt and its variant."""

    first: int
    last: int
    read: int
    start: Int[Tensor, " run"]
    prompt: Int[Tensor, " run"]
    variant: Int[Tensor, " run"]

    @property
    def n_pos(self) -> int:
        return self.last - self.first + 1

    def joined(self, other: "Group") -> "Group":
        """Both groups' runs."""
        pairs = ((self.start, other.start), (self.prompt, other.prompt), (self.variant, other.variant))
        return Group(self.first, self.last, self.read, *(torch.cat(pair) for pair in pairs))


@dataclass(frozen=True)
class Rows:
    """The rows of some runs of a group, run by run; a slice where they stand together, so that nothing is copied."""

    index: slice | Int[Tensor, " row"]
    n_pos: int
    prompt: Int[Tensor, " run"]
    variant: Int[Tensor, " run"]

    def of(self, buffer: Tensor) -> Tensor:
        """`[run pos …]` of a buffer `[row …]`."""
        return buffer[self.index].unflatten(0, (-1, self.n_pos))

    def put(self, buffer: Tensor, values: Tensor) -> None:
        """Puts values `[run pos …]` in their rows."""
        if isinstance(self.index, slice):
            self.of(buffer).copy_(values)
        else:
            buffer[self.index] = values.flatten(0, 1)


def rows_of(group: Group, keys: int = CHUNK_KEYS) -> Iterator[Rows]:
    """A group's rows, in portions of so many keys, which bound the memory of attention."""
    portion = max(1, keys // (group.last + 1))
    parts = (group.start.split(portion), group.prompt.split(portion), group.variant.split(portion))
    for start, prompt, variant in zip(*parts, strict=True):
        first, size = int(start[0]), len(start) * group.n_pos
        if int(start[-1]) - first == size - group.n_pos:  # starts only grow, so the runs stand together
            yield Rows(slice(first, first + size), group.n_pos, prompt, variant)
        else:
            steps = torch.arange(group.n_pos, device=start.device)
            yield Rows((start[:, None] + steps).flatten(), group.n_pos, prompt, variant)


@dataclass(frozen=True)
class Override:
    """Values in flight, whatever the stream says: columns of fused queries, keys and values, or an MLP's input.

    `row` says which of `values` a run has at a position, and -1 that it has the recipient's `own`. They stand at all
    positions of a run; with `places`, at one position of each prompt, which is all that `row` and `own` hold.
    """

    columns: Int[Tensor, " column"]
    values: Float[Tensor, "row column"]
    row: Int[Tensor, "variant prompt pos"]
    own: Float[Tensor, "prompt pos column"]
    places: Int[Tensor, " prompt"] | None = None

    def put(self, block: Float[Tensor, "run pos width"], group: Group, rows: Rows) -> None:
        """Puts the values of some runs of a group in their place."""
        if self.places is None:
            steps = torch.arange(group.first, group.last + 1, device=block.device)
            block[..., self.columns] = self._at(rows.variant[:, None], rows.prompt[:, None], steps)
            return
        step = self.places[rows.prompt] - group.first
        there = ((step >= 0) & (step < rows.n_pos)).nonzero()[:, 0]
        values = self._at(rows.variant[there], rows.prompt[there], torch.zeros_like(there))
        block[there[:, None], step[there][:, None], self.columns] = values

    def _at(
        self, variant: Int[Tensor, "*run"], prompt: Int[Tensor, "*run"], pos: Int[Tensor, "*pos"]
    ) -> Float[Tensor, "*at column"]:
        own, row = self.own[prompt, pos], self.row[variant, prompt, pos]
        return torch.where((row >= 0)[..., None], self.values[row.clamp_min(0)], own) if len(self.values) else own


# Is called at each layer with its number, `z` of all rows in flight, and the groups that they belong to.
EditInFlight = Callable[[int, Tensor, Collection[Group]], None]


class Wavefront:
    """Patched runs in flight, as many rows as there is room for.

    Made in flight: `overrides` of a layer's queries, keys and values, `mlp_inputs`, and `edit` of `z`.
    """

    def __init__(
        self,
        recording: Recording,
        room: Room,
        overrides: Mapping[int, Override] | None = None,
        mlp_inputs: Mapping[int, Override] | None = None,
        edit: EditInFlight | None = None,
    ) -> None:
        self.recording, self.config = recording, recording.config
        self.overrides, self.mlp_inputs, self.edit = overrides or {}, mlp_inputs or {}, edit
        self.room = room
        self.x = recording.stream(0).new_empty(room.rows, self.config.d_model)
        self.groups: dict[tuple[int, int, int], Group] = {}
        self.n_rows = self.n_runs = 0

    def join(self, arrival: Arrival, stage: int, reach: Reach) -> int:
        """Takes in as many of the arrival's runs as there is room for, and returns their number."""
        span = positions(self.config, reach, arrival.prompt, arrival.first, stage)
        n_pos, lead = len(span), arrival.first - span.start
        count = min(len(arrival.variants), (self.x.shape[0] - self.n_rows) // n_pos)
        if count == 0:
            return 0
        end = self.n_rows + count * n_pos
        rows = self.x[self.n_rows : end].unflatten(0, (count, n_pos))
        rows[:] = self.recording.stream(stage)[arrival.prompt, span.start : span.stop]
        rows[:, lead : lead + arrival.delta.shape[1]] += arrival.delta[:count]
        start = torch.arange(self.n_rows, end, n_pos, device=self.x.device)
        newcomers = Group(
            span.start,
            span.stop - 1,
            reach.read[arrival.prompt],
            start,
            torch.full_like(start, arrival.prompt),
            arrival.variants[:count].to(start.device),
        )
        self._add(newcomers)
        self.n_rows, self.n_runs = end, self.n_runs + count
        return count

    def _add(self, group: Group) -> None:
        key = (group.first, group.last, group.read)
        self.groups[key] = self.groups[key].joined(group) if key in self.groups else group

    def advance(self, stage: int) -> None:
        """Half a layer down; a whole one where attention and MLP read the same stream."""
        parts = halves(self.config)[stage % 2]
        if self.n_rows == 0 or not parts:
            return
        index, layer = stage // 2, self.recording.weights.layers[stage // 2]
        z = self._attention(stage) if "attention" in parts else None
        if z is not None and self.edit is not None:
            self.edit(index, z, self.groups.values())
        inputs = self._overridden(self.mlp_inputs[index]) if "mlp" in parts and index in self.mlp_inputs else self.x
        for rows in self._chunks():
            self.x[rows] = half_block(
                self.config,
                stage % 2,
                self.x[rows],
                lambda _, rows=rows: attention_output(layer, z[rows]),  # pyright: ignore[reportOptionalSubscript]
                lambda _, rows=rows: mlp(self.config, layer, inputs[rows]),
            )

    def landed(self) -> tuple[Int[Tensor, " run"], Int[Tensor, " run"], Float[Tensor, "run d_model"]]:
        """After the last stage: each run's variant and prompt, and its residual stream where the metric reads."""
        groups = list(self.groups.values())
        if not groups:
            none = torch.empty(0, dtype=torch.long, device=self.x.device)
            return none, none, self.x[:0]
        start = torch.cat([group.start for group in groups])
        return (
            torch.cat([group.variant for group in groups]),
            torch.cat([group.prompt for group in groups]),
            self.x[start],
        )

    def _override(self, edit: Override, buffer: Float[Tensor, "row width"]) -> None:
        """Puts the values of all runs in their place."""
        for group in self.groups.values():
            for rows in rows_of(group, self.room.keys):
                block = rows.of(buffer)
                edit.put(block, group, rows)
                if not isinstance(rows.index, slice):
                    rows.put(buffer, block)

    def _overridden(self, edit: Override) -> Float[Tensor, "row d_model"]:
        """The rows in flight, with the values of all runs in their place."""
        stream = self.x[: self.n_rows].clone()
        self._override(edit, stream)
        return stream

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, self.n_rows, self.room.chunk):
            yield slice(start, min(start + self.room.chunk, self.n_rows))

    def _attention(self, stage: int) -> Float[Tensor, "row head d_head"]:
        """`z` of all rows in flight. In the last layer the rows that are not read leave the wavefront on the way."""
        config, layer = self.config, stage // 2
        weights = self.recording.weights.layers[layer]
        qkv = self.x.new_empty(self.n_rows, weights.w_qkv.shape[0])
        for rows in self._chunks():
            qkv[rows] = project(config, weights, self.x[rows])
        if layer in self.overrides:
            self._override(self.overrides[layer], qkv)
        if stage == last_attention(config):
            return self._attention_where_read(layer, qkv)
        z = self.x.new_empty(self.n_rows, config.n_heads, config.d_head)
        for group in self.groups.values():
            for rows in rows_of(group, self.room.keys):
                rows.put(z, self._attend(layer, group, rows, qkv, slice(None)))
        return z

    def _attention_where_read(self, layer: int, qkv: Float[Tensor, "row qkv"]) -> Float[Tensor, "run head d_head"]:
        """As `_attention`, at the position that is read alone: of each run this row is left."""
        before, self.groups, self.n_rows = self.groups, {}, 0
        x, z = [], []
        for group in before.values():
            at = group.read - group.first
            for rows in rows_of(group, self.room.keys):
                z.append(self._attend(layer, group, rows, qkv, slice(at, at + 1))[:, 0])
                x.append(rows.of(self.x)[:, at])
            start = torch.arange(self.n_rows, self.n_rows + len(group.start), device=self.x.device)
            self._add(Group(group.read, group.read, group.read, start, group.prompt, group.variant))
            self.n_rows += len(start)
        self.x[: self.n_rows] = torch.cat(x)
        return torch.cat(z)

    def _attend(
        self, layer: int, group: Group, rows: Rows, qkv: Float[Tensor, "row qkv"], queries: slice
    ) -> Float[Tensor, "run q_pos head d_head"]:
        """Attention of some runs of a group over the recipient's prefix and their own keys and values."""
        prefix = None
        if group.first:
            k, v = (x[rows.prompt, :, : group.first] for x in self.recording.prefix(layer))
            prefix = k, v
        inputs = self.recording.inputs.take(rows.prompt, group.last + 1)
        return attention_z(
            self.config, rows.of(qkv), inputs, index=layer, first=group.first, prefix=prefix, queries=queries
        )
