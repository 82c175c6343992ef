"""What is patched: grids of nodes, and joint patches of several nodes at once.

A variant is one patched run of every prompt. A grid holds variants at one site and layer: one for each head, place and
source, in this order, for the axes that the grid has. A place is a position of each prompt, the same for all (over
positions) or its own (a role).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class NodeGrid:
    """Variants `offset … offset + size` of the runs.

    Args:
        parts: heads (kv heads for `k` and `v`) or neurons patched one by one; None patches all of them together.
        places: positions patched one by one, `[place prompt]`; None patches all positions together. For `pattern` these
            are destinations.
        sources: for `pattern`, source positions patched one by one, `[source prompt]`; None patches the whole row.
    """

    site: str
    layer: int
    offset: int = 0
    parts: tuple[int, ...] | None = None
    places: Int[Tensor, "place prompt"] | None = None
    sources: Int[Tensor, "source prompt"] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Parts, places and sources; 1 where the grid lacks the axis."""
        return (
            1 if self.parts is None else len(self.parts),
            1 if self.places is None else self.places.shape[0],
            1 if self.sources is None else self.sources.shape[0],
        )

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def members(self) -> "tuple[NodeGrid, ...]":
        """Itself, as a joint patch has members."""
        return (self,)

    @property
    def variants(self) -> Int[Tensor, " variant"]:
        """The numbers of its variants."""
        return torch.arange(self.offset, self.offset + self.size)

    def of(self, batch: range) -> "NodeGrid":
        """The same variants of some prompts only."""
        at = list(batch)
        return replace(
            self,
            places=None if self.places is None else self.places[:, at],
            sources=None if self.sources is None else self.sources[:, at],
        )

    def pieces(self, most: int) -> "Iterator[NodeGrid]":
        """The same variants as grids of which each has at most `most` at one place, or one part."""
        step = max(1, most // self.shape[2])
        if self.parts is None or len(self.parts) <= step:
            yield self
            return
        each = self.size // len(self.parts)
        for start in range(0, len(self.parts), step):
            yield replace(self, parts=self.parts[start : start + step], offset=self.offset + start * each)


@dataclass(frozen=True)
class JointPatch:
    """One variant that makes the first patch of each member at once, in flight. Members have its number."""

    members: tuple[NodeGrid, ...]
    offset: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(replace(member, offset=self.offset) for member in self.members))

    @property
    def variants(self) -> Int[Tensor, " variant"]:
        """Its number."""
        return torch.tensor([self.offset])

    def of(self, batch: range) -> "JointPatch":
        """The same variant of some prompts only."""
        return replace(self, members=tuple(member.of(batch) for member in self.members))

    def pieces(self, most: int) -> "Iterator[JointPatch]":
        """Itself: one variant cannot be cut."""
        yield self
