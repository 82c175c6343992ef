"""How an answer is scored: each metric a frozen value (see `Metric`)."""

from unweave.metrics.metric import (
    Accuracy,
    CrossEntropy,
    Custom,
    KLToClean,
    LogitDiff,
    LogProb,
    Metric,
    ProbDiff,
    Rank,
)

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
    "Metric",
    "ProbDiff",
    "Rank",
]
