"""A second device, pretended: tensors that say they lie on it refuse to meet those of the processor, as on a real one.

With it, what would fail on an accelerator fails on any machine: an index or a table made on the wrong device, a result
that is read without being fetched, random numbers of the wrong generator. Numbers are the processor's own.

What a real accelerator allows is allowed: single numbers of the processor, indices of the processor, and copies.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

AWAY = torch.device("cuda", 0)

_BETWEEN = {"copy_", "__get__", "__set__", "__repr__", "__format__", "is_tensor", "is_same_size", "set_", "result_type"}
_REFUSED = {"numpy", "__array__", "data_ptr", "untyped_storage"}


class Away(Tensor):
    """A tensor on the pretended device. Its numbers lie with the processor's."""


class PretendDevice(TorchFunctionMode):
    """While it is entered, `.to(AWAY)` and `device=AWAY` make tensors on the pretended device."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "__get__" and _is_getter(func, "device"):
            return AWAY if isinstance(args[0], Away) else torch.device("cpu")
        if name == "__get__" and _is_getter(func, "is_cuda"):
            return isinstance(args[0], Away)
        away = _target(name, args, kwargs)
        if name in ("to", "cpu", "cuda"):
            return _mark(_moved(func, name, args, kwargs), away)
        _check(name, args, kwargs, away)
        if "device" in kwargs:
            kwargs["device"] = "cpu"
        return _mark(_plainly(func, args, kwargs), away)


@contextmanager
def pretended() -> Iterator[torch.device]:
    """The pretended device, with two gigabytes of memory."""
    asked, torch.cuda.mem_get_info = torch.cuda.mem_get_info, lambda device=None: (2**31, 2**32)
    try:
        with PretendDevice():
            yield AWAY
    finally:
        torch.cuda.mem_get_info = asked


def _is_getter(func: Callable, attribute: str) -> bool:
    return getattr(func, "__self__", None) is getattr(Tensor, attribute)


def _is_away(device: Any) -> bool:
    return device is not None and torch.device(device).type == AWAY.type


def _target(name: str, args: tuple, kwargs: dict) -> bool:
    """Whether the result lies on the pretended device."""
    if name == "cpu":
        return False
    if name == "cuda":
        return True
    if kwargs.get("device") is not None:
        return _is_away(kwargs["device"])
    if name == "to":
        for arg in (*args[1:], kwargs.get("other")):
            if isinstance(arg, (str, torch.device)):
                return _is_away(arg)
            if isinstance(arg, Tensor):
                return isinstance(arg, Away)
        return isinstance(args[0], Away)
    if name in ("__getitem__", "__setitem__", "copy_", "index_put_"):
        return isinstance(args[0], Away)
    return any(isinstance(leaf, Away) for leaf in tree_leaves((args, kwargs)))


def _moved(func: Callable, name: str, args: tuple, kwargs: dict) -> Tensor:
    """A copy or the tensor itself, in the dtype asked for."""
    if name in ("cpu", "cuda"):
        return _plainly(Tensor.view_as, (args[0], args[0]), {})
    here = [torch.device("cpu") if isinstance(arg, (str, torch.device)) else arg for arg in args]
    if "device" in kwargs:
        kwargs["device"] = "cpu"
    return _plainly(func, tuple(here), kwargs)


def _check(name: str, args: tuple, kwargs: dict, away: bool) -> None:
    """Refuses what a real device would refuse."""
    if name in _REFUSED and isinstance(args[0], Away):
        raise TypeError(f"{name}: can't convert a tensor on {AWAY} to numpy; use Tensor.cpu() first")
    if away and kwargs.get("generator") is not None:
        raise RuntimeError(f"{name}: expected a generator of {AWAY}, got the processor's")
    if name in _BETWEEN:
        return
    read = args[:1] + args[2:] if name in ("__getitem__", "__setitem__") else args  # indices may be the processor's
    tensors = [leaf for leaf in tree_leaves((read, kwargs)) if isinstance(leaf, Tensor)]
    near = [t for t in tensors if not isinstance(t, Away) and _plainly(Tensor.dim, (t,), {}) > 0]
    if name == "__getitem__" and not isinstance(args[0], Away) and any(isinstance(x, Away) for x in tree_leaves(args)):
        raise RuntimeError("an index lies on the device, and what it reads does not")
    if near and any(isinstance(t, Away) for t in tensors):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, got {AWAY} and cpu")


def _plainly(func: Callable, args: tuple, kwargs: dict) -> Any:
    """The call on plain tensors."""
    with torch._C.DisableTorchFunction():
        return func(*args, **kwargs)


def _mark(result: Any, away: bool) -> Any:
    """Tensors of a result, said to lie on the device or not."""
    if isinstance(result, Tensor) or (isinstance(result, (tuple, list)) and any(map(torch.is_tensor, result))):
        kind = Away if away else Tensor
        return tree_map(lambda leaf: leaf.as_subclass(kind) if isinstance(leaf, Tensor) else leaf, result)
    return result
