"""Composition scores: how much of what an earlier head writes a later one reads, through its queries, keys or values.

Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits". Steps:

1. For a sender's OV and a later receiver's QK, QK^T or OV (Q-, K- and V-composition):
   `|| OV M ||_F / (|| OV ||_F || M ||_F)`, from factored matrices, so that nothing of d_model x d_model is formed.
2. The same for pairs of random matrices of that rank, factors uniform as `torch.nn.init.kaiming_uniform_` draws them,
   since a score above 0 is what chance gives too. The mean and the deviation of these pairs are in the attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import xarray as xr
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from unweave.errors import InputError, Interrupted
from unweave.methods.targets import Nodes
from unweave.methods.to_xarray import Coords, weights_to_xarray
from unweave.methods.weights.head_matrices import chosen_heads, ov_matrices, qk_matrices
from unweave.models.factored import FactoredMatrix
from unweave.models.model import Model
from unweave.models.precision import without_autocast
from unweave.nodes import Head, head_name
from unweave.progress import Progress, shown
from unweave.registry import Method, register

COMPOSITION = register(
    Method(
        "composition scores",
        quantity="composition score",
        zero="the receiver reads nothing that the sender writes",
        one="all that the sender writes, the receiver reads",
        picture="unweave.views.weight_pictures:composition_blocks",
        dims=("kind", "sender", "receiver"),
    )
)

KINDS = ("Q", "K", "V")


@dataclass(frozen=True)
class Baseline:
    """Scores of random pairs: their mean and standard deviation (divided by the number of pairs)."""

    mean: float
    std: float
    pairs: int
    seed: int


@without_autocast
def composition_scores(
    model: Model,
    senders: Nodes | None = None,
    receivers: Nodes | None = None,
    *,
    pairs: int = 300,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Q-, K- and V-composition of every sender with every receiver of a later layer.

    Args:
        model: any model. Of rotary ones, Q and K are those of a query and a key at the same position.
        senders, receivers: `(layer, head)` or `"9.6"`; by default all that have a later, or an earlier, layer.
        pairs, seed: how many random pairs the baseline has, and the seed of their draws.
        progress: a function `(done, total)`, True, False, or None: a bar on a terminal.

    Returns:
        Scores from 0 to 1, `[kind, sender, receiver]` with kinds `Q`, `K`, `V`; NaN where the receiver is in no later
        layer. The attributes `baseline_mean` and `baseline_std` say what random pairs score.

    Raises:
        InputError: no pair of a sender and a receiver in a later layer; a head that the model lacks, or named twice.
        Interrupted: on Ctrl-C; `partial` holds the receivers that were reached.
    """
    first, last = _pairs(model, senders, receivers)
    layers = sorted({layer for layer, _ in last})
    writes = ov_matrices(model, first)
    scores = torch.full((len(KINDS), len(first), len(last)), float("nan"), dtype=writes.left.dtype)
    baseline = composition_baseline(model.config.d_model, model.config.d_head, pairs, seed)
    done = 0
    try:
        with shown(progress, "composition") as report, torch.no_grad():
            for done, layer in enumerate(layers):
                rows, columns = _before(first, layer), [n for n, head in enumerate(last) if head[0] == layer]
                if rows:
                    found = _scores(model, writes[rows], [last[n] for n in columns])
                    scores[:, torch.tensor(rows)[:, None], torch.tensor(columns)] = found.cpu()
                if report is not None:
                    report(done + 1, len(layers))
    except KeyboardInterrupt:
        partial = _labelled(model, scores, first, last, baseline)
        raise Interrupted(f"stopped at layer {done + 1} of {len(layers)}", partial) from None
    return _labelled(model, scores, first, last, baseline)


def _before(senders: Sequence[Head], layer: int) -> list[int]:
    return [n for n, head in enumerate(senders) if head[0] < layer]


def composition_score(sender: FactoredMatrix, receiver: FactoredMatrix) -> Float[Tensor, "sender receiver"]:
    """`|| sender receiver || / (|| sender || || receiver ||)`, Frobenius norms, of every pair of two batches.

    An orthogonal factor on either side changes no norm, so each matrix stands for itself with one thin side.
    """
    write = torch.linalg.qr(sender.left, mode="r").R @ sender.right
    read = receiver.left @ torch.linalg.qr(receiver.right.mT, mode="r").R.mT
    product = einsum(write, read, "sender k d, receiver d m -> sender receiver k m")
    sizes = torch.outer(write.flatten(1).norm(dim=1), read.flatten(1).norm(dim=1))
    return (product.flatten(2).norm(dim=2) / sizes).nan_to_num(0.0)


def composition_baseline(d_model: int, d_head: int, pairs: int = 300, seed: int = 0) -> Baseline:
    """What random pairs of rank `d_head` score: four factors `[d_model, d_head]` a pair, drawn on the processor.

    Raises:
        InputError: fewer than 2 pairs.
    """
    if pairs < 2:
        raise InputError(f"pairs: expected at least 2 random pairs, for a mean and a deviation, got {pairs}")
    draw = torch.Generator().manual_seed(seed)
    scores = torch.stack([_random_score(d_model, d_head, draw) for _ in range(pairs)])
    return Baseline(float(scores.mean()), float(scores.std(correction=0)), pairs, seed)


def _random_score(d_model: int, d_head: int, draw: torch.Generator) -> Float[Tensor, ""]:
    # As torch.nn.Linear draws its weights. Scaled in float64, which holds the product of two float32 numbers exactly:
    # processors with and without a fused multiply-add would round a float32 result differently.
    bound = torch.tensor(d_head**-0.5).double()
    drawn = torch.rand(4, 1, d_model, d_head, generator=draw).double()
    a_left, b_left, a_right, b_right = (2 * bound * drawn - bound).float().double()
    return composition_score(FactoredMatrix(a_left, a_right.mT), FactoredMatrix(b_left, b_right.mT))[0, 0]


def _pairs(model: Model, senders: Nodes | None, receivers: Nodes | None) -> tuple[tuple[Head, ...], tuple[Head, ...]]:
    first, last = chosen_heads(model, senders), chosen_heads(model, receivers)
    top, bottom = max(layer for layer, _ in last), min(layer for layer, _ in first)
    if senders is None:
        first = tuple(head for head in first if head[0] < top)
    if receivers is None:
        last = tuple(head for head in last if head[0] > bottom)
    if top <= bottom:
        raise InputError("receivers: none stands in a later layer than a sender, so nothing can compose")
    return first, last


def _scores(model: Model, writes: FactoredMatrix, receivers: Sequence[Head]) -> Float[Tensor, "kind sender receiver"]:
    qk, ov = qk_matrices(model, receivers), ov_matrices(model, receivers)
    return torch.stack([composition_score(writes, reads) for reads in (qk, qk.mT, ov)])


def _labelled(
    model: Model,
    scores: Float[Tensor, "kind sender receiver"],
    senders: Sequence[Head],
    receivers: Sequence[Head],
    baseline: Baseline,
) -> xr.DataArray:
    axes = {
        "kind": list(KINDS),
        "sender": [head_name(head) for head in senders],
        "receiver": [head_name(head) for head in receivers],
    }
    layers: Coords = {
        "sender_layer": (("sender",), [layer for layer, _ in senders]),
        "receiver_layer": (("receiver",), [layer for layer, _ in receivers]),
    }
    rotary = model.config.positions == "rotary"
    attrs = COMPOSITION.attrs(
        baseline_mean=baseline.mean,
        baseline_std=baseline.std,
        baseline_pairs=baseline.pairs,
        seed=baseline.seed,
        notes="Q and K: of a query and a key at the same position, since rotation is left out" if rotary else "",
    )
    return weights_to_xarray(model, scores, axes, attrs, layers)
