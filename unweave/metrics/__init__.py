"""How an answer is scored: each metric a frozen value that satisfies `unweave.metrics.protocol.Metric`."""

from unweave.metrics.built_in import Accuracy, CrossEntropy, KLToClean, LogitDiff, LogProb, ProbDiff, Rank
from unweave.metrics.custom import Custom

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
