"""Which heads act through some inputs: all of them on a few prompts first, the likely ones on every prompt.

A path patch of every head of a model through one input costs as many runs as there are heads, and most effects are
close to 0. So:

1. every head is tried on a few prompts, evenly spaced;
2. a head whose effect reaches half the threshold in any of them is run on every prompt, and that is what counts;
3. the others have effect 0 in the table, and count as no test.

Which heads are run on every prompt depends on how large their effects are, never on the sign. So their sign-flip
p-values, which take the sizes as given, mean what they say, and are adjusted over only these heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool
from torch import Tensor

from unweave.errors import InputError
from unweave.methods.path_patching import path_patch
from unweave.methods.to_xarray import to_xarray
from unweave.metrics.contrast import Contrast
from unweave.nodes import Head, Node


@final
class Senders:
    """The heads of a pair's model as senders, asked about again and again.

    Args:
        pair, memory: as in `path_patch`.
        threshold: the smallest mean effect of interest.
        screen: prompts on which all heads are tried first; 0, or as many as there are, runs all heads on every prompt,
            and so do prompts that score as their corrupted ones.
        own: by role, the prompts where effects at it count (see `unweave.circuits.sketch`); elsewhere they are 0.
    """

    def __init__(
        self,
        pair: Contrast,
        threshold: float,
        screen: int,
        memory: int | float | None = None,
        own: Mapping[str, Bool[Tensor, " prompt"]] | None = None,
    ) -> None:
        self.pair, self.threshold, self.memory, self.own = pair, threshold, memory, own or {}
        at = np.linspace(0, len(pair.prompts) - 1, screen).round().astype(int).tolist()
        self.few = _some(pair, at) if 0 < screen < len(pair.prompts) else None
        self.tried = at

    def direct(self, role: str) -> xr.DataArray:
        """Direct effects of all heads at a role on the logits, `(prompt, layer, head)`."""
        return self._patch(self.pair, "logits", "heads", role)

    def effects(self, receivers: Sequence[Node], role: str) -> xr.DataArray:
        """Effects of all heads through the receivers, `(prompt, layer, head)`; both stand at a role."""
        if self.few is None:
            return self._patch(self.pair, receivers, "heads", role)
        tried = self._patch(self.few, receivers, "heads", role)
        # a head with an effect that is NaN is no small one
        reached = ~(abs(tried.values * self.few.gap / self.pair.gap).max(0) < self.threshold / 2)
        likely = [(int(layer), int(head)) for layer, head in np.argwhere(reached)]
        effects = torch.zeros(len(self.pair.prompts), *reached.shape, dtype=self.pair.clean_scores.dtype)
        if likely:
            layers, heads = np.transpose(likely)
            effects[:, layers, heads] = torch.from_numpy(self.through(receivers, likely, role).values)
        axes = {name: tried[name].values.tolist() for name in ("layer", "head")}
        about = {
            "n_prompts": len(self.pair.prompts),
            "gap": self.pair.gap,
            "clean_mean": float(self.pair.clean_scores.mean()),
        }
        attrs = {**tried.attrs, **about}
        return to_xarray(self.pair, effects, axes, attrs, self.pair.prompts)

    def through(self, receivers: str | Sequence[Node], senders: Sequence[Head], role: str) -> xr.DataArray:
        """Effects of some heads, `(prompt, sender)`, on every prompt."""
        return self._patch(self.pair, receivers, list(senders), role)

    def _patch(
        self, pair: Contrast, receivers: str | Sequence[Node], senders: str | Sequence[Head], role: str
    ) -> xr.DataArray:
        effects = path_patch(pair, receivers, senders, at=role, memory=self.memory, progress=False)
        if role not in self.own:
            return effects
        counts = self.own[role].cpu().numpy()[slice(None) if pair is self.pair else self.tried]
        return effects.where(xr.DataArray(counts, dims="prompt"), 0.0)


def _some(pair: Contrast, at: Sequence[int]) -> Contrast | None:
    """The pair on a few of its prompts; None where these score alike, which leaves no scale."""
    try:
        return Contrast(pair.model, pair.prompts.take(at), pair.corrupted.take(at), pair.metric)
    except InputError:
        return None
