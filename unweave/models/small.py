"""Configs of small models: made from a few fields, from a dict, or from a JSON file.

What is not given is as small models of the field have it: learned positions, serial blocks, LayerNorm with eps 1e-5,
scores scaled by 1/sqrt(d_head), one key and value head a head, no MLPs, as many outputs as inputs.
"""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from unweave.errors import InputError, ModelError, did_you_mean
from unweave.models.config import CHOICES, Config, check_choice
from unweave.models.hf_folder import read_json

ConfigSource = Config | Mapping[str, Any] | str | os.PathLike[str]

# What a dict must say, because nothing else would be right for most models.
SHAPE = ("n_layers", "n_heads", "d_model", "d_head", "d_vocab", "n_ctx")
_FLOATS = ("norm_eps", "score_scale")
_INTS = (*SHAPE, "n_kv_heads", "d_mlp", "d_vocab_out", "rotary_dim", "pad_token")
_BOOLS = ("gated_mlp", "tied_unembed", "causal")


def small_config(
    n_layers: int = 2,
    n_heads: int = 2,
    d_model: int = 28,
    d_head: int = 14,
    d_vocab: int = 33,
    n_ctx: int = 22,
    d_vocab_out: int | None = None,
    d_mlp: int = 0,
    norm: str = "layer",
    activation: str = "relu",
    causal: bool = True,
    pad_token: int | None = None,
    name: str = "small",
) -> Config:
    """The config of a small model with learned positions.

    Args:
        n_layers, n_heads, d_model, d_head: the shape; `d_head` need not be `d_model / n_heads`.
        d_vocab, n_ctx: entries of the vocabulary, and tokens that a prompt may have.
        d_vocab_out: classes of a classifier; None for as many as `d_vocab`.
        d_mlp: width of the MLPs; 0 for attention alone.
        norm: `"layer"`, `"rms"` or `"none"`.
        activation: of the MLPs: `"relu"`, `"gelu"`, `"gelu_new"` or `"silu"`.
        causal: False lets every position see all others.
        pad_token: with `causal=False`, the token whose keys are never read.
        name: as results state it.

    Raises:
        InputError: a field that no transformer can have, or two that contradict each other.
    """
    return config_from({**locals(), "d_vocab_out": d_vocab if d_vocab_out is None else d_vocab_out})


def config_from(source: ConfigSource) -> Config:
    """A config from itself, a dict of its fields, or the path of a JSON file of them.

    Raises:
        InputError: a field that is unknown, missing, or of a value that it cannot have.
        ModelError: a file that cannot be read, or with such a field.
    """
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return _from_options(source)
    file = Path(source)
    options = {key: value for key, value in read_json(file).items() if key != "format"}
    try:
        return _from_options({"name": file.stem, **options})
    except InputError as error:
        raise ModelError(f"{file}: {error}") from error


def _from_options(options: Mapping[str, Any]) -> Config:
    known = [field.name for field in fields(Config)]
    for key in options:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise InputError(f"config: {key!r} is not a field of a config.{hint} The fields are {' '.join(known)}")
    missing = [name for name in SHAPE if name not in options]
    if missing:
        raise InputError(f"config: {', '.join(missing)} must be given")
    values = {key: _value(key, value) for key, value in options.items()}
    return Config(**{**_defaults(values), **values})


def _value(name: str, value: Any) -> Any:
    """A field's value, checked for its type, since JSON has neither tuples nor a float that is a whole number."""
    wanted: tuple[type, ...] = (str,)
    if name in CHOICES:
        check_choice(name, value)
    elif name in _INTS:
        wanted = (int,) if name != "pad_token" else (int, type(None))
    elif name in _FLOATS:
        wanted, value = (float,), float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    elif name in _BOOLS:
        wanted = (bool,)
    elif name == "processing":
        wanted, value = (tuple,), tuple(value) if isinstance(value, list) else value
    if not isinstance(value, wanted) or (name in _INTS and isinstance(value, bool)):
        raise InputError(f"config: {name} must be of type {wanted[0].__name__}, got {value!r}")
    return value


def _defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "small",
        "family": "small",
        "n_kv_heads": options["n_heads"],
        "d_mlp": 0,
        "d_vocab_out": options["d_vocab"],
        "norm": "layer",
        "norm_eps": 1e-5,
        "block": "serial",
        "positions": "learned",
        "score_scale": options["d_head"] ** -0.5 if options["d_head"] > 0 else 1.0,
        "activation": "relu",
        "gated_mlp": False,
    }
