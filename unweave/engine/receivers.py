"""Receivers of path patching: which inputs take a sender's change, at which stages and positions they read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Int
from torch import Tensor

from unweave.engine.reach import Reach
from unweave.models.config import Config
from unweave.models.forward import reads, stage_read


@dataclass(frozen=True)
class Receivers:
    """Columns of the fused queries, keys and values that receive, by layer, and layers whose MLP's input does.

    Where there are neither, the logits receive. `places[prompt]` is the one position where they receive; None stands
    for all. `live` says that receiving heads, at all positions, go on with what they read while inputs are read.
    """

    columns: Mapping[int, Int[Tensor, " column"]] = field(default_factory=dict)
    mlps: tuple[int, ...] = ()
    places: Int[Tensor, " prompt"] | None = None
    live: bool = False

    @property
    def logits(self) -> bool:
        return not self.columns and not self.mlps

    def stages(self, config: Config) -> list[int]:
        """The stages where the receivers read, in order."""
        attention = {stage_read(config, "attention", layer) for layer in self.columns}
        return sorted(attention | {stage_read(config, "mlp", layer) for layer in self.mlps})

    def acting(self, config: Config) -> list[int]:
        """The layers whose live heads come before another receiver."""
        last = self.stages(config)[-1] if self.live and not self.logits else 0
        return [layer for layer in self.columns if 2 * layer < last]

    def wanted(self, config: Config, prompt: int, reach: Reach, batch: Sequence[int]) -> Sequence[int]:
        """The positions of a prompt of the batch that lead to a receiver."""
        first, last = reach.first[prompt], reach.last[prompt]
        if self.logits:
            return [reach.read[prompt]] if first <= last else []
        at = range(first, last + 1)
        if self.places is None:
            return at
        place = int(self.places[batch[prompt]])
        if place not in at:
            return []
        if not self.acting(config):
            return [place]
        return reads(config, place, at)
