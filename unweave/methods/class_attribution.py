"""Direct attribution between two outputs, part by part: embeddings, each head, each MLP, biases.

For a classifier, what parts say of its classes. The logit difference of the two outputs is a sum over the parts of the
stream at one position, divided by the last norm's scale (Elhage et al. 2021, "A Mathematical Framework for Transformer
Circuits"). Where the scale is left out (`final_norm=False`), parts of different prompts are compared in the stream's
own size. With two classes, the probability of the first is the logistic function of the difference.

Unlike `attribute`, this asks the same question of all prompts, whatever their answers, and needs no corrupted ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.reading import read_at
from unweave.methods.attribution import Reading, by_head
from unweave.methods.to_xarray import Coords, array_of, run_to_xarray
from unweave.methods.weights.head_matrices import answer_direction, class_direction
from unweave.models.forward import norm_scale
from unweave.models.model import Model
from unweave.models.precision import without_autocast
from unweave.models.prompts import Prompts
from unweave.models.run import Key
from unweave.progress import Progress
from unweave.registry import Method, register

CLASS_ATTRIBUTION = register(
    Method(
        "class attribution",
        quantity="logit difference",
        zero="contributes nothing to the answer",
        picture="unweave.views.classifier_pictures:class_blocks",
        dims=("prompt", "component"),
    )
)


@without_autocast
def class_attribution(
    model: Model,
    prompts: Prompts | str | Sequence[str] | Int[Tensor, "prompt pos"],
    outputs: tuple[int, int] = (0, 1),
    *,
    final_norm: bool = True,
    role: str = "end",
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """What each part says for the first of two outputs and against the second.

    Args:
        model: any model.
        prompts: prompts, texts, or token ids `[prompt pos]`. Their answers, if any, become the coordinate `answer`.
        outputs: two classes, or entries of the vocabulary.
        final_norm: whether to divide by the last norm's scale. Without it the parts do not sum to the logit difference.
        role: where the outputs are read.
        memory, progress: as in `patch`.

    Returns:
        Logits `[prompt, component]`: `embed`, `pos_embed`, heads `0.0` …, `0_mlp` …, and `bias`, what output biases and
        the last norm's shift say. Coordinates along `prompt`: `total`, the model's own logit difference;
        `probability`, of the first output if there are only these two; `answer`.

    Raises:
        InputError: outputs or a role that there are not; prompts that do not fit the model.
    """
    class_direction(model, outputs)
    batch, config = model.prompts(prompts), model.config
    embeddings = ["embed", "pos_embed"] if config.positions == "learned" else ["embed"]
    sites = ("z", "mlp_out") if config.d_mlp else ("z",)
    last = ("resid_post", config.n_layers - 1)
    keys = [*((site, -1) for site in embeddings), *((site, n) for n in range(config.n_layers) for site in sites), last]
    x = read_at(model, batch, keys, batch.role(role), memory, progress)
    answer, wrong = (torch.full_like(batch.lengths, output) for output in outputs)
    direction, constant = answer_direction(model, answer, wrong)
    unscaled = Reading(direction, constant)
    scale = norm_scale(config, x[last])
    parts = _parts(model, x, unscaled, embeddings)
    rest = unscaled.of(x[last]) - torch.stack(list(parts.values())).sum(0)
    total = unscaled.of(x[last]) / scale[:, 0] + constant
    table = torch.stack(list(parts.values()), dim=1)
    if final_norm:
        table, rest = table / scale, rest / scale[:, 0]
    table = torch.cat([table, (rest + constant)[:, None]], dim=1)
    attrs = _attrs(outputs, final_norm)
    return run_to_xarray(model, batch, table, {"component": [*parts, "bias"]}, attrs, _coords(batch, total))


def _parts(
    model: Model, x: Mapping[Key, Tensor], reading: Reading, embeddings: Sequence[str]
) -> dict[str, Float[Tensor, " prompt"]]:
    """Contributions by name, in the order in which they are written."""
    found = {site: reading.of(x[site, -1]) for site in embeddings}
    for layer in range(model.config.n_layers):
        heads = by_head(model, reading, x["z", layer], layer)
        found |= {f"{layer}.{head}": heads[:, head] for head in range(model.config.n_heads)}
        if model.config.d_mlp:
            found[f"{layer}_mlp"] = reading.of(x["mlp_out", layer])
    return found


def _coords(batch: Prompts, total: Float[Tensor, " prompt"]) -> Coords:
    coords: Coords = {
        "total": (("prompt",), array_of(total)),
        "probability": (("prompt",), array_of(total.sigmoid())),
    }
    if batch.answers is not None:
        coords["answer"] = (("prompt",), batch.answers.tolist())
    return coords


def _attrs(outputs: tuple[int, int], final_norm: bool) -> dict[str, str | int]:
    return CLASS_ATTRIBUTION.attrs(
        unit="logits" if final_norm else "logits before the last norm's scale",
        one=f"one logit for output {outputs[0]} against {outputs[1]}",
        output=outputs[0],
        against=outputs[1],
        final_norm=int(final_norm),
    )
