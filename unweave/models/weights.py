"""A transformer's weights as plain tensors.

Matrices are stored as `[out, in]`, the layout of `torch.nn.functional.linear`, and those that read the same input are
fused, because a sweep's time is spent in these products: `w_qkv` holds all query heads, then all key heads, then all
value heads; a gated MLP's `w_in` holds the gate's rows first, then the linear part's. A missing bias is None.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


def abbreviated(self: Any) -> str:
    """A repr of one line for an object of tensors or long tuples: shapes and numbers of entries; None is left out."""

    def size(part: object) -> str:
        return str([*part.shape]) if isinstance(part, Tensor) else str(len(part)) if type(part) is tuple else repr(part)

    names = getattr(self, "_fields", None) or [field.name for field in fields(self)]
    held = {name: getattr(self, name) for name in names}
    shown = [f"{name} {size(part)}" for name, part in held.items() if part is not None]
    return f"{type(self).__name__}({', '.join(shown)})"


def same_values(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, whatever their dtypes and devices."""
    kind = torch.promote_types(a.dtype, b.dtype)
    return torch.equal(a.to(b.device, kind), b.to(kind))


@dataclass(frozen=True, eq=False, repr=False)
class NormWeights:
    """Scale and shift after normalisation; None stands for ones and zeros."""

    weight: Float[Tensor, " d_model"] | None = None
    bias: Float[Tensor, " d_model"] | None = None

    __repr__ = abbreviated


@dataclass(frozen=True, eq=False, repr=False)
class LayerWeights:
    """One block. `head` rows are `(head d_head)`; `d_hidden` is `d_mlp`, or `2 * d_mlp` with a gate (gate first)."""

    norm1: NormWeights
    w_qkv: Float[Tensor, "qkv d_model"]
    b_qkv: Float[Tensor, " qkv"] | None
    w_o: Float[Tensor, "d_model z"]
    b_o: Float[Tensor, " d_model"] | None
    norm2: NormWeights
    w_in: Float[Tensor, "d_hidden d_model"] | None
    b_in: Float[Tensor, " d_hidden"] | None
    w_out: Float[Tensor, "d_model d_mlp"] | None
    b_out: Float[Tensor, " d_model"] | None

    __repr__ = abbreviated

    def of_columns(self, columns: Int[Tensor, " column"]) -> "LayerWeights":
        """The same, whose fused projection has only these columns."""
        columns = columns.to(self.w_qkv.device)
        return replace(self, w_qkv=self.w_qkv[columns], b_qkv=None if self.b_qkv is None else self.b_qkv[columns])


@dataclass(frozen=True, eq=False, repr=False)
class Weights:
    """All of a model. `w_u` is `[d_vocab_out, d_model]`; `rotary_freq` are the inverse frequencies, float32."""

    w_e: Float[Tensor, "d_vocab d_model"]
    w_pos: Float[Tensor, "n_ctx d_model"] | None
    layers: tuple[LayerWeights, ...]
    norm_final: NormWeights
    w_u: Float[Tensor, "d_vocab_out d_model"]
    b_u: Float[Tensor, " d_vocab_out"] | None
    rotary_freq: Float[Tensor, " half_rotary"] | None = None
    rotary_scale: float = 1.0

    def __repr__(self) -> str:
        tensors = self.named().values()
        return f"Weights({len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors):,} numbers)"

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Weights":
        """The same weights on another device or in another dtype (rotary frequencies stay float32)."""
        moved = self.map(lambda tensor: tensor.to(device=device, dtype=dtype))
        return moved if self.rotary_freq is None else replace(moved, rotary_freq=self.rotary_freq.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Weights":
        """The same weights with each tensor changed, but for the rotary frequencies. A tied unembedding stays tied."""

        def changed(value: object) -> object:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, (NormWeights, LayerWeights)):
                return replace(value, **{f.name: changed(getattr(value, f.name)) for f in fields(value)})
            if isinstance(value, tuple):
                return tuple(changed(part) for part in value)
            return value

        parts = {f.name: changed(getattr(self, f.name)) for f in fields(self) if f.name != "rotary_freq"}
        if self.w_u is self.w_e:
            parts["w_u"] = parts["w_e"]
        return replace(self, **parts)  # type: ignore[arg-type]

    def named(self) -> dict[str, Tensor]:
        """Each tensor by its place, `layers.0.norm1.weight`: a tied unembedding once, the rotary frequencies not."""

        def walk(value: object, place: str) -> Iterator[tuple[str, Tensor]]:
            if isinstance(value, Tensor):
                yield place, value
            elif isinstance(value, tuple):
                for index, part in enumerate(value):
                    yield from walk(part, f"{place}.{index}")
            elif isinstance(value, (Weights, NormWeights, LayerWeights)):
                for f in fields(value):
                    yield from walk(getattr(value, f.name), f"{place}.{f.name}".lstrip("."))

        tied = {"w_u"} if self.w_u is self.w_e else set()
        return {place: tensor for place, tensor in walk(self, "") if place not in {"rotary_freq", *tied}}
