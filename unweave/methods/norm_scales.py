"""What the norm before each layer's attention divides by, position by position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from unweave.engine.reading import read_sites
from unweave.methods.to_xarray import run_to_xarray
from unweave.models.forward import norm_scale
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.models.run import Key
from unweave.progress import Progress
from unweave.registry import Method, register

SCALES = register(
    Method(
        "norm scales",
        quantity="norm scale",
        zero="the stream is 0",
        one="the norm changes no size",
        picture="unweave.views.classifier_pictures:scale_blocks",
        dims=("prompt", "layer", "pos"),
    )
)


def norm_scales(
    model: Model,
    prompts: Prompts | str | Sequence[str] | Int[Tensor, "prompt pos"],
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """The scale of every layer's first norm: the root mean square of the stream, for LayerNorm without its mean.

    Args:
        model: any model.
        prompts: prompts, texts, or token ids `[prompt pos]`.
        memory, progress: as in `patch`.

    Returns:
        Scales `[prompt, layer, pos]`, NaN beyond a prompt's end; 1 throughout where the model has no norm.

    Raises:
        InputError: prompts that do not fit the model.
    """
    batch = model.prompts(prompts)

    def pick(key: Key, value: Tensor, rows: slice) -> Tensor:
        return norm_scale(model.config, value)[..., 0]

    keys = [("resid_pre", layer) for layer in range(model.config.n_layers)]
    found = read_sites(model, batch, keys, pick, memory, progress)
    scales = torch.stack(list(found.values()), dim=1)
    axes = {"layer": range(model.config.n_layers), "pos": range(batch.tokens.shape[1])}
    return run_to_xarray(model, batch, scales, axes, SCALES.attrs())
