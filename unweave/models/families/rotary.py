"""Rotary position tables: inverse frequencies and their scale, as the reference library computes them.

`rope_parameters` says how: `default` (Su et al., arXiv 2104.09864), `linear`, `llama3` and `yarn` (arXiv 2309.00071)
stretch the frequencies once and for all. `dynamic` and `longrope` choose them by the length of the prompt, so that one
token more changes what all earlier positions computed: they are refused.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.errors import ModelError

_BASE_KEYS = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor"})
_KEYS: dict[str, frozenset[str]] = {
    "default": _BASE_KEYS,
    "linear": _BASE_KEYS | {"factor"},
    "llama3": _BASE_KEYS | {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": _BASE_KEYS
    | {
        "factor",
        "attention_factor",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "original_max_position_embeddings",
        "truncate",
    },
}


def rotary_tables(
    options: Mapping[str, Any], rope: Mapping[str, Any], d_head: int
) -> tuple[int, Float[Tensor, " half_rotary"], float]:
    """Rotated dimensions of a head, their inverse frequencies (float32), and the scale of cosine and sine.

    Args:
        options: the whole HF config, which the reference library's functions read.
        rope: its `rope_parameters`.
        d_head: width of a head.

    Raises:
        ModelError: a type or parameter of rotary positions that unweave does not support.
    """
    kind, option = rope.get("rope_type", "default"), "config option rope_parameters"
    if kind not in _KEYS:
        raise ModelError(f"{option}: rope_type={kind!r} is not supported; there are {', '.join(_KEYS)}")
    unknown = sorted(key for key in rope if key not in _KEYS[kind] and rope[key] is not None)
    if unknown:
        raise ModelError(f"{option}: {unknown[0]}={rope[unknown[0]]!r} is not known for rope_type {kind!r}")
    fraction = rope.get("partial_rotary_factor")
    n_rotated = d_head if fraction is None else int(d_head * fraction)
    if n_rotated <= 0 or n_rotated % 2:
        raise ModelError(f"{option}: {n_rotated} of the {d_head} dimensions of a head cannot be rotated")
    freq, scale = _default(rope, n_rotated) if kind == "default" else _stretched(options, kind)
    return n_rotated, freq.float(), float(scale)


def _default(rope: Mapping[str, Any], n_rotated: int) -> tuple[Float[Tensor, " half_rotary"], float]:
    exponents = torch.arange(0, n_rotated, 2, dtype=torch.float) / n_rotated
    return 1.0 / (rope["rope_theta"] ** exponents), 1.0


def _stretched(options: Mapping[str, Any], kind: str) -> tuple[Float[Tensor, " half_rotary"], float]:
    from transformers import CONFIG_MAPPING
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    hf_config = CONFIG_MAPPING[options["model_type"]].from_dict(dict(options))
    return ROPE_INIT_FUNCTIONS[kind](hf_config)
