"""Arrivals: the patched runs that join the wavefront at one stage, made from a sheet and one prompt."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.reach import Reach, entry_stage, last_attention
from unweave.engine.recording import ATTENTION_SITES, Recording
from unweave.engine.sheet import Sheet
from unweave.models.forward import read_by


@dataclass(frozen=True)
class Arrival:
    """Runs of one prompt, changed from position `first` on; `delta` covers those from there, and is 0 behind."""

    variants: Int[Tensor, " run"]
    prompt: int
    first: int
    delta: Float[Tensor, "run lead d_model"]

    def rest(self, done: int) -> "Arrival":
        """Without the first `done` runs."""
        return self if done == 0 else replace(self, variants=self.variants[done:], delta=self.delta[done:])


def arrivals(sheet: Sheet, prompt: int, recording: Recording, reach: Reach) -> Iterator[Arrival]:
    """The runs of a sheet for one prompt that can matter. What is left out has exactly the recipient's score."""
    stage = entry_stage(recording.config, sheet.site, sheet.layer)
    read = reach.read[prompt]
    for variants, first, delta in _changes(sheet, prompt, recording, reach):
        if stage > last_attention(recording.config):
            if not first <= read < first + delta.shape[1]:
                continue
            first, delta = read, delta[:, read - first : read - first + 1]
        matters = delta.flatten(1).any(1).cpu()
        if matters.any():
            yield Arrival(variants[matters], prompt, first, delta if matters.all() else delta[matters])


Change = tuple[Int[Tensor, " run"], int, Float[Tensor, "run lead d_model"]]


def _changes(sheet: Sheet, prompt: int, recording: Recording, reach: Reach) -> Iterator[Change]:
    """Variants, first position and change, one for each place of the sheet that lies in reach."""
    first, last = reach.first[prompt], reach.last[prompt]
    if first > last:
        return
    numbers = torch.arange(sheet.offset, sheet.offset + sheet.size).view(sheet.shape)
    if sheet.places is None:
        span = slice(first, last + 1)
        yield numbers[:, 0, 0], first, _written(sheet, prompt, span, recording)
        return
    for index, place in enumerate(sheet.places[:, prompt].tolist()):
        if not first <= place <= last:
            continue
        if sheet.sources is not None:
            yield numbers[:, index].flatten(), place, _written_by_sources(sheet, prompt, place, recording)
        else:
            span = slice(place, place + 1)
            if sheet.site in ("k", "v"):  # read by later positions too, and by all where attention sees both ways
                reached = read_by(recording.config, place, range(first, last + 1))
                span = slice(reached.start, reached.stop)
            yield numbers[:, index, 0], span.start, _written(sheet, prompt, span, recording, place)


def _written(
    sheet: Sheet, prompt: int, span: slice, recording: Recording, place: int | None = None
) -> Float[Tensor, "part lead d_model"]:
    """What the donor's value at the positions of `span` writes to the residual stream, for each part of the sheet."""
    if sheet.site in ATTENTION_SITES:
        change = recording.head_change(sheet.site, sheet.layer, prompt, place)[span]
        return recording.written_by_heads(sheet.layer, change, sheet.site in ("k", "v"), sheet.parts)
    change = recording.difference(sheet.site, sheet.layer)[prompt, span]
    if sheet.site != "mlp_post":
        return change[None]
    w_out = recording.weights.layers[sheet.layer].w_out
    assert w_out is not None
    if sheet.parts is None:
        return (change @ w_out.T)[None]
    chosen = list(sheet.parts)
    return change[:, chosen].T[:, :, None] * w_out[:, chosen].T[:, None, :]


def _written_by_sources(sheet: Sheet, prompt: int, place: int, recording: Recording) -> Float[Tensor, "run 1 d_model"]:
    """As `_written`, for single entries of the pattern's row at `place`."""
    assert sheet.sources is not None
    change = recording.source_change(sheet.layer, prompt, place, sheet.sources[:, prompt])
    written = recording.written_by_heads(sheet.layer, change, False, sheet.parts)
    return rearrange(written, "part source d -> (part source) 1 d")
