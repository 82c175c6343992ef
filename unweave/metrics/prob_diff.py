"""Probability difference: how much likelier the answer is than the wrong answer."""

from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float
from torch import Tensor

from unweave.metrics.entries import at, check_read, entries, scored
from unweave.models.prompts import Prompts


@final
@dataclass(frozen=True)
class ProbDiff:
    """p(answer) - p(wrong answer), from -1 to 1. Reads the whole vocabulary, at `role`."""

    role: str = "end"

    name: str = field(default="probability difference", init=False, repr=False)
    unit: str = field(default="probability", init=False, repr=False)
    higher_is_better: bool = field(default=True, init=False, repr=False)
    needs_reference: bool = field(default=False, init=False, repr=False)

    __call__ = scored

    def columns(self, prompts: Prompts) -> None:
        """The whole vocabulary."""

    def score(
        self,
        logits: Float[Tensor, "row column"],
        prompts: Prompts,
        reference: Float[Tensor, "row column"] | None = None,
    ) -> Float[Tensor, " row"]:
        """The difference of the two probabilities. Raises InputError where the prompts lack answers or wrong ones."""
        check_read(self, logits, prompts)
        answers, wrong = (entries(self.name, prompts, which) for which in ("answers", "wrong"))
        probabilities = logits.softmax(-1)
        return at(probabilities, answers) - at(probabilities, wrong)
