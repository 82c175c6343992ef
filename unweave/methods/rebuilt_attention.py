"""A first-layer head's attention rebuilt from the embeddings: from only tokens, and from tokens with their positions.

The first layer is run by itself, with weights taken away: the biases of queries and keys (and the shift of their norm),
and for only tokens the positions too, or the rotation. Each stream has its norm's own scale. Next to both stands the
model's own pattern, so that it can be seen what tokens, positions and biases have to do with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from unweave.engine.reading import read_sites
from unweave.errors import InputError
from unweave.methods.targets import NodeName, head_of
from unweave.methods.to_xarray import run_to_xarray
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.models.run import Key
from unweave.nodes import head_name
from unweave.progress import Progress, part, shown
from unweave.registry import Method, register

REBUILT = register(
    Method(
        "rebuilt attention",
        quantity="attention",
        unit="share",
        zero="does not look there",
        one="looks only there",
        picture="unweave.views.classifier_pictures:rebuilt_blocks",
        dims=("prompt", "address", "q_pos", "k_pos"),
    )
)

KINDS = ("tokens alone", "tokens and positions", "the model")


def rebuilt_attention(
    model: Model,
    prompts: Prompts | str | Sequence[str] | Int[Tensor, "prompt pos"],
    head: NodeName,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Where a head of the first layer looks, by only the tokens, and by tokens with positions.

    Args:
        model: any model.
        prompts: prompts, texts, or token ids `[prompt pos]`.
        head: `(0, head)` or `"0.3"`.
        memory, progress: as in `patch`.

    Returns:
        Patterns `[prompt, address, q_pos, k_pos]`, where `address` is `0.3 tokens alone`, `0.3 tokens and positions`
        and `0.3 the model`; each row sums to 1.

    Raises:
        InputError: a head of a later layer, which reads more than embeddings; prompts that do not fit the model.
    """
    layer, number = head_of(model.config, head)
    if layer:
        raise InputError(
            f"head: {head_name((layer, number))} reads what layers before it wrote; give a head of layer 0"
        )
    batch = model.prompts(prompts)
    kept = [_bare(model, positions=False), _bare(model, positions=True), model]
    first = ("pattern", 0)

    def pick(key: Key, value: Tensor, rows: slice) -> Tensor:
        return value[:, number].clone()  # a view would keep the whole value

    with shown(progress, "reading") as report:
        parts = [part(report, n, len(kept)) for n in range(len(kept))]
        read = [read_sites(one, batch, [first], pick, memory, tell) for one, tell in zip(kept, parts, strict=True)]
    places = range(batch.tokens.shape[1])
    axes = {"address": [f"0.{number} {kind}" for kind in KINDS], "q_pos": places, "k_pos": places}
    attrs = REBUILT.attrs(notes="biases are left out, but for the model's own pattern")
    return run_to_xarray(model, batch, torch.stack([each[first] for each in read], 1), axes, attrs)


def _bare(model: Model, positions: bool) -> Model:
    """Only the first layer, without biases, and without positions if asked."""
    weights, first = model.weights, model.weights.layers[0]
    layer = replace(first, norm1=replace(first.norm1, bias=None), b_qkv=None)
    bare = replace(weights, layers=(layer,))
    if not positions:
        w_pos, turns = weights.w_pos, weights.rotary_freq
        bare = replace(
            bare,
            w_pos=None if w_pos is None else torch.zeros_like(w_pos),
            rotary_freq=None if turns is None else torch.zeros_like(turns),
        )
    return replace(model, config=replace(model.config, n_layers=1), weights=bare)
