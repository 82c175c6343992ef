"""Results whose finding is known, for tests of what is said and shown of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

N_PROMPTS = 20
WORDS = ("<bos>", "When", " John", " and", " <script>alert(1)</script>", " went", ",", " John", " to")
ROLES = {"IO": 4, "S1": 2, "S2": 7, "end": 8}

ATTRS: dict[str, str | int | float] = {
    "model": "tiny",
    "quantization": "4 bits a weight",
    "model_revision": "sha256 0123",
    "task": "ioi",
    "corruption": "S2",
    "seed": 0,
    "n_prompts": N_PROMPTS,
    "metric": "logit difference",
    "unit": "logits",
    "version": "0.1.0",
    "digest": "",
    "notes": "",
}
PATCHING: dict[str, Any] = {
    "method": "activation patching",
    "quantity": "effect",
    "direction": "denoise",
    "zero": "as the corrupted prompt",
    "one": "as the clean prompt",
}
ATTRIBUTION: dict[str, Any] = {
    "method": "direct logit attribution",
    "quantity": "logit difference",
    "zero": "none",
    "one": "one logit",
}
ATTENTION: dict[str, Any] = {
    "method": "attention",
    "quantity": "attention",
    "unit": "share",
    "zero": "elsewhere",
    "one": "there alone",
}


def result(
    axes: Mapping[str, Sequence],
    cells: Mapping[tuple, float],
    n_prompts: int = N_PROMPTS,
    noise: float = 0.004,
    **attrs: str | int | float | list[str],
) -> xr.DataArray:
    """A result over `axes`: `cells` (by coordinate) have about the given means, all others are noise around 0."""
    rng = np.random.default_rng(5)
    names = list(axes)
    values = rng.normal(scale=noise, size=(n_prompts, *map(len, axes.values())))
    # Means of the noise are subtracted, so that what is not given is not there.
    values -= values.mean(axis=0)
    for where, mean in cells.items():
        at = tuple(list(axes[name]).index(place) for name, place in zip(names, where, strict=True))
        values[(slice(None), *at)] += mean
    scores = np.random.default_rng(6).normal(scale=0.3, size=n_prompts)
    coords: dict = {"prompt": np.arange(n_prompts), **{name: list(places) for name, places in axes.items()}}
    coords |= {"clean": ("prompt", 4.0 + scores), "corrupted": ("prompt", -4.0 - scores)}
    coords["total"] = ("prompt", 4.0 + scores)
    for axis, token in (("pos", "token"), ("q_pos", "q_token"), ("k_pos", "k_token")):
        if axis in axes:
            coords[token] = (("prompt", axis), [[WORDS[place] for place in axes[axis]]] * n_prompts)
    if "role" in axes:
        coords["role_pos"] = (("prompt", "role"), [[ROLES[role] for role in axes["role"]]] * n_prompts)
    attributes = {**ATTRS, **PATCHING, **attrs, "n_prompts": n_prompts}
    return xr.DataArray(values, dims=("prompt", *names), coords=coords, attrs=attributes)


def heads(cells: Mapping[tuple, float] | None = None, **options) -> xr.DataArray:
    """Effects of heads: by default 5.1 and 3.0 carry the answer and 4.2 works against it."""
    given = {(5, 1): 0.5, (3, 0): 0.4, (4, 2): -0.2} if cells is None else cells
    return result({"layer": range(6), "head": range(3)}, given, **{"site": "z", **options})


def stream(place: str = "pos") -> xr.DataArray:
    """The residual stream: the answer sits at token 7 (S2) in layers 0 to 2 and at token 8 (end) from layer 4 on."""
    before, after = (7, 8) if place == "pos" else ("S2", "end")
    axes = {"layer": range(6), place: range(9) if place == "pos" else list(ROLES)}
    cells = {(layer, before): 0.9 for layer in range(3)} | {(layer, after): 0.8 for layer in (4, 5)}
    return result(axes, cells, site="resid_pre")


def patterns(n_prompts: int = 3, names: Sequence[str] = ("5.1", "3.0")) -> xr.DataArray:
    """Attention from the last token: the first head to the name at 4, the others to the first token."""
    n = len(WORDS)
    values = np.tril(np.ones((n_prompts, len(names), n, n)))
    values[:, 0, -1, 4] = 36
    values[:, 1:, -1, 0] = 12
    values /= values.sum(-1, keepdims=True)
    made = result({"address": list(names), "q_pos": range(n), "k_pos": range(n)}, {}, n_prompts, **ATTENTION)
    return made.copy(data=values)


def lens(means: Sequence[float], noise: float = 0.1) -> xr.DataArray:
    """A logit lens with the given means; stages `0_pre, 0_mid, 1_pre, …, final`."""
    layers = (len(means) - 1) // 2
    stages = [f"{layer}_{part}" for layer in range(layers) for part in ("pre", "mid")] + ["final"]
    cells = {(stage,): mean for stage, mean in zip(stages, means, strict=True)}
    return result({"stage": stages}, cells, noise=noise, **{**ATTRIBUTION, "method": "logit lens"})
