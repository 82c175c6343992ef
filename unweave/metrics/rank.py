"""Rank of the answer among all tokens."""

from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float
from torch import Tensor

from unweave.metrics.entries import at, check_read, entries, scored
from unweave.models.prompts import Prompts


@final
@dataclass(frozen=True)
class Rank:
    """How many tokens have a larger logit than the answer: 0 where none has. Reads the whole vocabulary, at `role`."""

    role: str = "end"

    name: str = field(default="rank", init=False, repr=False)
    unit: str = field(default="tokens above", init=False, repr=False)
    higher_is_better: bool = field(default=False, init=False, repr=False)
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
        """The answer's rank, in the logits' dtype. Raises InputError where the prompts have no answers."""
        check_read(self, logits, prompts)
        answer = at(logits, entries(self.name, prompts, "answers"))
        return (logits > answer[:, None]).sum(-1).to(logits.dtype)
