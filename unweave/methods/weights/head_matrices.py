"""A head's circuits as factored matrices, and directions of answers: the linear parts of a model, read off its weights.

Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits". Of a head in layer l, for rows of the residual
stream (so that what is read stands on the left):

    QK = W_Q W_K^T    the score of a query's stream x and a key's stream y is  x QK y^T · score scale, before rotation
    OV = W_V W_O      what the head writes if it attends only to x is  x OV

A norm is its linear part times one number a position (1 / its scale). The linear part, weight and the mean taken off,
is folded in here, so that a model and the same model with folded norms and centred writing have the same circuits.
Scales and biases are left out.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.methods.targets import Nodes, heads_of
from unweave.models.config import Config
from unweave.models.factored import FactoredMatrix
from unweave.models.model import Model
from unweave.models.precision import widened
from unweave.models.weights import NormWeights
from unweave.nodes import Head


def qk_matrices(model: Model, heads: Nodes | None = None) -> FactoredMatrix:
    """`W_Q W_K^T` of heads (all by default), `[head d_model d_model]`; a shared key belongs to each of its heads.

    Raises:
        InputError: a head that the model lacks, or that is named twice.
    """
    chosen = chosen_heads(model, heads)
    queries = torch.stack([_read(model, layer, head) for layer, head in chosen])
    first, share = model.config.n_heads, model.config.heads_per_kv
    keys = torch.stack([_read(model, layer, first + head // share) for layer, head in chosen])
    return FactoredMatrix(queries, keys.mT)


def ov_matrices(model: Model, heads: Nodes | None = None) -> FactoredMatrix:
    """`W_V W_O` of heads (all by default), `[head d_model d_model]`; a shared value belongs to each of its heads.

    Raises:
        InputError: a head that the model lacks, or that is named twice.
    """
    config, chosen = model.config, chosen_heads(model, heads)
    first = config.n_heads + config.n_kv_heads
    values = torch.stack([_read(model, layer, first + head // config.heads_per_kv) for layer, head in chosen])
    written = torch.stack([_written(model, layer, head) for layer, head in chosen])
    return FactoredMatrix(values, written)


def answer_direction(
    model: Model, answers: Int[Tensor, " prompt"], wrong: Int[Tensor, " prompt"] | Int[Tensor, "prompt candidate"]
) -> tuple[Float[Tensor, "prompt d_model"], Float[Tensor, " prompt"]]:
    """The direction of the stream that tells answers from wrong ones, or from the mean of several, and a constant.

    With `s` the last norm's scale, `x · direction / s + constant` is the logit difference of a stream `x`.
    """
    weights = model.weights
    against = wrong[:, None] if wrong.ndim == 1 else wrong
    read = widened(weights.w_u[answers]) - widened(weights.w_u[against]).mean(1)
    shift, b_u = weights.norm_final.bias, weights.b_u
    constant = torch.zeros_like(read[:, 0]) if shift is None else read @ widened(shift)
    if b_u is not None:
        constant = constant + widened(b_u[answers]) - widened(b_u[against]).mean(1)
    return through_norm(model.config, weights.norm_final, read), constant


def class_direction(model: Model, outputs: tuple[int, int]) -> Float[Tensor, " d_model"]:
    """`answer_direction` of one output against another: `(0, 1)` is what speaks for class 0 and against class 1.

    Raises:
        InputError: an output that the model lacks, or the same one twice.
    """
    last = model.config.d_vocab_out - 1
    if len(outputs) != 2 or outputs[0] == outputs[1] or not all(0 <= output <= last for output in outputs):
        raise InputError(f"outputs: expected two different outputs of 0 to {last}, such as (0, 1), got {outputs}")
    answer, wrong = (torch.tensor([output], device=model.device) for output in outputs)
    return answer_direction(model, answer, wrong)[0][0]


def chosen_heads(model: Model, heads: Nodes | None) -> tuple[Head, ...]:
    """The heads named, or all, layer by layer."""
    if heads is not None:
        return heads_of(model.config, heads)
    return tuple((layer, head) for layer in range(model.config.n_layers) for head in range(model.config.n_heads))


def through_norm(
    config: Config, norm: NormWeights, readers: Float[Tensor, "*reader d_model"]
) -> Float[Tensor, "*reader d_model"]:
    """What reads the stream itself, where `readers` read it after a norm's linear part; in float32 or wider."""
    scaled = widened(readers) if norm.weight is None else widened(readers) * norm.weight
    # taking the mean off what is read is the same as taking it off the reader
    return scaled - scaled.mean(-1, keepdim=True) if config.norm == "layer" else scaled


def _read(model: Model, layer: int, row: int) -> Float[Tensor, "d_model d_head"]:
    """One query, key or value matrix: the `row`-th of a layer's fused projection."""
    config, weights = model.config, model.weights.layers[layer]
    matrix = weights.w_qkv[row * config.d_head : (row + 1) * config.d_head]
    return through_norm(config, weights.norm1, matrix).mT


def _written(model: Model, layer: int, head: int) -> Float[Tensor, "d_head d_model"]:
    """A head's output matrix, without the mean that no later LayerNorm sees."""
    w_o = rearrange(model.weights.layers[layer].w_o, "d (head e) -> head e d", head=model.config.n_heads)[head]
    w_o = widened(w_o)
    return w_o - w_o.mean(-1, keepdim=True) if model.config.norm == "layer" else w_o
