"""Which numbers are computed in which dtype.

Weights and matrix products have the model's dtype. Squares, sums over prompts or positions, attention scores, softmax,
and logits that are read are computed in float32, or in float64 where the model is (`widened`). No number depends on
`torch.autocast` (`without_autocast`), which would round float32 models to half precision product by product.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
_DEVICES = ("cpu", "cuda", "mps", "xpu")


def widened(x: Tensor) -> Tensor:
    """`x` in float32 if it has half precision; else `x` itself, not copied."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """A function that computes under `torch.autocast` what it computes outside it."""

    @wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        with ExitStack() as stack:
            for device in filter(torch.is_autocast_enabled, _DEVICES):
                stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return exact
