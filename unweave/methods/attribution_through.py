"""Attribution through a later head: what an earlier head's output contributes to the answer after a later head's OV.

Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits" (V-composition). Steps:

1. What the sender writes at each position: in the run, or (`looking="self"`) if it attended only to that position,
   whose stream it reads through its norm. The second is what each position offers, whoever takes it.
2. Through the receiver's W_V and W_O, as if the receiver attended only there; scales of norms and biases left out.
3. Onto the direction that tells two outputs apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from unweave.engine.reading import read_sites
from unweave.errors import InputError
from unweave.methods.targets import NodeName, head_of
from unweave.methods.to_xarray import run_to_xarray
from unweave.methods.weights.head_matrices import class_direction, ov_matrices
from unweave.models.forward import norm_scale
from unweave.models.model import Model
from unweave.models.precision import widened, without_autocast
from unweave.models.prompts import Prompts
from unweave.models.run import Key
from unweave.nodes import head_name
from unweave.progress import Progress
from unweave.registry import Method, register

THROUGH_HEAD = register(
    Method(
        "attribution through a head",
        quantity="logit difference",
        unit="logits before the norms' scales",
        zero="contributes nothing to the answer",
        picture="unweave.views.weight_pictures:place_blocks",
        dims=("prompt?", "pos/token"),
    )
)

LOOKING = ("run", "self")


@without_autocast
def attribution_through(
    model: Model,
    prompts: Prompts | str | Sequence[str] | Int[Tensor, "prompt pos"],
    sender: NodeName,
    receiver: NodeName,
    *,
    looking: str = "run",
    outputs: tuple[int, int] = (0, 1),
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """What a sender's output at each position contributes to the answer, after a later receiver's OV circuit.

    Args:
        model: any model.
        prompts: prompts, texts, or token ids `[prompt pos]`.
        sender, receiver: `(layer, head)` or `"9.6"`.
        looking: `"run"`: what the sender writes in the run; `"self"`: what it would write at each position if it
            attended only to that position.
        outputs: two outputs; the direction speaks for the first and against the second.
        memory, progress: as in `patch`.

    Returns:
        Logit differences before the scales of later norms, `[prompt, pos]`; NaN beyond a prompt's end.

    Raises:
        InputError: a receiver in no later layer; outputs that there are not; prompts that do not fit the model.
    """
    first, last = head_of(model.config, sender), head_of(model.config, receiver)
    if last[0] <= first[0]:
        raise InputError(f"receiver: {head_name(last)} stands in no later layer than the sender {head_name(first)}")
    if looking not in LOOKING:
        raise InputError(f"looking: expected 'run' or 'self', got {looking!r}")
    batch = model.prompts(prompts)
    read = ov_matrices(model, [last])[0].apply(class_direction(model, outputs))
    layer, number = first
    w_o = rearrange(widened(model.weights.layers[layer].w_o), "d (head e) -> head e d", head=model.config.n_heads)
    ov = ov_matrices(model, [first])[0]

    def pick(key: Key, value: Tensor, rows: slice) -> Tensor:
        if looking == "run":  # without the output bias, which belongs to no head
            return widened(value[:, :, number]) @ w_o[number] @ read
        x = widened(value)
        return x @ ov.left @ ov.right / norm_scale(model.config, x) @ read

    key = ("z" if looking == "run" else "resid_pre", layer)
    table = read_sites(model, batch, [key], pick, memory, progress)[key]
    attrs = THROUGH_HEAD.attrs(
        one=f"one logit for output {outputs[0]} against {outputs[1]}",
        sender=head_name(first),
        receiver=head_name(last),
        looking=looking,
    )
    return run_to_xarray(model, batch, table, {"pos": range(table.shape[1])}, attrs)
