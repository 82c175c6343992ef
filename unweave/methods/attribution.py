"""Direct logit attribution and the logit lens: what each part of the residual stream says about the answer, directly.

The residual stream before the last norm is a sum: embeddings, what every attention and MLP wrote, biases. The last
norm's scale is taken from the run and kept, so that the logit difference is linear in the stream (Elhage et al. 2021,
"A Mathematical Framework for Transformer Circuits"; nostalgebraist 2020, "interpreting GPT: the logit lens", which
takes the scale of each layer's own stream):

    logit difference = sum over parts of (part - its mean) / scale · w · direction  +  b · direction  +  b_U · (answer
    - wrong)

with `direction = W_U[answer] - W_U[wrong]`, and w, b the last norm's weight and bias (no mean is taken off for RMS
norm). Steps:

1. Run the clean prompts and keep what the parts need, at the position that the metric reads in each prompt.
2. Fold the last norm into one reading direction a prompt: whatever `x` is, `x · reading + constant` is its logit
   difference.
3. Project each part, in float32 or wider. What is in no part (biases) is stated, so that the parts sum to the whole.

A difference does not say whether a part raises the answer or lowers the wrong one. The logits themselves do not either:
what raises all names alike tells nothing. So each is split off against the mean logit of the candidates, which are all
that some prompt has as its answer or wrong answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import torch
import xarray as xr
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.reading import read_at
from unweave.errors import InputError
from unweave.methods.targets import several
from unweave.methods.to_xarray import Coords, array_of, to_xarray
from unweave.methods.weights.head_matrices import answer_direction
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.forward import halves, norm_scale
from unweave.models.model import Model
from unweave.models.precision import widened, without_autocast
from unweave.models.prompts import Prompts
from unweave.models.run import Key
from unweave.models.sites import check_layer
from unweave.progress import Progress
from unweave.registry import WRITTEN, Claim, Method, register

_LOGIT: dict[str, Any] = {"quantity": "logit difference", "unit": "logits", "zero": "contributes nothing to the answer"}
LENS = register(
    Method(
        "logit lens",
        WRITTEN,
        **_LOGIT,
        one="one logit towards the right answer",
        title="unweave.views.captions:lens_finding",
        answers={"": "written"},
    )
)
DIRECT = register(
    Method(
        "direct logit attribution",
        WRITTEN,
        **_LOGIT,
        one="one logit towards the right answer",
        claim=Claim(
            does=("writes towards the answer", "write towards the answer"),
            against="{name} writes against it ({size})",
            none="No part stands out",
        ),
        answers={"": "directly by"},
    )
)
SPLIT = register(
    Method(
        "direct logit attribution to each answer",
        WRITTEN,
        **{**_LOGIT, "quantity": "logit above the mean candidate"},
        one="one logit above the mean candidate",
        picture="unweave.views.head_pictures:split_blocks",
        dims=("prompt", "answer", "..."),
    )
)


ANSWERS = ("right", "wrong")


@dataclass(frozen=True)
class Reading:
    """How the answer is read off the residual stream at one position of each prompt, the norm's scale held fixed."""

    direction: Float[Tensor, "prompt d_model"]
    constant: Float[Tensor, " prompt"]

    def of(self, part: Float[Tensor, "prompt ... d_model"]) -> Float[Tensor, "prompt ..."]:
        """Each part's contribution to the logit difference."""
        return einsum(widened(part), self.direction, "prompt ... d, prompt d -> prompt ...")


def reading_of(model: Model, final: Float[Tensor, "prompt d_model"], prompts: Prompts) -> Reading:
    """The reading of `answers` against `wrong`, with the scale of the stream `final` after the last block.

    Raises:
        InputError: prompts without answers or wrong answers.
    """
    if prompts.answers is None or prompts.wrong is None:
        raise InputError(
            "attribution: the prompts need answers and wrong answers, since it explains a logit difference"
        )
    direction, constant = answer_direction(model, prompts.answers, prompts.wrong)
    return Reading(direction / norm_scale(model.config, final), constant)


def split_readings(model: Model, final: Float[Tensor, "prompt d_model"], prompts: Prompts) -> tuple[Reading, Reading]:
    """As `reading_of`, of the right and of the wrong answer, each against the mean candidate: their difference is it.

    Raises:
        InputError: prompts that have fewer than three candidates, whose mean lies half-way between any two.
    """
    whole, candidates = reading_of(model, final, prompts), candidates_of(prompts)
    if len(candidates) < 3:
        raise InputError(
            "split: all prompts have the same two answers, which lie as far above their mean as below it; give prompts "
            "with other answers too"
        )
    assert prompts.answers is not None
    mean = candidates.expand(len(prompts), -1)
    direction, constant = answer_direction(model, prompts.answers, mean)
    right = Reading(direction / norm_scale(model.config, final), constant)
    return right, Reading(right.direction - whole.direction, right.constant - whole.constant)


def candidates_of(prompts: Prompts) -> Int[Tensor, " candidate"]:
    """All answers and wrong answers of some prompts, each once."""
    columns = [column for column in (prompts.answers, prompts.wrong) if column is not None]
    return torch.cat(columns).unique()


@without_autocast
def logit_lens(
    pair: Contrast,
    mid: bool = True,
    norm: str = "final",
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """The logit difference that the residual stream holds at every layer.

    Args:
        pair: its clean prompts are read, at the metric's role.
        mid: whether to read between attention and MLP too (`5_mid`); parallel blocks have no such place.
        norm: the scale of the last norm that every stage is read with: `"final"`, that of the stream after the last
            block, so that the steps between stages are what layers contribute; or `"own"`, that of the stage itself, as
            if the model ended there.
        memory, progress: as in `patch`.

    Returns:
        Logit differences `[prompt, stage]`, in logits; the last stage, `final`, is the model's own. The attribute
        `norm` says which scale was taken.

    Raises:
        InputError: prompts without answers or wrong answers; another `norm`.
    """
    check_pair(pair)
    if norm not in ("final", "own"):
        raise InputError(f"norm: expected 'final' or 'own', got {norm!r}")
    config, last = pair.model.config, ("resid_post", pair.model.config.n_layers - 1)
    sites = ("resid_pre", "resid_mid") if mid and halves(config)[1] else ("resid_pre",)
    stages: dict[str, Key] = {
        f"{layer}_{site.removeprefix('resid_')}": (site, layer) for layer in range(config.n_layers) for site in sites
    }
    stages["final"] = last
    x = read_at(pair.model, pair.prompts, stages.values(), pair.prompts.role(pair.metric.role), memory, progress)
    final = reading_of(pair.model, x[last], pair.prompts)
    read = []
    for key in stages.values():
        reading = final if norm == "final" else reading_of(pair.model, x[key], pair.prompts)
        read.append(reading.of(x[key]) + reading.constant)
    attrs = LENS.attrs(norm=norm)
    if norm == "own":
        attrs["quantity"] += " at each stage's own norm scale"
    return to_xarray(pair, torch.stack(read, 1), {"stage": list(stages)}, attrs)


@without_autocast
def attribute(
    pair: Contrast,
    by: str = "component",
    layers: SupportsIndex | Sequence[SupportsIndex] | None = None,
    prompts: str = "clean",
    memory: int | float | None = None,
    split: bool = False,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Direct logit attribution: each part's contribution to the logit difference at the metric's role.

    Args:
        pair: model and prompts.
        by: `"component"` (`embed`, `0_attn`, `0_mlp`, …, `bias`), `"layer"` (attention and MLP of each), `"head"`,
            `"neuron"`.
        layers: only these layers' parts, one or a list; all by default.
        prompts: which of the two sets is read, `"clean"` or `"corrupted"`.
        memory, progress: as in `patch`.
        split: into what each part does to the right and to the wrong answer, both against the mean over all answers and
            wrong answers of the prompts; their difference is the contribution.

    Returns:
        Contributions in logits: `[prompt, component]`, `[prompt, layer, part]`, `[prompt, layer, head]` or
        `[prompt, layer, neuron]`. The coordinate `rest[prompt]` is what the table leaves out (embeddings, biases, the
        other kind of layer, the stream's own rounding), and `total[prompt]` the logit difference itself: the table's
        sum plus rest is the total. If they are split, `answer` (`right`, `wrong`) comes after `prompt` in all three.

    Raises:
        InputError: prompts without answers or wrong answers, or to split with the same two only; neurons of a model
            without MLPs.
    """
    check_pair(pair)
    config = pair.model.config
    if by not in _SITES:
        raise InputError(f"by: expected one of {', '.join(_SITES)}, got {by!r}")
    if by == "neuron" and config.d_mlp == 0:
        raise InputError(f"by: {config.name} has no MLPs, so it has no neurons")
    named = several(layers)
    chosen = list(range(config.n_layers)) if named is None else [check_layer(config, n) for n in named]
    shown = pair.side(prompts)
    sites = [site for site in _SITES[by] if config.d_mlp or not site.startswith("mlp")]
    keep, last = [(site, layer) for site in sites for layer in chosen], ("resid_post", config.n_layers - 1)
    embeddings = ["embed", "pos_embed"] if config.positions == "learned" else ["embed"]
    keep += [(site, -1) for site in embeddings if by == "component"]
    x = read_at(pair.model, shown, [*keep, last], pair.prompts.role(pair.metric.role), memory, progress)
    readings = (split_readings if split else lambda *given: [reading_of(*given)])(pair.model, x[last], pair.prompts)
    found = [_tables(pair.model, x, reading, by, chosen, embeddings) for reading in readings]
    total = torch.stack([reading.of(x[last]) + reading.constant for reading in readings], 1)
    axes, table = found[0][0], torch.stack([table for _, table in found], 1)
    rest = total - table.flatten(2).sum(2)
    if by == "component" and len(chosen) == config.n_layers:
        # all of the stream is in the table, so what is left is bias, and it is a part
        axes, table = {"component": [*axes["component"], "bias"]}, torch.cat([table, rest[..., None]], 2)
        rest = total - table.sum(2)
    if not split:
        table, rest, total = table[:, 0], rest[:, 0], total[:, 0]
    dims = ("prompt", "answer") if split else ("prompt",)
    axes = {"answer": list(ANSWERS), **axes} if split else axes
    extra: Coords = {name: (dims, array_of(value)) for name, value in (("rest", rest), ("total", total))}
    attrs = _split_attrs(len(candidates_of(pair.prompts))) if split else DIRECT.attrs()
    return to_xarray(pair, table, axes, attrs | {"prompts": prompts}, shown, extra)


_SITES: dict[str, tuple[str, ...]] = {
    "component": ("attn_out", "mlp_out"),
    "layer": ("attn_out", "mlp_out"),
    "head": ("z",),
    "neuron": ("mlp_post",),
}


def _tables(
    model: Model, x: Mapping[Key, Tensor], reading: Reading, by: str, layers: Sequence[int], embeddings: Sequence[str]
) -> tuple[Mapping[str, Sequence], Float[Tensor, "prompt ..."]]:
    """Axes and contributions of the parts that `by` names, of activations at the position that is read."""
    if by == "head":
        rows = [by_head(model, reading, x["z", layer], layer) for layer in layers]
        return {"layer": layers, "head": range(model.config.n_heads)}, torch.stack(rows, 1)
    if by == "neuron":
        rows = [by_neuron(model, reading, x["mlp_post", layer], layer) for layer in layers]
        return {"layer": layers, "neuron": range(model.config.d_mlp)}, torch.stack(rows, 1)
    kinds = {"attn": "attn_out", "mlp": "mlp_out"} if model.config.d_mlp else {"attn": "attn_out"}
    written = [torch.stack([reading.of(x[site, n]) for site in kinds.values()], 1) for n in layers]
    table = torch.stack(written, 1)
    if by == "layer":
        return {"layer": layers, "part": list(kinds)}, table
    first = torch.stack([reading.of(x[site, -1]) for site in embeddings], 1)
    names = [*embeddings, *(f"{layer}_{kind}" for layer in layers for kind in kinds)]
    return {"component": names}, torch.cat([first, table.flatten(1)], 1)


def by_head(
    model: Model, reading: Reading, z: Float[Tensor, "prompt head d_head"], layer: int
) -> Float[Tensor, "prompt head"]:
    """Contributions of one layer's heads, without the output bias, which belongs to none of them."""
    w_o = rearrange(widened(model.weights.layers[layer].w_o), "d (head e) -> head e d", e=model.config.d_head)
    read = einsum(reading.direction, w_o, "prompt d, head e d -> prompt head e")
    return einsum(widened(z), read, "prompt head e, prompt head e -> prompt head")


def by_neuron(
    model: Model, reading: Reading, post: Float[Tensor, "prompt d_mlp"], layer: int
) -> Float[Tensor, "prompt d_mlp"]:
    """Contributions of one MLP's neurons, without the output bias."""
    w_out = model.weights.layers[layer].w_out
    assert w_out is not None
    return post * (reading.direction @ widened(w_out))


def _split_attrs(n_candidates: int) -> dict[str, str]:
    return SPLIT.attrs(one=f"one logit above the mean of {n_candidates} candidates")
