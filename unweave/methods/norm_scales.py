"""What the norm before each layer's attention divides by, position by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.methods.frame import labelled_run
from unweave.models.forward import norm_scale
from unweave.models.model import Model
from unweave.models.prompts import Prompts

if TYPE_CHECKING:
    import xarray as xr


def norm_scales(model: Model, prompts: Prompts | str | Sequence[str] | Int[Tensor, "prompt pos"]) -> xr.DataArray:
    """The scale of every layer's first norm: the root mean square of the stream, for LayerNorm without its mean.

    Returns:
        Scales `[prompt, layer, pos]`, NaN beyond a prompt's end; 1 throughout where the model has no norm.

    Raises:
        InputError: prompts that do not fit the model.
    """
    batch = model.prompts(prompts)
    run = model.run(batch, keep="resid_pre")
    scales = torch.stack([norm_scale(model.config, x)[..., 0] for x in run["resid_pre"]], dim=1)
    axes = {"layer": range(model.config.n_layers), "pos": range(batch.tokens.shape[1])}
    attrs = {
        "method": "norm scales",
        "quantity": "norm scale",
        "unit": "",
        "zero": "the stream is 0",
        "one": "the norm changes no size",
    }
    return labelled_run(model, batch, scales, axes, attrs)
