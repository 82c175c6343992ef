"""Patches as runs for the executor: grids of nodes, whose runs enter changed, and joint patches, edited in flight.

A variant is one patched run of every prompt. A grid holds variants at one site and layer: one for each head, place and
source, in this order, for the axes that the grid has. A place is a position of each prompt, the same for all (over
positions) or its own (a role). Steps:

1. Recipient and donor are recorded for a batch of prompts, in half of the budget.
2. A grid gives a work item for each of its pieces and prompts: runs that enter with what the donor's value writes to
   the stream in place of the recipient's.
3. A joint patch gives a work item for each prompt: a run that enters unchanged before its first node, and takes the
   donor's value at each of its nodes as it passes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.context import AffectedSpan, PatchContext, entry_stage, last_attention
from unweave.engine.executor import Batch, Portion, Runs, WorkItem
from unweave.engine.memory import recording_bytes, row_budget
from unweave.engine.recording import ATTENTION_SITES, Recording, record, sites_to_keep
from unweave.engine.wavefront import EditsInFlight, EnteringRuns, Rows
from unweave.models.config import Config
from unweave.models.forward import read_by, stage_read
from unweave.models.run import Key
from unweave.models.sites import SITES


@dataclass(frozen=True)
class NodeGrid:
    """Variants `offset … offset + size` of the runs.

    Args:
        parts: heads (kv heads for `k` and `v`) or neurons patched one by one; None patches all of them together.
        places: positions patched one by one, `[place prompt]`; None patches all positions together. For `pattern` these
            are destinations.
        sources: for `pattern`, source positions patched one by one, `[source prompt]`; None patches the whole row.
        also: a joint patch: what its only variant patches as well, the first variant of each.
    """

    site: str
    layer: int
    offset: int = 0
    parts: tuple[int, ...] | None = None
    places: Int[Tensor, "place prompt"] | None = None
    sources: Int[Tensor, "source prompt"] | None = None
    also: "tuple[NodeGrid, ...]" = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Parts, places and sources; 1 if the grid lacks the axis."""
        return tuple(1 if axis is None else len(axis) for axis in (self.parts, self.places, self.sources))

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def members(self) -> "tuple[NodeGrid, ...]":
        """Itself, and what is patched with it, under its number."""
        return (self, *(replace(grid, offset=self.offset) for grid in self.also))

    @property
    def variants(self) -> Int[Tensor, " variant"]:
        """The numbers of its variants."""
        return torch.arange(self.offset, self.offset + self.size)

    def of(self, prompts: range) -> "NodeGrid":
        """The same variants of some prompts only."""
        places, sources = (None if at is None else at[:, list(prompts)] for at in (self.places, self.sources))
        return replace(self, places=places, sources=sources, also=tuple(grid.of(prompts) for grid in self.also))

    def pieces(self, most: int) -> "Iterator[NodeGrid]":
        """The same variants as grids of which each has at most `most` at one place, or one part."""
        step = max(1, most // self.shape[2])
        if self.parts is None or len(self.parts) <= step:
            yield self
            return
        each = self.size // len(self.parts)
        for start in range(0, len(self.parts), step):
            yield replace(self, parts=self.parts[start : start + step], offset=self.offset + start * each)


def patch_runs(context: PatchContext, patches: Sequence[NodeGrid]) -> Runs:
    """A run for each variant of the patches and each prompt."""
    config, n_pos = context.config, context.recipient.tokens.shape[1]
    patched = list(dict.fromkeys((grid.site, grid.layer) for patch in patches for grid in patch.members))
    kept = [key for keys in sites_to_keep(config, patched) for key in keys]

    def prepared(prompts: range, budget: int) -> Batch:
        recording = record(config, context.weights, context.own, context.donor, prompts, patched)
        rows, spans = row_budget(config, budget // 2, context.itemsize, n_pos), context.spans(prompts)
        most, taken = rows.rows // n_pos, [patch.of(prompts) for patch in patches]
        variants = torch.cat([patch.variants for patch in taken])
        joint = [patch for patch in taken if patch.also]

        def portion(pieces: range) -> Portion:
            items = (item for patch in taken for item in _items(patch, recording, spans, most))
            return Portion(variants, items, _edits(joint, recording) if joint else {})

        return Batch(recording, spans, rows, portion)

    size = sum(patch.size for patch in patches)
    return Runs(context, size, 2 * recording_bytes(config, n_pos, kept, context.itemsize), prepared)


def _items(patch: NodeGrid, recording: Recording, spans: Sequence[AffectedSpan], most: int) -> Iterator[WorkItem]:
    """A patch's work items, of `most` variants or one."""
    if patch.also:
        stage = min(first_stage(recording.config, grid.site, grid.layer) for grid in patch.members)
    else:
        stage = entry_stage(recording.config, patch.site, patch.layer)
    for piece in patch.pieces(most):
        for prompt, span in enumerate(spans):
            runs = partial(_joint_run if patch.also else entering, piece, prompt, recording, span)
            yield WorkItem(stage, prompt, piece.variants, runs)


def entering(grid: NodeGrid, prompt: int, recording: Recording, span: AffectedSpan) -> Iterator[EnteringRuns]:
    """The runs of a grid for one prompt that can matter. What is left out has exactly the recipient's score."""
    config, positions = recording.config, span.positions
    at_end = entry_stage(config, grid.site, grid.layer) > last_attention(config)
    numbers = torch.arange(grid.offset, grid.offset + grid.size).view(grid.shape)
    for index, place in enumerate([None] if grid.places is None else grid.places[:, prompt].tolist()):
        changed = positions if place is None else range(place, place + 1)
        if not positions or (place is not None and place not in positions):
            continue
        if place is not None and grid.site in ("k", "v"):  # other positions read it too
            changed = read_by(config, place, positions)
        first, delta = changed.start, _written(grid, prompt, changed, recording, place)
        if at_end:
            if span.read not in range(first, first + delta.shape[1]):
                continue
            delta = delta[:, span.read - first : span.read - first + 1]
            first = span.read
        matters = delta.flatten(1).any(1).cpu()
        if matters.any():
            delta = delta if matters.all() else delta[matters]
            yield EnteringRuns(numbers[:, index].flatten()[matters], prompt, first, delta)


def _written(
    grid: NodeGrid, prompt: int, positions: range, recording: Recording, place: int | None
) -> Float[Tensor, "run lead d_model"]:
    """What the donor's value at these positions writes to the residual stream, for each part (and source) of a grid."""
    span = slice(positions.start, positions.stop)
    if grid.sources is not None and place is not None:
        change = recording.source_change(grid.layer, prompt, place, grid.sources[:, prompt])
        written = recording.written_by_heads(grid.layer, change, False, grid.parts)
        return rearrange(written, "part source d -> (part source) 1 d")
    if grid.site in ATTENTION_SITES:
        change = recording.head_change(grid.site, grid.layer, prompt, place)[span]
        return recording.written_by_heads(grid.layer, change, grid.site in ("k", "v"), grid.parts)
    change = recording.difference(grid.site, grid.layer)[prompt, span]
    if grid.site != "mlp_post":
        return change[None]
    w_out = recording.weights.layers[grid.layer].w_out
    assert w_out is not None
    if grid.parts is None:
        return (change @ w_out.T)[None]
    chosen = list(grid.parts)
    return change[:, chosen].T[:, :, None] * w_out[:, chosen].T[:, None, :]


def _joint_run(patch: NodeGrid, prompt: int, recording: Recording, span: AffectedSpan) -> Iterator[EnteringRuns]:
    """The run, if any node by itself would change the score: if none does, later ones meet an unchanged run."""
    if any(True for grid in patch.members for _ in entering(grid, prompt, recording, span)):
        yield EnteringRuns.unchanged(patch.variants, prompt, span.positions.start, recording.stream(0))


def first_stage(config: Config, site: str, layer: int) -> int:
    """The stage that a run must be in flight at, to be edited at a site."""
    if site.startswith("resid"):
        return entry_stage(config, site, layer)
    return stage_read(config, "mlp" if site.startswith("mlp") else "attention", layer)


def _edits(joint: Sequence[NodeGrid], recording: Recording) -> EditsInFlight:
    """The donor's values at the nodes of joint patches."""
    nodes: dict[Key, list[NodeGrid]] = {}
    for grid in (grid for patch in joint for grid in patch.members):
        nodes.setdefault((grid.site, grid.layer), []).append(grid)
    return {key: GivenValues(key[0], recording.donor[key], grids) for key, grids in nodes.items()}


@dataclass(frozen=True)
class GivenValues:
    """An edit in flight: `values[prompt, pos, …]` (of a pattern `[prompt head q_pos k_pos]`) at single nodes.

    Each of `nodes` stands for its first part and place, in the runs of its variant.
    """

    site: str
    values: Tensor
    nodes: Sequence[NodeGrid]

    def __call__(self, value: Tensor, rows: Rows) -> Tensor:
        if SITES[self.site].rows == "attention":  # a pattern's query comes second, as any position
            given = self.values.transpose(1, 2)[rows.prompt, rows.pos][..., : value.shape[-1]]
            return self._chosen(value.transpose(1, 2), given, rows).transpose(1, 2)
        return self._chosen(value, self.values[rows.prompt, rows.pos], rows)

    def _chosen(self, own: Tensor, given: Tensor, rows: Rows) -> Tensor:
        n_rows = rows.pos.ndim
        taken = torch.zeros(own.shape[: n_rows + 1], dtype=torch.bool, device=own.device)
        for node in self.nodes:
            there = rows.variant == node.offset
            if node.places is not None:
                there = there & (rows.pos == node.places[0].to(own.device)[rows.prompt])
            part = slice(None) if node.parts is None else slice(node.parts[0], node.parts[0] + 1)
            taken[..., part] |= there[..., None]
        return torch.where(taken[(..., *(None,) * (own.ndim - taken.ndim))], given, own)
