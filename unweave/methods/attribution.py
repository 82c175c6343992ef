"""Direct logit attribution and the logit lens: what each part of the residual stream says about the answer, directly.

The residual stream before the last norm is a sum: embeddings, what every attention and MLP wrote, biases. The last
norm's scale is taken from the run and kept, so that the logit difference is linear in the stream (Elhage et al. 2021,
"A Mathematical Framework for Transformer Circuits"; nostalgebraist 2020, "interpreting GPT: the logit lens"):

    logit difference = sum over parts of (part - its mean) / scale · w · direction  +  b · direction  +  b_U · (answer
    - wrong)

with `direction = W_U[answer] - W_U[wrong]`, and w, b the last norm's weight and bias (no mean is taken off for RMS
norm). Steps:

1. Run the clean prompts and keep what the parts need, at the position that the metric reads in each prompt.
2. Fold the last norm into one reading direction a prompt: whatever `x` is, `x · reading + constant` is its logit
   difference.
3. Project each part. What is in no part (biases) is stated, so that the parts sum to the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsIndex

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.methods.axes import several
from unweave.methods.frame import Coords, array_of, labelled
from unweave.methods.weights.head_matrices import answer_direction
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.forward import norm_scale
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.models.run import Run
from unweave.models.sites import check_layer

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Reading:
    """How the answer is read off the residual stream at one position of each prompt, the norm's scale held fixed."""

    direction: Float[Tensor, "prompt d_model"]
    constant: Float[Tensor, " prompt"]
    at: Int[Tensor, " prompt"]

    def of(self, part: Float[Tensor, "prompt ... d_model"]) -> Float[Tensor, "prompt ..."]:
        """Each part's contribution to the logit difference."""
        return einsum(part, self.direction, "prompt ... d, prompt d -> prompt ...")

    def pick(self, kept: Float[Tensor, "prompt pos ..."]) -> Float[Tensor, "prompt ..."]:
        """Kept activations at the position that is read."""
        return kept[torch.arange(len(self.at), device=kept.device), self.at]


def reading_of(model: Model, stream: Float[Tensor, "prompt pos d_model"], prompts: Prompts, role: str) -> Reading:
    """The reading of `answers` against `wrong`. Raises InputError where the prompts lack either."""
    if prompts.answers is None or prompts.wrong is None:
        raise InputError(
            "attribution: the prompts need answers and wrong answers, since it explains a logit difference"
        )
    at = prompts.role(role)
    x = stream[torch.arange(len(prompts), device=stream.device), at]
    direction, constant = answer_direction(model, prompts.answers, prompts.wrong)
    return Reading(direction / norm_scale(model.config, x), constant, at)


def logit_lens(pair: Contrast, mid: bool = True) -> xr.DataArray:
    """The logit difference that the residual stream holds at every layer, read with the scale of the last norm.

    Args:
        pair: its clean prompts are read, at the metric's role.
        mid: whether to read between attention and MLP too (`5_mid`); parallel blocks have no such place.

    Returns:
        Logit differences `[prompt, stage]`, in logits; the last stage, `final`, is the model's own.

    Raises:
        InputError: prompts without answers or wrong answers.
    """
    check_pair(pair)
    config = pair.model.config
    mid = mid and config.block == "serial"
    keep = [*(["resid_pre", "resid_mid"] if mid else ["resid_pre"]), ("resid_post", config.n_layers - 1)]
    run = pair.model.run(pair.prompts, keep=keep)
    reading = reading_of(pair.model, run["resid_post", -1], pair.prompts, pair.metric.role)
    stages = {}
    for layer in range(config.n_layers):
        stages[f"{layer}_pre"] = run["resid_pre", layer]
        if mid:
            stages[f"{layer}_mid"] = run["resid_mid", layer]
    stages["final"] = run["resid_post", -1]
    read = torch.stack([reading.of(reading.pick(x)) for x in stages.values()], dim=1) + reading.constant[:, None]
    return labelled(pair, read, {"stage": list(stages)}, _attrs("logit lens"))


def attribute(
    pair: Contrast,
    by: str = "component",
    layers: SupportsIndex | Sequence[SupportsIndex] | None = None,
    prompts: str = "clean",
) -> xr.DataArray:
    """Direct logit attribution: each part's contribution to the logit difference at the metric's role.

    Args:
        pair: model and prompts.
        by: `"component"` (`embed`, `0_attn`, `0_mlp`, …, `bias`), `"layer"` (attention and MLP of each), `"head"`,
            `"neuron"`.
        layers: only these layers' parts, one or a list; all by default.
        prompts: which of the two sets is read, `"clean"` or `"corrupted"`.

    Returns:
        Contributions in logits: `[prompt, component]`, `[prompt, layer, part]`, `[prompt, layer, head]` or
        `[prompt, layer, neuron]`. The coordinate `rest[prompt]` is what the table leaves out (embeddings, biases, the
        other kind of layer), and `total[prompt]` the logit difference itself: the table's sum plus rest is the total.

    Raises:
        InputError: prompts without answers or wrong answers; neurons of a model without MLPs.
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
    keep = [(site, layer) for site in sites for layer in chosen]
    embeddings = ["embed", "pos_embed"] if config.positions == "learned" else ["embed"]
    run = pair.model.run(shown, keep=[*keep, *embeddings, ("resid_post", config.n_layers - 1)])
    reading = reading_of(pair.model, run["resid_post", -1], pair.prompts, pair.metric.role)
    total = reading.of(reading.pick(run["resid_post", -1])) + reading.constant
    axes, table = _tables(pair.model, run, reading, by, chosen, embeddings)
    rest = total - table.flatten(1).sum(1)
    if by == "component":  # all of the stream is in the table, so what is left is bias, and it is a part
        axes = {"component": [*axes["component"], "bias"]} if len(chosen) == config.n_layers else axes
        table = torch.cat([table, rest[:, None]], 1) if len(chosen) == config.n_layers else table
        rest = total - table.sum(1)
    extra: Coords = {name: (("prompt",), array_of(value)) for name, value in (("rest", rest), ("total", total))}
    return labelled(pair, table, axes, _attrs("direct logit attribution") | {"prompts": prompts}, shown, extra)


_SITES: dict[str, tuple[str, ...]] = {
    "component": ("attn_out", "mlp_out"),
    "layer": ("attn_out", "mlp_out"),
    "head": ("z",),
    "neuron": ("mlp_post",),
}


def _tables(
    model: Model, run: Run, reading: Reading, by: str, layers: Sequence[int], embeddings: Sequence[str]
) -> tuple[Mapping[str, Sequence], Float[Tensor, "prompt ..."]]:
    """Axes and contributions of the parts that `by` names."""
    if by == "head":
        rows = [by_head(model, reading, reading.pick(run["z", layer]), layer) for layer in layers]
        return {"layer": layers, "head": range(model.config.n_heads)}, torch.stack(rows, 1)
    if by == "neuron":
        rows = [by_neuron(model, reading, reading.pick(run["mlp_post", layer]), layer) for layer in layers]
        return {"layer": layers, "neuron": range(model.config.d_mlp)}, torch.stack(rows, 1)
    kinds = {"attn": "attn_out", "mlp": "mlp_out"} if model.config.d_mlp else {"attn": "attn_out"}
    written = [torch.stack([reading.of(reading.pick(run[site, n])) for site in kinds.values()], 1) for n in layers]
    table = torch.stack(written, 1)
    if by == "layer":
        return {"layer": layers, "part": list(kinds)}, table
    first = torch.stack([reading.of(reading.pick(run[site])) for site in embeddings], 1)
    names = [*embeddings, *(f"{layer}_{kind}" for layer in layers for kind in kinds)]
    return {"component": names}, torch.cat([first, table.flatten(1)], 1)


def by_head(
    model: Model, reading: Reading, z: Float[Tensor, "prompt head d_head"], layer: int
) -> Float[Tensor, "prompt head"]:
    """Contributions of one layer's heads, without the output bias, which belongs to none of them."""
    w_o = rearrange(model.weights.layers[layer].w_o, "d (head e) -> head e d", e=model.config.d_head)
    return reading.of(einsum(z, w_o, "prompt head e, head e d -> prompt head d"))


def by_neuron(
    model: Model, reading: Reading, post: Float[Tensor, "prompt d_mlp"], layer: int
) -> Float[Tensor, "prompt d_mlp"]:
    """Contributions of one MLP's neurons, without the output bias."""
    w_out = model.weights.layers[layer].w_out
    assert w_out is not None
    return post * (reading.direction @ w_out)


def _attrs(method: str) -> dict[str, str]:
    return {
        "method": method,
        "quantity": "logit difference",
        "unit": "logits",
        "zero": "no say in the answer",
        "one": "one logit towards the right answer",
    }
