"""What a patch can still change: layers from its entry on, positions from the first difference to the one that is read.

That holds of a causal model. Where attention sees both ways, a change anywhere may change every position of its prompt.

Stages number the places where a change can enter the residual stream: `2 * layer` before a layer's attention,
`2 * layer + 1` before its MLP, and `2 * n_layers` after the last block. In a parallel block attention and MLP read
the same stream, so what either writes enters before the next layer.
"""

from dataclasses import dataclass

from unweave.models.config import Config
from unweave.models.forward import read_by, stage_written


@dataclass(frozen=True)
class Reach:
    """Of each prompt: the `first` and `last` position that a patch may change, and the one that the metric `read`s.

    In a causal model these are the first where donor and recipient differ, and twice the one that is read; else the
    first and the last of the prompt. `first` lies behind `last` where nothing that differs can matter.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    read: tuple[int, ...]


def entry_stage(config: Config, site: str, layer: int) -> int:
    """The stage before which a change of this site enters the residual stream."""
    if site == "resid_pre":
        return 2 * layer
    if site == "resid_post":
        return 2 * layer + 2
    return stage_written(config, "mlp" if site in ("mlp_post", "mlp_out") else "attention", layer)


def last_attention(config: Config) -> int:
    """The stage of the last attention: what enters later matters only at the position that is read."""
    return 2 * config.n_layers - 2


def positions(config: Config, reach: Reach, prompt: int, first: int, stage: int) -> range:
    """The positions that a run of a prompt is computed at, when it is changed from `first` on before a stage."""
    if stage > last_attention(config):
        return range(reach.read[prompt], reach.read[prompt] + 1)
    return read_by(config, first, range(reach.last[prompt] + 1))
