"""Accuracy: whether the answer wins."""

from dataclasses import dataclass, field
from typing import Literal, final

from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.metrics.entries import answer_and_wrong, at, check_read, entries, scored
from unweave.models.prompts import Prompts


@final
@dataclass(frozen=True)
class Accuracy:
    """1 where the answer wins at `role`, else 0; the mean over prompts is the share that is right.

    `against="wrong"` asks whether its logit lies above the wrong answer's, and reads two columns a prompt;
    `against="all"` whether it lies above that of every other token, and reads the whole vocabulary. A tie is not won.
    """

    role: str = "end"
    against: Literal["wrong", "all"] = "wrong"

    name: str = field(default="accuracy", init=False, repr=False)
    unit: str = field(default="share right", init=False, repr=False)
    higher_is_better: bool = field(default=True, init=False, repr=False)
    needs_reference: bool = field(default=False, init=False, repr=False)

    __call__ = scored

    def __post_init__(self) -> None:
        if self.against not in ("wrong", "all"):
            raise InputError(f"against: expected 'wrong' or 'all', got {self.against!r}")

    def columns(self, prompts: Prompts) -> Int[Tensor, "prompt column"] | None:
        """Answer and wrong answer, or the whole vocabulary. Raises InputError where the prompts have none."""
        return None if self.against == "all" else answer_and_wrong(self.name, prompts)

    def score(
        self,
        logits: Float[Tensor, "row column"],
        prompts: Prompts,
        reference: Float[Tensor, "row column"] | None = None,
    ) -> Float[Tensor, " row"]:
        """1 or 0 a row, in the logits' dtype."""
        check_read(self, logits, prompts)
        if self.against == "wrong":
            return (logits[:, 0] > logits[:, 1]).to(logits.dtype)
        answer = at(logits, entries(self.name, prompts, "answers"))
        return ((logits >= answer[:, None]).sum(-1) == 1).to(logits.dtype)
