"""What two heads do together, token by token or position by position: K- and V-composition read off the weights.

Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits". An earlier sender moves a source's embedding
`x` into the stream, `x OV_sender`, where a later receiver finds it:

    K:  query W_K^T (x OV_sender)^T       how much the receiver's query asks for it
    V:  x OV_sender OV_receiver direction  what the receiver says of the answer where it looks at it

for every source `x`: rows of W_pos, or of W_E. The query is that of a position (the last, say), or a vector such as
the mean query of a head on a set of prompts. Scales of norms, the score scale, and biases are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.reading import read_at
from unweave.errors import InputError
from unweave.methods.targets import NodeName, head_of
from unweave.methods.to_xarray import Coords, weights_to_xarray
from unweave.methods.weights.full_circuits import Rows, embedding_rows, learned_positions
from unweave.methods.weights.head_matrices import class_direction, ov_matrices, qk_matrices
from unweave.models.model import Model
from unweave.models.precision import widened, without_autocast
from unweave.models.prompts import Prompts
from unweave.nodes import Head, head_name
from unweave.progress import Progress
from unweave.registry import Method, register

_PLACES: dict[str, Any] = {"picture": "unweave.views.weight_pictures:place_blocks", "dims": ("pos/token",)}
K_COMPOSITION = register(
    Method(
        "K-composition",
        quantity="score",
        zero="what is moved from there is neither sought nor avoided",
        one="a score of 1, before the score scale",
        **_PLACES,
    )
)
V_COMPOSITION = register(
    Method(
        "V-composition", quantity="logit difference", unit="logits", zero="contributes nothing to the answer", **_PLACES
    )
)


@without_autocast
def k_composition(
    model: Model,
    sender: NodeName,
    receiver: NodeName,
    over: str = "positions",
    query: int | Float[Tensor, " d_head"] = -1,
) -> xr.DataArray:
    """How much a later head's query asks for what an earlier head moves from each position, or of each token.

    Args:
        model: any model; positions need learned ones.
        sender, receiver: `(layer, head)` or `"9.6"`.
        over: `"positions"` or `"tokens"`: the sources.
        query: the position whose embedding asks (the last by default), or a query `[d_head]`, see `mean_query`.

    Returns:
        Scores before the score scale, `[pos]` or `[token]`.

    Raises:
        InputError: a receiver in no later layer; a query that does not fit; positions that are not learned.
    """
    (s, r), rows = _ordered(model, sender, receiver), _sources(model, over)
    qk = qk_matrices(model, [r])[0]
    if isinstance(query, int):
        places = learned_positions(model)
        if not -len(places) <= query < len(places):
            raise InputError(f"query: {model.config.name} has positions 0 to {len(places) - 1}, got {query}")
        asked = widened(places[query]) @ qk.left
    else:
        if query.shape != (model.config.d_head,):
            raise InputError(f"query: expected [{model.config.d_head}], a query of one head, got {list(query.shape)}")
        asked = query.to(qk.left)
    scores = _moved(model, s, rows) @ (asked @ qk.right)
    asks = f"position {query % len(learned_positions(model))}" if isinstance(query, int) else "a given query"
    attrs = K_COMPOSITION.attrs(query=asks, **_pair_attrs(s, r))
    return weights_to_xarray(model, scores, *_axes(rows, over, attrs))


@without_autocast
def v_composition(
    model: Model,
    sender: NodeName,
    receiver: NodeName,
    over: str = "positions",
    outputs: tuple[int, int] = (0, 1),
) -> xr.DataArray:
    """What a later head says of the answer where it looks at what an earlier head moved from a position, or token.

    Args:
        model: any model; positions need learned ones.
        sender, receiver: `(layer, head)` or `"9.6"`.
        over: `"positions"` or `"tokens"`: the sources.
        outputs: two outputs; the direction speaks for the first and against the second.

    Returns:
        Logit differences before the scales of norms, `[pos]` or `[token]`.

    Raises:
        InputError: a receiver in no later layer; outputs that there are not; positions that are not learned.
    """
    (s, r), rows = _ordered(model, sender, receiver), _sources(model, over)
    read = ov_matrices(model, [r])[0].apply(class_direction(model, outputs))
    one = f"one logit for output {outputs[0]} against {outputs[1]}"
    attrs = V_COMPOSITION.attrs(one=one, **_pair_attrs(s, r))
    return weights_to_xarray(model, _moved(model, s, rows) @ read, *_axes(rows, over, attrs))


def mean_query(
    model: Model,
    prompts: Prompts | str | Sequence[str] | Int[Tensor, "prompt pos"],
    head: NodeName,
    role: str = "end",
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> Float[Tensor, " d_head"]:
    """A head's query `[d_head]` at a role, averaged over prompts; with biases, before rotation.

    Where knocking the query out to zero hurts and to its mean does not, the query is this constant.

    Args:
        model: any model.
        prompts: the prompts that are averaged over.
        head: `(1, 0)` or `"1.0"`.
        role: where the query stands.
        memory, progress: as in `patch`.

    Raises:
        InputError: a head or role that there is not.
    """
    layer, number = head_of(model.config, head)
    batch = model.prompts(prompts)
    queries = read_at(model, batch, [("q", layer)], batch.role(role), memory, progress)["q", layer]
    return widened(queries[:, number]).mean(0)


def _ordered(model: Model, sender: NodeName, receiver: NodeName) -> tuple[Head, Head]:
    first, last = head_of(model.config, sender), head_of(model.config, receiver)
    if last[0] <= first[0]:
        raise InputError(f"receiver: {head_name(last)} stands in no later layer than the sender {head_name(first)}")
    return first, last


def _sources(model: Model, over: str) -> Rows:
    if over == "both":
        raise InputError("over: expected 'positions' or 'tokens', got 'both'; make one result of each")
    return embedding_rows(model, over)


def _moved(model: Model, sender: Head, rows: Rows) -> Float[Tensor, "row d_model"]:
    """What the sender writes if it attends only to each source."""
    ov = ov_matrices(model, [sender])[0]
    return widened(rows.x) @ ov.left @ ov.right


def _pair_attrs(sender: Head, receiver: Head) -> dict[str, str]:
    return {"sender": head_name(sender), "receiver": head_name(receiver)}


def _axes(rows: Rows, over: str, attrs: dict[str, str]) -> tuple[dict[str, list], dict[str, str], Coords]:
    if over == "positions":
        return {"pos": list(rows.numbers)}, attrs, {}
    return {"token": list(rows.names)}, attrs, {"token_id": (("token",), list(rows.numbers))}
