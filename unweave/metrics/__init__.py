"""How an answer is scored: one metric a file, each a frozen value that satisfies `unweave.metrics.protocol.Metric`."""

from unweave.metrics.accuracy import Accuracy
from unweave.metrics.custom import Custom
from unweave.metrics.kl import KLToClean
from unweave.metrics.log_prob import CrossEntropy, LogProb
from unweave.metrics.logit_diff import LogitDiff
from unweave.metrics.prob_diff import ProbDiff
from unweave.metrics.rank import Rank

# The metrics that the command knows by name; each takes `role=`.
METRICS = {
    "logit-diff": LogitDiff,
    "prob-diff": ProbDiff,
    "logprob": LogProb,
    "kl": KLToClean,
    "cross-entropy": CrossEntropy,
    "accuracy": Accuracy,
    "rank": Rank,
}

__all__ = [
    "METRICS",
    "Accuracy",
    "CrossEntropy",
    "Custom",
    "KLToClean",
    "LogProb",
    "LogitDiff",
    "ProbDiff",
    "Rank",
]
