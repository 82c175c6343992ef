"""Full QK and OV circuits of heads: over tokens, over positions, and over both, read off the weights.

Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits". Steps:

1. Rows `x` for everything that the embeddings can say: the rows of W_E, those of W_pos, or both one below the other.
2. QK: `x_q W_Q W_K^T x_k^T` times the score scale: how much a query at `x_q` asks for a key at `x_k`, were these rows
   all of the stream. OV: `x W_V W_O W_U`: what the head contributes to each output if it attends only to `x`.
3. A norm divides the stream by its scale, which depends on the whole stream; `norm_scale` stands for it (the mean over
   prompts of `uw.weights.norm_scales`, say). Scores are divided by it twice, outputs once.
4. On demand, a softmax over the keys; over positions, a causal model masks later keys first.

Biases are left out. In a later layer this is the direct path from the embeddings, past all that stands between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.methods.targets import Nodes
from unweave.methods.to_xarray import Coords, weights_to_xarray
from unweave.methods.weights.head_matrices import chosen_heads, ov_matrices, qk_matrices, through_norm
from unweave.methods.weights.vocabulary import chosen_tokens, token_names
from unweave.models.forward import looks_ahead
from unweave.models.model import Model
from unweave.models.precision import widened, without_autocast
from unweave.nodes import head_name
from unweave.registry import Method, register

_DRAWN = "unweave.views.weight_pictures:circuit_blocks"
QK = register(Method("QK circuit", picture=_DRAWN, dims=("address", "query/q_pos", "key/k_pos")))
OV = register(Method("OV circuit", picture=_DRAWN, dims=("address", "key/k_pos", "output")))

OVER = ("tokens", "positions", "both")
# Larger vocabularies must name their tokens, and larger tables fewer heads: some would hold billions of numbers.
MOST_TOKENS = 2000
MOST_CELLS = 100_000_000


@dataclass(frozen=True)
class Rows:
    """What the embeddings can say: vectors, a name for each, and the token or position number of each."""

    x: Float[Tensor, "row d_model"]
    names: tuple[str, ...]
    numbers: tuple[int, ...]


@without_autocast
def qk_circuit(
    model: Model,
    heads: Nodes | None = None,
    over: str = "tokens",
    *,
    tokens: Sequence[str] | Sequence[int] | Tensor | None = None,
    norm_scale: float = 1.0,
    softmax: bool = False,
) -> xr.DataArray:
    """How much each token or position, as a query, asks for each other as a key.

    Args:
        model: any model; positions need learned ones.
        heads: `(layer, head)` or `"9.6"`; all by default.
        over: `"tokens"`, `"positions"`, or `"both"`: tokens, then positions.
        tokens: words of one token each, or token ids; all by default, where the vocabulary is small.
        norm_scale: what the norm before the attention divides by.
        softmax: shares of attention over the keys, where these are all there is; not for `"both"`.

    Returns:
        Scores, or shares: `[address, query, key]`, over positions `[address, q_pos, k_pos]`.

    Raises:
        InputError: no such head; positions of a model with rotary ones; a large vocabulary without `tokens`; too large
            a table.
    """
    if softmax and over == "both":
        raise InputError("softmax: tokens and positions are summed before a softmax, never compared; leave it out")
    chosen, rows = chosen_heads(model, heads), embedding_rows(model, over, tokens)
    _check_size(len(chosen), len(rows.names), len(rows.names))
    x = widened(rows.x) / _checked_scale(norm_scale)
    scores = qk_matrices(model, chosen).between(x, x.mT).matrix * model.config.score_scale
    if softmax:
        masked = over == "positions" and not looks_ahead(model.config)
        scores = (without_future(scores) if masked else scores).softmax(-1)
    query, key = ("q_pos", "k_pos") if over == "positions" else ("query", "key")
    axes = {"address": [head_name(head) for head in chosen], **_axis(rows, query, over), **_axis(rows, key, over)}
    attrs = {
        **_attrs(model, QK, over, norm_scale),
        "quantity": "attention" if softmax else "attention score",
        "unit": "share" if softmax else "",
        "zero": "does not look there" if softmax else "neither sought nor avoided",
        "one": "looks only there" if softmax else "e times the attention of a score of 0",
    }
    return weights_to_xarray(model, scores, axes, attrs, _numbers(rows, query, over) | _numbers(rows, key, over))


@without_autocast
def ov_circuit(
    model: Model,
    heads: Nodes | None = None,
    over: str = "tokens",
    *,
    tokens: Sequence[str] | Sequence[int] | Tensor | None = None,
    outputs: Sequence[str] | Sequence[int] | Tensor | None = None,
    norm_scale: float = 1.0,
) -> xr.DataArray:
    """What each head says of each output if it looks at only one token or position.

    Args:
        model: any model; positions need learned ones.
        heads: `(layer, head)` or `"9.6"`; all by default.
        over: `"tokens"`, `"positions"`, or `"both"`: tokens, then positions.
        tokens: words of one token each, or token ids; all by default, where the vocabulary is small.
        outputs: words or numbers of outputs; all by default, where there are few, else `tokens`.
        norm_scale: what the norm before the attention divides by. The last norm's scale is left out.

    Returns:
        Logits `[address, key, output]`, over positions `[address, k_pos, output]`.

    Raises:
        InputError: no such head; positions of a model with rotary ones; a large vocabulary without `tokens`; too large
            a table.
    """
    chosen, rows = chosen_heads(model, heads), embedding_rows(model, over, tokens)
    ids, names = _outputs(model, tokens if outputs is None else outputs)
    _check_size(len(chosen), len(rows.names), len(names))
    unembed = through_norm(model.config, model.weights.norm_final, model.weights.w_u[ids])
    logits = ov_matrices(model, chosen).between(widened(rows.x) / _checked_scale(norm_scale), unembed.mT).matrix
    key = "k_pos" if over == "positions" else "key"
    axes = {"address": [head_name(head) for head in chosen], **_axis(rows, key, over), "output": names}
    attrs = {
        **_attrs(model, OV, over, norm_scale),
        "quantity": "logit",
        "unit": "logits",
        "zero": "says nothing of the output",
        "one": "one logit towards the output, before the last norm's scale",
    }
    return weights_to_xarray(model, logits, axes, attrs, _numbers(rows, key, over))


def top_1_accuracy(circuit: xr.DataArray, expected: Sequence[int] | None = None) -> xr.DataArray:
    """The share of rows whose largest entry stands in the expected column.

    Args:
        circuit: its last two dimensions are rows and columns; choose rows with `isel`.
        expected: a column for each row, counted from 0; the diagonal by default.

    Raises:
        InputError: not one column for each row, or a column that there is not.
    """
    n_rows, n_columns = circuit.shape[-2:]
    columns = list(range(n_rows)) if expected is None else list(expected)
    if len(columns) != n_rows or not all(0 <= column < n_columns for column in columns):
        raise InputError(f"expected: one column of 0 to {n_columns - 1} for each of {n_rows} rows, got {columns}")
    row, column = map(str, circuit.dims[-2:])
    return (circuit.argmax(column) == xr.DataArray(columns, dims=[row])).mean(row)


def embedding_rows(model: Model, over: str, tokens: Sequence[str] | Sequence[int] | Tensor | None = None) -> Rows:
    """Rows of W_E, of W_pos, or both one below the other (then named `token 5` and `position 3`).

    Raises:
        InputError: an unknown kind; positions that are not learned; a large vocabulary without `tokens`.
    """
    if over not in OVER:
        raise InputError(f"over: expected one of {', '.join(OVER)}, got {over!r}")
    places = None if over == "tokens" else learned_positions(model)
    if over == "positions" and places is not None:
        numbers = tuple(range(len(places)))
        return Rows(places, tuple(map(str, numbers)), numbers)
    ids, names = _tokens(model, tokens)
    words = Rows(model.weights.w_e[ids], tuple(names), tuple(ids.tolist()))
    if places is None:
        return words
    labels = (*(f"token {name}" for name in names), *(f"position {place}" for place in range(len(places))))
    return Rows(torch.cat([words.x, places]), labels, (*words.numbers, *range(len(places))))


def learned_positions(model: Model) -> Float[Tensor, "n_ctx d_model"]:
    """W_pos. Raises InputError with the reason where the model has none."""
    if model.weights.w_pos is not None:
        return model.weights.w_pos
    kind = model.config.positions
    reason = (
        "its positions are rotary: they turn queries and keys instead of standing in the stream"
        if kind == "rotary"
        else "it has no positions"
    )
    raise InputError(f"over: {model.config.name} has no position embeddings, {reason}; take over='tokens'")


def without_future(scores: Float[Tensor, "*head q_pos k_pos"]) -> Float[Tensor, "*head q_pos k_pos"]:
    """Scores with minus infinity where the key stands after the query."""
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(future, float("-inf"))


def _tokens(
    model: Model, tokens: Sequence[str] | Sequence[int] | Tensor | None
) -> tuple[Int[Tensor, " token"], list[str]]:
    if tokens is not None:
        return chosen_tokens(model, tokens)
    n = model.config.d_vocab
    if n > MOST_TOKENS:
        raise InputError(f"tokens: {model.config.name} has {n}, too many for a table of all; name some: [' Mary', 5]")
    return torch.arange(n, device=model.device), token_names(model, range(n))


def _outputs(
    model: Model, outputs: Sequence[str] | Sequence[int] | Tensor | None
) -> tuple[Int[Tensor, " output"], list[str]]:
    """Numbers and names of outputs: words of the vocabulary, or classes."""
    if model.config.d_vocab_out == model.config.d_vocab:
        return _tokens(model, outputs)
    ids = torch.arange(model.config.d_vocab_out, device=model.device)
    return ids, [f"class {i}" for i in ids.tolist()]


def _check_size(heads: int, rows: int, columns: int) -> None:
    if heads * rows * columns > MOST_CELLS:
        raise InputError(
            f"heads: {heads} tables of {rows} x {columns} numbers are too many; name fewer heads or tokens"
        )


def _checked_scale(norm_scale: float) -> float:
    if not 0 < norm_scale < float("inf"):
        raise InputError(f"norm_scale: expected a number above 0, what the norm divides by, got {norm_scale}")
    return norm_scale


def _axis(rows: Rows, dim: str, over: str) -> Mapping[str, Sequence]:
    return {dim: list(rows.numbers if over == "positions" else rows.names)}


def _numbers(rows: Rows, dim: str, over: str) -> Coords:
    """Token ids and positions next to their names."""
    return {} if over == "positions" else {f"{dim}_id": ((dim,), list(rows.numbers))}


def _attrs(model: Model, method: Method, over: str, norm_scale: float) -> dict[str, str | float]:
    rotary = model.config.positions == "rotary" and method == QK
    note = "scores of a query and a key at the same position: rotation is left out" if rotary else ""
    return method.attrs(over=over, norm_scale=float(norm_scale), notes=note)
