"""One converter a HF `model_type`. A new family is its file and its line in `FAMILIES`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from unweave.errors import ModelError
from unweave.models.config import Config
from unweave.models.families import gpt2, gpt_neox, llama
from unweave.models.weights import Weights

Converter = Callable[[Mapping[str, Any], Mapping[str, Tensor]], tuple[Config, Weights]]

FAMILIES: dict[str, Converter] = {
    "gpt2": gpt2.convert,
    "gpt_neox": gpt_neox.convert,
    "llama": llama.convert,
}


def check_family(model_type: object) -> str:
    """`model_type`, where there is a converter for it.

    Raises:
        ModelError: there is none; the message lists those there are.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        given = repr(model_type) if model_type else "missing"
        raise ModelError(f"model_type is {given}; unweave reads the families {', '.join(sorted(FAMILIES))}")
    return model_type


def convert(options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Config, Weights]:
    """A HF config (its `to_dict()`) and state dict as ours. Matrices that need no new layout share the given memory.

    Raises:
        ModelError: a family or an option that is not understood; a tensor that is missing, misshapen or left over.
    """
    config, weights = FAMILIES[check_family(options.get("model_type"))](options, tensors)
    return replace(config, tied_unembed=weights.w_u is weights.w_e), weights
