"""Where the values of a sweep come from: a run of prompts, or tensors that were made beforehand (means, zeros)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.models.run import Key, Run, run_model
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

    `Question.reach` sees to models that are not causal. `run` was made of the same prompts before: it lends what it
    kept, and the prompts are run again for the rest.
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
