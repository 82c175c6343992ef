"""A first-layer head's attention rebuilt from the embeddings: from tokens alone, and from tokens with their positions.

Steps, for one sequence: the rows of W_E, without and with those of W_pos (rotary models: without and with the
rotation), each through the norm with its own scale; queries and keys without biases; scores, mask, softmax. Beside them
stands the model's own pattern, so that it can be seen what tokens, positions and biases have to do with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.methods.frame import labelled_run
from unweave.methods.heads import Head, head_name, parse_head
from unweave.models.forward import attention_pattern, attention_scores, norm, rotary_tables, rotate
from unweave.models.model import Model
from unweave.models.prompts import Prompts

if TYPE_CHECKING:
    import xarray as xr

KINDS = ("tokens alone", "tokens and positions", "the model")


def rebuilt_attention(
    model: Model, prompts: Prompts | str | Sequence[str] | Int[Tensor, "prompt pos"], head: Head | str
) -> xr.DataArray:
    """Where a head of the first layer looks, as far as tokens alone and tokens with positions say.

    Args:
        model: any model.
        prompts: prompts, texts, or token ids `[prompt pos]`.
        head: `(0, head)` or `"0.3"`.

    Returns:
        Patterns `[prompt, address, q_pos, k_pos]`, where `address` is `0.3 tokens alone`, `0.3 tokens and positions`
        and `0.3 the model`; each row sums to 1.

    Raises:
        InputError: a head of a later layer, which reads more than embeddings; prompts that do not fit the model.
    """
    layer, number = parse_head(model.config, head)
    if layer:
        raise InputError(
            f"head: {head_name((layer, number))} reads what layers before it wrote; give a head of layer 0"
        )
    batch = model.prompts(prompts)
    run = model.run(batch, keep=["embed", ("resid_pre", 0), ("pattern", 0)])
    turned = rotary_tables(model.weights, batch.tokens.shape[1], model.dtype)
    found = [
        _pattern(model, run["embed"], None)[:, number],
        _pattern(model, run["resid_pre", 0], turned)[:, number],
        run["pattern", 0][:, number],
    ]
    places = range(batch.tokens.shape[1])
    axes = {"address": [f"0.{number} {kind}" for kind in KINDS], "q_pos": places, "k_pos": places}
    attrs = {
        "method": "rebuilt attention",
        "quantity": "attention",
        "unit": "share",
        "zero": "does not look there",
        "one": "looks there alone",
        "notes": "biases are left out, but for the model's own pattern",
    }
    return labelled_run(model, batch, torch.stack(found, 1), axes, attrs)


def _pattern(
    model: Model,
    x: Float[Tensor, "prompt pos d_model"],
    tables: tuple[Float[Tensor, "pos half"], Float[Tensor, "pos half"]] | None,
) -> Float[Tensor, "prompt head q_pos k_pos"]:
    config, weights = model.config, model.weights.layers[0]
    read = norm(config, replace(weights.norm1, bias=None), x)
    both = weights.w_qkv[: (config.n_heads + config.n_kv_heads) * config.d_head]
    heads = rearrange(read @ both.mT, "prompt pos (head e) -> prompt head pos e", e=config.d_head)
    q, k = rotate(heads, tables).split([config.n_heads, config.n_kv_heads], dim=1)
    return attention_pattern(attention_scores(config, q, k))
