"""What a patch can still change: layers from its entry on, positions from the first difference to the one that is read.

Stages number the places where a change can enter the residual stream: `2 * layer` before a layer's attention,
`2 * layer + 1` before its MLP, and `2 * n_layers` after the last block. In a parallel block attention and MLP read
the same stream, so what either writes enters before the next layer.
"""

from dataclasses import dataclass

from unweave.models.config import Config


@dataclass(frozen=True)
class Reach:
    """Of each prompt: the first position where donor and recipient differ, and the one that the metric reads."""

    first: tuple[int, ...]
    last: tuple[int, ...]


def entry_stage(config: Config, site: str, layer: int) -> int:
    """The stage before which a change of this site enters the residual stream."""
    if site == "resid_pre":
        return 2 * layer
    if site in ("mlp_post", "mlp_out", "resid_post") or config.block == "parallel":
        return 2 * layer + 2
    return 2 * layer + 1


def last_attention(config: Config) -> int:
    """The stage of the last attention: what enters later matters only at the position that is read."""
    return 2 * config.n_layers - 2
