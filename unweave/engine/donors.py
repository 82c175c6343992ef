"""Where patched values come from: a run of prompts, or tensors that were made beforehand (means, zeros)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor

from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.models.run import Key, Run, run_model
from unweave.models.sites import SITES
from unweave.models.weights import Weights


@runtime_checkable
class Donor(Protocol):
    """Gives values for some of the recipient's prompts, and says where they begin to differ."""

    def first(self, recipient: Prompts) -> tuple[int, ...]:
        """Of each of the recipient's prompts, the first position where a value may differ from its own."""
        ...

    def values(self, config: Config, weights: Weights, keys: Iterable[Key], batch: Sequence[int]) -> dict[Key, Tensor]:
        """The values at these sites and layers, of the prompts `batch`."""
        ...


@dataclass(frozen=True)
class RunDonor:
    """The run of some prompts. Before the first token that differs a causal model does the same with both.

    `PatchContext.spans` sees to models that are not causal. `run` was made of the same prompts before: what it
    kept is used, and the prompts are run again for the rest.
    """

    prompts: Prompts
    run: Run | None = None

    def first(self, recipient: Prompts) -> tuple[int, ...]:
        differ = recipient.tokens != self.prompts.tokens
        first = differ.int().argmax(1)
        first[~differ.any(1)] = differ.shape[1]
        return tuple(first.tolist())

    def values(self, config: Config, weights: Weights, keys: Iterable[Key], batch: Sequence[int]) -> dict[Key, Tensor]:
        wanted = list(keys)
        kept = {} if self.run is None else self.run.kept
        lacking = [key for key in wanted if key not in kept]
        made = run_model(config, weights, self.prompts.take(batch), lacking).kept if lacking else {}
        together = list(batch) == list(range(batch[0], batch[-1] + 1))
        rows = slice(batch[0], batch[-1] + 1) if together else list(batch)  # a slice is no copy
        return {key: kept[key][rows] if key in kept else made[key] for key in wanted}


@dataclass(frozen=True)
class GivenDonor:
    """Values that `make` gives for some prompts, and that may differ from the recipient's everywhere."""

    make: Callable[[Sequence[int]], Mapping[Key, Tensor]]

    def first(self, recipient: Prompts) -> tuple[int, ...]:
        return (0,) * len(recipient)

    def values(self, config: Config, weights: Weights, keys: Iterable[Key], batch: Sequence[int]) -> dict[Key, Tensor]:
        made = self.make(batch)
        return {key: made[key] for key in keys}


_AXES = {"attention": "n p -> n 1 p 1", "resid": "n p -> n p 1", "neuron": "n p -> n p 1"}


@dataclass(frozen=True)
class MaskedDonor:
    """A donor that gives what `given` gives where `mask` is true; of a pattern, at these destinations.

    The recipient's values come from where the runs have them, so that a change outside the mask is exactly 0.
    """

    given: Donor
    recipient: RunDonor
    mask: Bool[Tensor, "prompt pos"]

    def first(self, recipient: Prompts) -> tuple[int, ...]:
        first = self.mask.int().argmax(1)
        first[~self.mask.any(1)] = self.mask.shape[1]
        return tuple(first.tolist())

    def values(self, config: Config, weights: Weights, keys: Iterable[Key], batch: Sequence[int]) -> dict[Key, Tensor]:
        wanted, rows = list(keys), list(batch)
        own, given = (donor.values(config, weights, wanted, rows) for donor in (self.recipient, self.given))
        return {key: torch.where(self._over(key[0], rows), given[key], own[key]) for key in wanted}

    def _over(self, site: str, rows: list[int]) -> Tensor:
        """The mask, laid out for a site's tensor."""
        return rearrange(self.mask[rows], _AXES.get(SITES[site].rows, "n p -> n p 1 1"))
