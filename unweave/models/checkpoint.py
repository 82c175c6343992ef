"""What every source of a model comes down to before it is converted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A HF config as a dict, a HF state dict, a HF tokenizer or None, and where they came from.

    `source`, `revision` and `quantization` are what results and reports say of the model. `own` are fields of our
    `Weights` that take the place of what config and state dict say.
    """

    options: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    tokenizer: Any
    name: str
    source: str
    revision: str = ""
    quantization: str = ""
    own: Mapping[str, Tensor] = field(default_factory=dict)
