"""The metrics that unweave knows: each a frozen value, whose score is a function of the logits that it reads."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, final

from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.metrics.entries import answer_and_wrong, at, check_read, entries, scored
from unweave.metrics.protocol import Metric
from unweave.models.prompts import Prompts

# Of the metric, the logits that it reads, their prompts and the clean run's logits: a score a row.
Fn = Callable[["LogitMetric", Tensor, Prompts, Tensor | None], Tensor]


@final
@dataclass(frozen=True)
class LogitMetric:
    """A metric as a value (see `unweave.metrics.protocol.Metric`).

    Args:
        name, unit: as they stand on figures.
        fn: the score of each row, from the logits read at `role`.
        role: whose position is read.
        reads: "both" for the columns of answer and wrong answer, "all" for the whole vocabulary.
        higher_is_better: which scores are good.
        needs_reference: whether `fn` compares with the clean run's logits.
    """

    name: str
    unit: str
    fn: Fn = field(repr=False)
    role: str = "end"
    reads: Literal["both", "all"] = "all"
    higher_is_better: bool = True
    needs_reference: bool = False

    __call__ = scored

    def columns(self, prompts: Prompts) -> Int[Tensor, "prompt column"] | None:
        """The entries that are read, or None for the whole vocabulary. Raises InputError if the prompts have none."""
        return answer_and_wrong(self.name, prompts) if self.reads == "both" else None

    def score(
        self,
        logits: Float[Tensor, "row column"],
        prompts: Prompts,
        reference: Float[Tensor, "row column"] | None = None,
    ) -> Float[Tensor, " row"]:
        """One score a row. Raises InputError if the prompts lack answers, or the clean run's logits are missing."""
        check_read(self, logits, prompts)
        if self.needs_reference and (reference is None or reference.shape != logits.shape):
            raise InputError(
                f"metric {self.name!r} needs reference=, the clean run's logits of its prompts; uw.Contrast gives them"
            )
        return self.fn(self, logits, prompts, reference)


def LogitDiff(role: str = "end") -> LogitMetric:  # noqa: N802
    """logit(answer) - logit(wrong answer), the log of the odds of the two. Reads two columns a prompt, at `role`."""
    return LogitMetric("logit difference", "logits", _logit_diff, role, "both")


def ProbDiff(role: str = "end") -> LogitMetric:  # noqa: N802
    """p(answer) - p(wrong answer), from -1 to 1. Reads the whole vocabulary, at `role`."""
    return LogitMetric("probability difference", "probability", _prob_diff, role)


def LogProb(role: str = "end") -> LogitMetric:  # noqa: N802
    """log p(answer), in nats, at most 0. Reads the whole vocabulary, at `role`."""
    return LogitMetric("log-probability", "nats", _log_prob, role)


def CrossEntropy(role: str = "end") -> LogitMetric:  # noqa: N802
    """-log p(answer), in nats: the loss of next-token prediction at `role`, 0 if the answer is certain."""
    return LogitMetric("cross-entropy", "nats", _cross_entropy, role, higher_is_better=False)


def KLToClean(role: str = "end") -> LogitMetric:  # noqa: N802
    """KL(clean || run) = sum over tokens of p_clean · (log p_clean - log p_run), in nats; 0 if the two agree.

    The mean is over the clean run's distribution: what counts is that the run calls unlikely what the clean run calls
    likely. Reads the whole vocabulary, at `role`, and no answers.
    """
    return LogitMetric("KL divergence from clean", "nats", _kl, role, higher_is_better=False, needs_reference=True)


def Accuracy(role: str = "end", against: Literal["wrong", "all"] = "wrong") -> LogitMetric:  # noqa: N802
    """1 if the answer wins at `role`, else 0; the mean over prompts is the share that is right.

    `against="wrong"` asks whether its logit lies above the wrong answer's, and reads two columns a prompt;
    `against="all"` whether it lies above that of every other token, and reads the whole vocabulary. A tie is not won.
    """
    if against not in ("wrong", "all"):
        raise InputError(f"against: expected 'wrong' or 'all', got {against!r}")
    if against == "wrong":
        return LogitMetric("accuracy", "share right", _beats_wrong, role, "both")
    return LogitMetric("accuracy", "share right", _beats_all, role)


def Rank(role: str = "end") -> LogitMetric:  # noqa: N802
    """How many tokens have a larger logit than the answer: 0 if none has. Reads the whole vocabulary, at `role`."""
    return LogitMetric("rank", "tokens above", _rank, role, higher_is_better=False)


def _logit_diff(metric: Metric, logits: Tensor, prompts: Prompts, reference: Tensor | None) -> Tensor:
    return logits[:, 0] - logits[:, 1]


def _prob_diff(metric: Metric, logits: Tensor, prompts: Prompts, reference: Tensor | None) -> Tensor:
    answers, wrong = (entries(metric.name, prompts, which) for which in ("answers", "wrong"))
    probabilities = logits.softmax(-1)
    return at(probabilities, answers) - at(probabilities, wrong)


def _log_prob(metric: Metric, logits: Tensor, prompts: Prompts, reference: Tensor | None) -> Tensor:
    """The answer's logit less the log of the sum of all exponentials, which `logsumexp` takes without overflow."""
    return at(logits, entries(metric.name, prompts, "answers")) - logits.logsumexp(-1)


def _cross_entropy(metric: Metric, logits: Tensor, prompts: Prompts, reference: Tensor | None) -> Tensor:
    return -_log_prob(metric, logits, prompts, reference)


def _kl(metric: Metric, logits: Tensor, prompts: Prompts, reference: Tensor | None) -> Tensor:
    assert reference is not None
    clean, run = reference.log_softmax(-1), logits.log_softmax(-1)
    return (clean.exp() * (clean - run)).sum(-1)


def _beats_wrong(metric: Metric, logits: Tensor, prompts: Prompts, reference: Tensor | None) -> Tensor:
    return (logits[:, 0] > logits[:, 1]).to(logits.dtype)


def _beats_all(metric: Metric, logits: Tensor, prompts: Prompts, reference: Tensor | None) -> Tensor:
    answer = at(logits, entries(metric.name, prompts, "answers"))
    return ((logits >= answer[:, None]).sum(-1) == 1).to(logits.dtype)


def _rank(metric: Metric, logits: Tensor, prompts: Prompts, reference: Tensor | None) -> Tensor:
    answer = at(logits, entries(metric.name, prompts, "answers"))
    return (logits > answer[:, None]).sum(-1).to(logits.dtype)
