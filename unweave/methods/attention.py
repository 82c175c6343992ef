"""Attention patterns of chosen heads, labelled for the attention view."""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from unweave.engine.reading import read_sites
from unweave.methods.targets import Nodes, heads_of
from unweave.methods.to_xarray import to_xarray
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.run import Key
from unweave.nodes import head_name
from unweave.progress import Progress
from unweave.registry import LOOKS, Method, register

ATTENTION = register(
    Method(
        "attention",
        LOOKS,
        quantity="attention",
        unit="share",
        zero="does not look there",
        one="looks only there",
        picture="unweave.views.attention_view:attention_blocks",
        dims=("prompt", "address", "q_pos", "k_pos"),
        reads_roles=True,
    )
)


def attention(
    pair: Contrast,
    heads: Nodes,
    prompts: str = "clean",
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Where heads look.

    Args:
        pair: model and prompts.
        heads: `(23, 3)` or `"23.3"`, one or a list, shown in this order.
        prompts: which of the two sets is run.
        memory, progress: as in `patch`.

    Returns:
        Patterns `[prompt, address, q_pos, k_pos]`, addresses written `"23.3"`; each row sums to 1. NaN beyond a
        prompt's end.

    Raises:
        InputError: no head given, one that the model lacks, or one that is named twice.
    """
    check_pair(pair)
    chosen = heads_of(pair.model.config, heads)
    shown = pair.side(prompts)
    of_layer = {layer: [head for n, head in chosen if n == layer] for layer, _ in chosen}

    def pick(key: Key, value: Tensor, rows: slice) -> Tensor:
        return value[:, of_layer[key[1]]]

    found = read_sites(pair.model, shown, [("pattern", layer) for layer in of_layer], pick, memory, progress)
    patterns = torch.stack([found["pattern", n][:, of_layer[n].index(head)] for n, head in chosen], dim=1)
    places = range(shown.tokens.shape[1])
    axes = {"address": [head_name(head) for head in chosen], "q_pos": places, "k_pos": places}
    return to_xarray(pair, patterns, axes, ATTENTION.attrs(prompts=prompts), shown)
