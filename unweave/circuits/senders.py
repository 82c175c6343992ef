"""Which heads act through some inputs: all of them on a few prompts first, the likely ones on every prompt.

A path patch of every head of a model through one input costs as many runs as there are heads, and most effects are
close to 0. So:

1. every head is tried on a few prompts, evenly spaced;
2. a head whose effect reaches half the threshold in any of them is run on every prompt, and that is what counts;
3. the others have effect 0 in the table. They stay in it, so that p-values are adjusted for every head that was tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from unweave.methods.frame import labelled
from unweave.methods.path_patching import Receiver, path_patch
from unweave.metrics.contrast import Contrast

if TYPE_CHECKING:
    import xarray as xr


def sender_effects(
    pair: Contrast,
    receivers: Sequence[Receiver],
    role: str,
    threshold: float,
    screen: int,
    memory: int | float | None = None,
) -> xr.DataArray:
    """Effects of all heads through the receivers, `(prompt, layer, head)`, as shares of the pair's gap.

    Args:
        pair, receivers, role, memory: as in `path_patch`; sender and receiver stand at the role.
        threshold: the smallest mean effect of interest.
        screen: prompts on which all heads are tried first; 0, or as many as there are, runs all heads on every prompt.
    """
    if not 0 < screen < len(pair.prompts):
        return path_patch(pair, receivers, at=role, memory=memory, progress=False)
    few = _some(pair, screen)
    tried = path_patch(few, receivers, at=role, memory=memory, progress=False)
    reached = abs(tried.values * few.gap / pair.gap).max(0) >= threshold / 2
    likely = [(int(layer), int(head)) for layer, head in np.argwhere(reached)]
    effects = torch.zeros(len(pair.prompts), *reached.shape, dtype=pair.clean.dtype)
    attrs = {**tried.attrs, "n_prompts": len(pair.prompts)}
    if likely:
        run = path_patch(pair, receivers, likely, role, memory=memory, progress=False)
        layers, heads = np.transpose(likely)
        effects[:, layers, heads] = torch.from_numpy(run.values)
    axes = {name: tried[name].values.tolist() for name in ("layer", "head")}
    return labelled(pair, effects, axes, attrs, pair.prompts)


def _some(pair: Contrast, count: int) -> Contrast:
    """The pair on a few of its prompts, evenly spaced."""
    at = np.linspace(0, len(pair.prompts) - 1, count).round().astype(int).tolist()
    return Contrast(pair.model, pair.prompts.take(at), pair.corrupted.take(at), pair.metric)
