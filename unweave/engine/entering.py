"""Runs that enter the wavefront at one stage, made of a grid and one prompt."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.context import AffectedSpan, entry_stage, last_attention
from unweave.engine.grid import NodeGrid
from unweave.engine.recording import ATTENTION_SITES, Recording
from unweave.models.forward import read_by


@dataclass(frozen=True)
class EnteringRuns:
    """Runs of one prompt, changed from position `first` on; `delta` covers those from there, and is 0 behind."""

    variants: Int[Tensor, " run"]
    prompt: int
    first: int
    delta: Float[Tensor, "run lead d_model"]

    @staticmethod
    def unchanged(variants: Int[Tensor, " run"], prompt: int, first: int, like: Tensor) -> "EnteringRuns":
        """Runs that enter as the recipient's, to be edited in flight."""
        return EnteringRuns(variants, prompt, first, like.new_zeros(1, 0, like.shape[-1]).expand(len(variants), -1, -1))

    def rest(self, done: int) -> "EnteringRuns":
        """Without the first `done` runs."""
        return self if done == 0 else replace(self, variants=self.variants[done:], delta=self.delta[done:])


def entering(grid: NodeGrid, prompt: int, recording: Recording, span: AffectedSpan) -> Iterator[EnteringRuns]:
    """The runs of a grid for one prompt that can matter. What is left out has exactly the recipient's score."""
    stage = entry_stage(recording.config, grid.site, grid.layer)
    for variants, first, delta in _changes(grid, prompt, recording, span):
        if stage > last_attention(recording.config):
            if not first <= span.read < first + delta.shape[1]:
                continue
            at = span.read - first
            first, delta = span.read, delta[:, at : at + 1]
        matters = delta.flatten(1).any(1).cpu()
        if matters.any():
            yield EnteringRuns(variants[matters], prompt, first, delta if matters.all() else delta[matters])


Change = tuple[Int[Tensor, " run"], int, Float[Tensor, "run lead d_model"]]


def _changes(grid: NodeGrid, prompt: int, recording: Recording, span: AffectedSpan) -> Iterator[Change]:
    """Variants, first position and change, one for each place of the grid in the affected span."""
    positions = span.positions
    if not positions:
        return
    numbers = torch.arange(grid.offset, grid.offset + grid.size).view(grid.shape)
    if grid.places is None:
        yield numbers[:, 0, 0], positions.start, _written(grid, prompt, positions, recording)
        return
    for index, place in enumerate(grid.places[:, prompt].tolist()):
        if place not in positions:
            continue
        if grid.sources is not None:
            yield numbers[:, index].flatten(), place, _written_by_sources(grid, prompt, place, recording)
        else:
            changed = range(place, place + 1)
            if grid.site in ("k", "v"):  # other positions read it too
                changed = read_by(recording.config, place, positions)
            yield numbers[:, index, 0], changed.start, _written(grid, prompt, changed, recording, place)


def _written(
    grid: NodeGrid, prompt: int, positions: range, recording: Recording, place: int | None = None
) -> Float[Tensor, "part lead d_model"]:
    """What the donor's value at these positions writes to the residual stream, for each part of the grid."""
    span = slice(positions.start, positions.stop)
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


def _written_by_sources(
    grid: NodeGrid, prompt: int, place: int, recording: Recording
) -> Float[Tensor, "run 1 d_model"]:
    """As `_written`, for single entries of the pattern's row at `place`."""
    assert grid.sources is not None
    change = recording.source_change(grid.layer, prompt, place, grid.sources[:, prompt])
    written = recording.written_by_heads(grid.layer, change, False, grid.parts)
    return rearrange(written, "part source d -> (part source) 1 d")
