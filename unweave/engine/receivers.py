"""Receivers of path patching: which inputs take a sender's change, at which stages and positions they read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Int
from torch import Tensor

from unweave.engine.context import AffectedSpan
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

    def wanted(self, config: Config, span: AffectedSpan, prompt: int) -> range:
        """The positions of a prompt that lead to a receiver."""
        at = span.positions
        if self.logits:
            return range(span.read, span.read + 1) if at else at
        if self.places is None:
            return at
        place = int(self.places[prompt])
        if place not in at:
            return range(0)
        return reads(config, place, at) if self.acting(config) else range(place, place + 1)
