"""Which heads act through some inputs: the effect of all of them to first order, then that of the likely ones exactly.

A path patch of every head of a model through one input costs as many runs as there are heads, and most effects are
close to 0. So:

1. one backward pass estimates the effect of every head on every prompt (`unweave.engine.path_gradients`);
2. a head whose estimates are large enough is run on every prompt, and that is what counts;
3. the others are left out, and count as no test.

An estimate takes changes as small. On SmolLM2 and prompts of indirect objects the mean of its sizes over the prompts is
at least 0.57 times the mean effect of a head that is kept, whose signs agree; the mean with signs can be near 0, as
single estimates can have the wrong sign. So it is sizes that count, which the sign-flip test takes as given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import final

import torch
import xarray as xr
from jaxtyping import Bool
from torch import Tensor

from unweave.engine.context import context_of
from unweave.engine.path_gradients import foreseen, path_gradients
from unweave.methods.path_patching import path_patch, receiving
from unweave.metrics.contrast import Contrast
from unweave.nodes import Head, Node, head_name
from unweave.results.summary import summary

# A metric whose gradient foresees less of the change from clean to corrupted is run without estimates.
FORESEEN = 0.25


@final
class Senders:
    """The heads of a pair's model as senders, asked about again and again.

    Args:
        pair, memory: as in `path_patch`.
        least: the smallest mean size of the estimates, as a share of the gap, of a head that is run; 0 runs all heads.
        own: by role, the prompts where effects at it count (see `unweave.circuits.sketch`); elsewhere they are 0.
    """

    def __init__(
        self,
        pair: Contrast,
        least: float = 0.0,
        memory: int | float | None = None,
        own: Mapping[str, Bool[Tensor, " prompt"]] | None = None,
    ) -> None:
        self.pair, self.least, self.memory, self.own = pair, least, memory, own or {}

    def likely(self, receivers: Sequence[Node], role: str) -> list[Head]:
        """Heads that may act through the receivers; both stand at a role. All that come before the last of them, if the
        metric's gradient says little.
        """
        config = self.pair.model.config
        sizes = torch.full((max(node.layer for node in receivers), config.n_heads), float("nan"))
        if self.least > 0 and self._foresees:
            sizes = self._estimates(receivers, role).abs().mean(0)[: len(sizes)]
        return [(layer, head) for layer, head in (~(sizes < self.least)).nonzero().tolist()]  # NaN is not small

    @cached_property
    def _foresees(self) -> bool:
        """Whether gradients of the metric say what large changes do to it."""
        return foreseen(context_of(self.pair, "noise"), self.memory) >= FORESEEN

    def _estimates(self, receivers: Sequence[Node], role: str) -> Tensor:
        """First-order effects of all heads, as shares of the gap, `[prompt, layer, head]`."""
        pair = self.pair
        target = receiving(pair.model.config, receivers, pair.prompts.role(role).cpu(), live=False)
        found = path_gradients(context_of(pair, "noise"), target, self.memory).cpu() / pair.gap
        return found.where(self.own[role].cpu()[:, None, None], 0.0) if role in self.own else found

    def rows(self, receivers: str | Sequence[Node], senders: Sequence[Head], role: str) -> dict[Head, xr.Dataset]:
        """The summaries of some heads' effects on every prompt."""
        if not senders:
            return {}
        table = summary(self.effects(receivers, senders, role))
        return {sender: table.sel(sender=head_name(sender)) for sender in senders}

    def effects(self, receivers: str | Sequence[Node], senders: Sequence[Head], role: str) -> xr.DataArray:
        """Effects of some heads, `(prompt, sender)`, on every prompt."""
        effects = path_patch(self.pair, receivers, list(senders), at=role, memory=self.memory, progress=False)
        if role not in self.own:
            return effects
        return effects.where(xr.DataArray(self.own[role].cpu().numpy(), dims="prompt"), 0.0)
