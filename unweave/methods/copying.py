"""Copying through the OV circuit: whether a head that looks at a word raises, or lowers, that same word.

Wang et al. 2022 (arXiv 2211.00593), section 3.1 and appendix. Steps, for each word and head:

1. The word's embedding, and what the first MLP writes for it: `x = e + mlp_0(e)`. Positions and the first attention are
   left out. In a parallel block that MLP reads the embedding anyway; in a serial one this is an approximation.
2. `x` through the norm that the head's layer reads with (its shift left out), W_V and W_O, without biases; with a minus
   sign for the negative score.
3. The last norm and the unembedding. A word counts where it is among its own `top` largest logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import xarray as xr
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.methods.to_xarray import weights_to_xarray
from unweave.methods.weights.vocabulary import chosen_tokens
from unweave.models.forward import mlp, norm, stage_read, unembed
from unweave.models.model import Model, check_model
from unweave.models.precision import without_autocast
from unweave.registry import DOES, Method, register

COPYING = register(
    Method(
        "copying scores",
        DOES,
        quantity="share of words in their own top 5",
        unit="share",
        zero="copies none",
        one="copies all",
        picture="unweave.views.head_pictures:score_blocks",
        dims=("word", "score", "layer", "head"),
    )
)

SIGNS = ("copying", "negative copying")
# Logits that are held at once.
_AT_ONCE = 2**23


@without_autocast
def copying_scores(model: Model, words: Sequence[str] | Sequence[int] | Tensor, top: int = 5) -> xr.DataArray:
    """Whether each head copies each word, or its opposite.

    Args:
        model: a model whose outputs are its vocabulary.
        words: words of one token each (`" Mary"`), or token ids.
        top: how many of the largest logits count.

    Returns:
        1 where the word is among its own `top` largest logits and 0 where not, `[word, score, layer, head]`, where
        `score` is `copying` or `negative copying`. `uw.summary(scores, dim="word")` gives the shares.

    Raises:
        InputError: no word, a word of several tokens, a word given twice, or a model that answers with classes.
    """
    check_model(model)
    config = model.config
    if config.d_vocab_out != config.d_vocab:
        raise InputError(f"model: {config.name} answers with classes, so no word of its prompts can be copied")
    if not 1 <= top <= config.d_vocab:
        raise InputError(f"top: expected 1 to {config.d_vocab}, got {top}")
    tokens, names = chosen_tokens(model, words)
    with torch.no_grad():
        x = extended_embedding(model, tokens)
        table = torch.stack([_copied(model, layer, x, tokens, top) for layer in range(config.n_layers)], dim=2)
    coords = {
        "word": names,
        "score": list(SIGNS),
        "layer": list(range(config.n_layers)),
        "head": list(range(config.n_heads)),
    }
    note = "the first attention is left out before the first MLP" if stage_read(config, "mlp", 0) else ""
    attrs = COPYING.attrs(quantity=f"share of words in their own top {top}", n_words=len(names), notes=note)
    return weights_to_xarray(model, table.to(torch.float64), coords, attrs)


def extended_embedding(model: Model, tokens: Int[Tensor, " word"]) -> Float[Tensor, "word d_model"]:
    """Each word's embedding, and what the first MLP writes for it."""
    x = model.weights.w_e[tokens]
    return x + mlp(model.config, model.weights.layers[0], x) if model.config.d_mlp else x


def _copied(
    model: Model, layer: int, x: Float[Tensor, "word d_model"], tokens: Int[Tensor, " word"], top: int
) -> Bool[Tensor, "word score head"]:
    """Whether each head of a layer copies each word, and its opposite."""
    shift = unembed(model.weights, _final_shift(model, x[:1]))
    final = norm(model.config, replace(model.weights.norm_final, bias=None), _through_heads(model, layer, x))
    found = []
    for heads in final.split(max(1, _AT_ONCE // (len(tokens) * model.config.d_vocab))):
        # The last norm is odd but for its shift, so one product serves both signs.
        logits = unembed(replace(model.weights, b_u=None), heads)
        found.append(torch.stack([_among(sign * logits + shift, tokens, top) for sign in (1, -1)]))
    return rearrange(torch.cat(found, dim=1), "score head word -> word score head")


def _final_shift(model: Model, like: Float[Tensor, "1 d_model"]) -> Float[Tensor, "1 d_model"]:
    bias = model.weights.norm_final.bias
    return torch.zeros_like(like) if bias is None else bias[None]


def _through_heads(model: Model, layer: int, x: Float[Tensor, "word d_model"]) -> Float[Tensor, "head word d_model"]:
    """What each head of a layer writes when it looks at nothing but the word."""
    config, weights = model.config, model.weights.layers[layer]
    read = norm(config, replace(weights.norm1, bias=None), x)
    first = config.n_heads + config.n_kv_heads
    w_v = rearrange(weights.w_qkv, "(head e) d -> head e d", e=config.d_head)[first:]
    w_o = rearrange(weights.w_o, "d (head e) -> head e d", e=config.d_head)
    values = einsum(read, w_v, "word d, kv e d -> word kv e")
    values = values.repeat_interleave(config.heads_per_kv, dim=1)
    return einsum(values, w_o, "word head e, head e d -> head word d")


def _among(
    logits: Float[Tensor, "head word d_vocab"], tokens: Int[Tensor, " word"], top: int
) -> Bool[Tensor, "head word"]:
    """Whether at most `top` entries reach the word's own. Where all are equal, no word is copied."""
    own = logits.take_along_dim(tokens[None, :, None], dim=2)
    return (logits >= own).sum(2) <= top
