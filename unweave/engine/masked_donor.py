"""Given values at some positions of each prompt, and the recipient's own at all others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor

from unweave.engine.donor import Donor, RunDonor
from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.models.run import Key
from unweave.models.sites import SITES
from unweave.models.weights import Weights

_AXES = {"attention": "n p -> n 1 p 1", "resid": "n p -> n p 1", "neuron": "n p -> n p 1"}


@dataclass(frozen=True)
class MaskedDonor:
    """A donor that gives what `given` gives where `mask` is true; of a pattern, at these destinations.

    The recipient's values come from where the sweep has them, so that a change outside the mask is exactly 0.
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
