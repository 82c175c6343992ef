"""What a metric is: a score for each row of logits, read at one role of each prompt."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from unweave.models.prompts import Prompts


@runtime_checkable
class Metric(Protocol):
    """A score of each prompt's answer.

    A metric states beforehand which vocabulary it reads, so that a sweep computes no other logit. It is a frozen value:
    `score` depends on its arguments alone, and is called on rows in any order and number.
    """

    @property
    def name(self) -> str:
        """As it stands on plots: `logit difference`."""
        ...

    @property
    def unit(self) -> str:
        """`logits`, `nats`, `probability`, …"""
        ...

    @property
    def role(self) -> str:
        """The role whose position is read; `end` by default."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score means that the model does the task better."""
        ...

    @property
    def needs_reference(self) -> bool:
        """Whether `score` compares with the logits of the clean run."""
        ...

    def columns(self, prompts: Prompts) -> Int[Tensor, "prompt column"] | None:
        """Vocabulary entries that are read of each prompt, or None for the whole vocabulary."""
        ...

    def score(
        self,
        logits: Float[Tensor, "row column"],
        prompts: Prompts,
        reference: Float[Tensor, "row column"] | None = None,
    ) -> Float[Tensor, " row"]:
        """One score a row. `prompts` has one prompt a row; `reference` are the clean run's logits of these prompts."""
        ...
