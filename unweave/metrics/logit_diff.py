"""Logit difference: how far the answer's logit lies above the wrong answer's."""

from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float, Int
from torch import Tensor

from unweave.metrics.entries import answer_and_wrong, check_read, scored
from unweave.models.prompts import Prompts


@final
@dataclass(frozen=True)
class LogitDiff:
    """logit(answer) - logit(wrong answer), the log of the odds of the two. Reads two columns a prompt, at `role`."""

    role: str = "end"

    name: str = field(default="logit difference", init=False, repr=False)
    unit: str = field(default="logits", init=False, repr=False)
    higher_is_better: bool = field(default=True, init=False, repr=False)
    needs_reference: bool = field(default=False, init=False, repr=False)

    __call__ = scored

    def columns(self, prompts: Prompts) -> Int[Tensor, "prompt column"]:
        """Answer and wrong answer. Raises InputError where the prompts have none."""
        return answer_and_wrong(self.name, prompts)

    def score(
        self,
        logits: Float[Tensor, "row column"],
        prompts: Prompts,
        reference: Float[Tensor, "row column"] | None = None,
    ) -> Float[Tensor, " row"]:
        """The difference of the two columns."""
        check_read(self, logits, prompts)
        return logits[:, 0] - logits[:, 1]
