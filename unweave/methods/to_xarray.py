"""How a method's numbers become a labelled result: coordinates for every axis, attributes that say what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from unweave.errors import Interrupted
from unweave.metrics.contrast import Contrast
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.results.labels import TOKENS
from unweave.results.origin import stamped
from unweave.version import __version__

# What a result says of itself: a list is a list, never a text to be taken apart.
Attrs = Mapping[str, str | int | float | list[str] | Mapping[str, list[str]]]
# Of each coordinate: the dimensions that it runs along, and its values.
Coords = dict[str, tuple[tuple[str, ...], Sequence | np.ndarray]]


def finished(result: Any, stopped: bool) -> Any:
    """The result; raises Interrupted with it where Ctrl-C ended its runs."""
    if stopped:
        raise Interrupted("interrupted; what was finished is in .partial", result)
    return result


def to_xarray(
    pair: Contrast,
    values: Tensor,
    axes: Mapping[str, Sequence],
    attrs: Attrs,
    prompts: Prompts | None = None,
    extra: Coords | None = None,
) -> xr.DataArray:
    """A result with dimensions `prompt` and then `axes`, with the tokens of `prompts` (the clean ones by default).

    At a position that a prompt does not have there is no value, but NaN.
    """
    shown = pair.prompts if prompts is None else prompts
    dims = ("prompt", *axes)
    coords: Coords = {name: ((name,), list(values_of)) for name, values_of in axes.items()}
    scores = {"clean": pair.clean_scores, "corrupted": pair.corrupted_scores}
    coords |= _text_coords(shown) | {side: (("prompt",), array_of(values)) for side, values in scores.items()}
    coords |= _token_coords(shown, axes, pair.prompts) | (extra or {})
    about = {**attributes(pair), "over": list(axes), **attrs}
    return stamped(xr.DataArray(array_of(_within(shown, values, axes)), dims=dims, coords=coords, attrs=about))


def weights_to_xarray(
    model: Model,
    values: Tensor,
    axes: Mapping[str, Sequence],
    attrs: Attrs,
    extra: Coords | None = None,
) -> xr.DataArray:
    """A result of the model only: of no prompts that were given."""
    coords: Coords = {name: ((name,), list(values_of)) for name, values_of in axes.items()} | (extra or {})
    about = {**model_attributes(model), "version": __version__, "notes": "", **attrs}
    return stamped(xr.DataArray(array_of(values), dims=tuple(axes), coords=coords, attrs=about))


def sites_to_xarray(arrays: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Results of several sites, by site; the attributes of the whole are what the first says but of its own site."""
    shared = {name: value for name, value in next(iter(arrays.values())).attrs.items() if name not in ("site", "notes")}
    return xr.Dataset({name: array.rename(name) for name, array in arrays.items()}, attrs=shared)


def run_to_xarray(
    model: Model,
    prompts: Prompts,
    values: Tensor,
    axes: Mapping[str, Sequence],
    attrs: Attrs,
    extra: Coords | None = None,
) -> xr.DataArray:
    """A result of one set of prompts, without a contrast: dimensions `prompt` and then `axes`."""
    about = {
        "task": str(prompts.source.get("task", "prompts")),
        "seed": int(prompts.source.get("seed", -1)),
        "bos": int(prompts.bos),
        "n_prompts": len(prompts),
    }
    coords = _text_coords(prompts) | _token_coords(prompts, axes, prompts) | (extra or {})
    values = _within(prompts, values, axes)
    return weights_to_xarray(model, values, {"prompt": range(len(prompts)), **axes}, {**about, **attrs}, coords)


def _within(prompts: Prompts, values: Tensor, axes: Mapping[str, Sequence]) -> Tensor:
    """Values `[prompt, *axes]`, NaN at positions that a prompt does not have."""
    lengths = prompts.lengths.to(values.device)
    for number, name in enumerate(axes):
        if name in TOKENS:
            beyond = torch.tensor(list(axes[name]), device=values.device) >= lengths[:, None]
            others = [1] * (len(axes) - 1 - number)
            beyond = beyond.reshape(len(prompts), *[1] * number, -1, *others)
            values = values.masked_fill(beyond, float("nan")) if beyond.any() else values
    return values


def array_of(values: Tensor) -> np.ndarray:
    """A tensor as an array, at least in float32: numpy has no bfloat16, and netCDF no half precision."""
    values = values.detach().cpu()
    return (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy()


def attributes(pair: Contrast) -> dict[str, str | int | float | list[str]]:
    """What every result says of the model, the prompts and the metric."""
    source, other = pair.prompts.source, pair.corrupted.source
    return {
        **model_attributes(pair.model),
        "task": str(source.get("task", "prompts")),
        "corruption": str(other.get("corruption", "given")),
        "seed": int(source.get("seed", -1)),
        "bos": int(pair.prompts.bos),
        "n_prompts": len(pair.prompts),
        "metric": pair.metric.name,
        "metric_unit": pair.metric.unit,
        "better": "higher" if pair.metric.higher_is_better else "lower",
        "gap": pair.gap,
        "clean_mean": float(pair.clean_scores.mean()),
        "n_pos": pair.prompts.tokens.shape[1],
        "roles": list(pair.prompts.roles),
        "unit": pair.metric.unit,
        "role": pair.metric.role,
        "version": __version__,
        "notes": "",
    }


def model_attributes(model: Model) -> dict[str, str | int | float]:
    """What every result says of the model."""
    config = model.config
    return {
        "model": config.name,
        "model_source": config.source,
        "model_revision": config.revision,
        "quantization": config.quantization,
        "processing": " ".join(config.processing),
        "dtype": str(model.dtype).removeprefix("torch."),
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "n_kv_heads": config.n_kv_heads,
        "n_neurons": config.d_mlp,
    }


def _text_coords(shown: Prompts) -> Coords:
    texts = list(shown.texts) or [""] * len(shown)
    coords: Coords = {"prompt": (("prompt",), list(range(len(shown)))), "text": (("prompt",), texts)}
    return coords if shown.clusters is None else {**coords, "cluster": (("prompt",), shown.clusters.tolist())}


def _token_coords(shown: Prompts, axes: Mapping[str, Sequence], placed: Prompts) -> Coords:
    """Tokens of each prompt along its position axes, "" beyond its end; those of `placed` where they are others, since
    positions are its; and where its roles stand."""
    coords: Coords = {}
    for axis, name in TOKENS.items():
        if axis in axes:
            own, clean = ([_tokens_at(row, axes[axis]) for row in _str_tokens(of)] for of in (shown, placed))
            coords[name] = (("prompt", axis), own)
            coords |= {f"clean_{name}": (("prompt", axis), clean)} if own != clean else {}
    if "role" in axes:
        places = [placed.role(role).tolist() for role in axes["role"]]
        coords["role_pos"] = (("prompt", "role"), [list(row) for row in zip(*places, strict=True)])
    return coords


def _str_tokens(shown: Prompts) -> Sequence[Sequence[str]]:
    return shown.str_tokens or [tuple(map(str, row.tolist())) for row in shown.tokens]


def _tokens_at(row: Sequence[str], places: Sequence[int]) -> list[str]:
    return [row[place] if place < len(row) else "" for place in places]
