"""Log-probability of the answer, and its negative, the cross-entropy."""

from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float
from torch import Tensor

from unweave.metrics.entries import at, check_read, entries, scored
from unweave.models.prompts import Prompts


@final
@dataclass(frozen=True)
class LogProb:
    """log p(answer), in nats, at most 0. Reads the whole vocabulary, at `role`."""

    role: str = "end"

    name: str = field(default="log-probability", init=False, repr=False)
    unit: str = field(default="nats", init=False, repr=False)
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
        """The answer's log-probability. Raises InputError where the prompts have no answers."""
        check_read(self, logits, prompts)
        return answer_log_prob(self.name, logits, prompts)


@final
@dataclass(frozen=True)
class CrossEntropy:
    """-log p(answer), in nats: the loss of next-token prediction at `role`, 0 where the answer is certain."""

    role: str = "end"

    name: str = field(default="cross-entropy", init=False, repr=False)
    unit: str = field(default="nats", init=False, repr=False)
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
        """The answer's negative log-probability. Raises InputError where the prompts have no answers."""
        check_read(self, logits, prompts)
        return -answer_log_prob(self.name, logits, prompts)


def answer_log_prob(metric: str, logits: Float[Tensor, "row d_vocab"], prompts: Prompts) -> Float[Tensor, " row"]:
    """The answer's logit less the log of the sum of all exponentials, which `logsumexp` takes without overflow."""
    return at(logits, entries(metric, prompts, "answers")) - logits.logsumexp(-1)
