"""Kullback-Leibler divergence from the clean run's next-token distribution."""

from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float
from torch import Tensor

from unweave.errors import InputError
from unweave.metrics.entries import check_read, scored
from unweave.models.prompts import Prompts


@final
@dataclass(frozen=True)
class KLToClean:
    """KL(clean || run) = sum over tokens of p_clean · (log p_clean - log p_run), in nats; 0 where the two agree.

    The mean is over the clean run's distribution: what counts is that the run calls unlikely what the clean run calls
    likely. Reads the whole vocabulary, at `role`, and no answers.
    """

    role: str = "end"

    name: str = field(default="KL divergence from clean", init=False, repr=False)
    unit: str = field(default="nats", init=False, repr=False)
    higher_is_better: bool = field(default=False, init=False, repr=False)
    needs_reference: bool = field(default=True, init=False, repr=False)

    __call__ = scored

    def columns(self, prompts: Prompts) -> None:
        """The whole vocabulary."""

    def score(
        self,
        logits: Float[Tensor, "row column"],
        prompts: Prompts,
        reference: Float[Tensor, "row column"] | None = None,
    ) -> Float[Tensor, " row"]:
        """The divergence of each row. Raises InputError without the clean run's logits."""
        check_read(self, logits, prompts)
        if reference is None or reference.shape != logits.shape:
            raise InputError(
                f"metric {self.name!r} needs reference=, the clean run's logits of its prompts; uw.Contrast gives them"
            )
        clean, run = reference.log_softmax(-1), logits.log_softmax(-1)
        return (clean.exp() * (clean - run)).sum(-1)
