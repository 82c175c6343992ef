"""Results made by hand, in the shape that methods give, for tests that need no model."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

ATTRS: dict[str, str | int | float] = {
    "method": "activation patching",
    "quantity": "effect",
    "metric": "logit difference",
    "unit": "logits",
    "direction": "denoise",
    "zero": "as the corrupted prompt",
    "one": "as the clean prompt",
    "model": "tiny",
    "n_prompts": 8,
    "seed": 0,
    "bos": 1,
}


def result(shape: dict[str, int], site: str = "z", seed: int = 0) -> xr.DataArray:
    """Random effects with the given sizes of dimensions; `prompt` comes first."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=tuple(shape.values())).astype(np.float32)
    coords = {name: np.arange(size) for name, size in shape.items() if name != "role"}
    if "role" in shape:
        coords["role"] = np.array(["IO", "S1", "S1+1", "S2", "end"][: shape["role"]])
    array = xr.DataArray(values, dims=tuple(shape), coords=coords, name=site, attrs=ATTRS | {"site": site})
    return array.assign_attrs(n_prompts=shape.get("prompt", 1))


def with_tokens(array: xr.DataArray, rows: Sequence[Sequence[str]]) -> xr.DataArray:
    """The array with the prompts' tokens on its `pos` dimension."""
    return array.assign_coords(token=(("prompt", "pos"), np.array(rows)))


def heads(n_prompts: int = 8, n_layers: int = 4, n_heads: int = 3) -> xr.DataArray:
    """Head 2.1 has a clear effect of 0.5, head 3.0 one of -0.25, layer 0 exactly none, the others noise around 0."""
    rng = np.random.default_rng(7)
    values = rng.normal(scale=0.02, size=(n_prompts, n_layers, n_heads)).astype(np.float32)
    values[:, 0] = 0
    values[:, 2, 1] += 0.5
    values[:, 3, 0] -= 0.25
    fake = result({"prompt": n_prompts, "layer": n_layers, "head": n_heads})
    return fake.copy(data=values)
