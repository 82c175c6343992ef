"""How an answer is scored: metrics as frozen values, and the logits of a run, or of other sources, that they read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol, final, runtime_checkable

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models.forward import unembed
from unweave.models.inputs import shown
from unweave.models.precision import widened
from unweave.models.prompts import Prompts, check_answers
from unweave.models.run import Run
from unweave.models.weights import Weights


@runtime_checkable
class Metric(Protocol):
    """A score of each prompt's answer, from the logits at one role of each prompt.

    A metric states beforehand which vocabulary it reads, so that a sweep computes no other logit. It is a frozen value:
    `score` depends only on its arguments, and is called on rows in any order and number.

        name              as it stands on plots: `logit difference`
        unit              `logits`, `nats`, `probability`, …
        role              whose position is read; `end` by default
        higher_is_better  whether a higher score means that the model does the task better
        needs_reference   whether `score` compares with the logits of the clean run
    """

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def higher_is_better(self) -> bool: ...
    @property
    def needs_reference(self) -> bool: ...

    def columns(self, prompts: Prompts) -> Int[Tensor, "prompt column"] | None:
        """Vocabulary entries that are read of each prompt, or None for the whole vocabulary."""
        ...

    def score(
        self,
        logits: Float[Tensor, "row column"],
        prompts: Prompts,
        reference: Float[Tensor, "row column"] | None = None,
    ) -> Float[Tensor, " row"]:
        """One score a row. `prompts` has one prompt a row; `reference` are the clean run's logits of these prompts."""
        ...


def read_logits(run: Run, metric: Metric, prompts: Prompts) -> Float[Tensor, "prompt column"]:
    """The logits that a metric reads of a run: at its role in `prompts`, and of the vocabulary only what it names."""
    rows = torch.arange(len(prompts), device=run.final.device)
    columns = metric.columns(prompts)
    final = run.final[rows, prompts.role(metric.role).to(rows.device)]
    return logits_of(run.weights, final, None if columns is None else columns.to(rows.device))


def logits_of(
    weights: Weights, final: Float[Tensor, "row d_model"], columns: Int[Tensor, "row column"] | None
) -> Float[Tensor, "row column"]:
    """Each row's logits, only at `columns` if these are given, in float32 or wider (see `unembed`)."""
    if columns is None:
        return unembed(weights, final)
    logits = einsum(widened(final), widened(F.embedding(columns, weights.w_u)), "row d, row column d -> row column")
    return logits if weights.b_u is None else logits + weights.b_u[columns]


def entries(metric: str, prompts: Prompts, which: Literal["answers", "wrong"]) -> Int[Tensor, " prompt"]:
    """Each prompt's answer or wrong answer. Raises InputError naming the metric where the prompts have none."""
    found = getattr(prompts, which)
    if found is None:
        instead = {"answers": "KLToClean()", "wrong": "LogProb()"}[which]
        raise InputError(
            f"metric {metric!r} needs the prompts' {which}, and these have none; give the prompts {which}=, or choose "
            f"a metric that does without, such as {instead}"
        )
    return found


def scored(
    metric: Metric, run: Run | Tensor, prompts: Prompts | None = None, reference: Run | Tensor | None = None
) -> Float[Tensor, " prompt"]:
    """The metric's score of each prompt: `uw.LogitDiff()(run)`, `uw.LogitDiff()(logits, prompts)`.

    Args:
        metric: that is called.
        run: a run, or logits over the whole vocabulary: `[prompt, pos, d_vocab]`, right-padded as the prompts are, of
            which the metric's role is read; or `[prompt, d_vocab]`, read there already.
        prompts: whose roles and answers count; those of the run by default.
        reference: the clean run or its logits, for a metric that compares with them.

    Raises:
        InputError: logits of another shape, an answer outside of them, or prompts that lack what the metric reads.
    """
    prompts = run.prompts if prompts is None and isinstance(run, Run) else prompts
    if not isinstance(prompts, Prompts):
        raise InputError(f"prompts: expected the prompts that the logits are of, got {shown(prompts)}")
    given = None if reference is None else _read(metric, reference, prompts)
    return metric.score(_read(metric, run, prompts), prompts, given)


def _read(metric: Metric, given: Run | Tensor, prompts: Prompts) -> Float[Tensor, "prompt column"]:
    """The logits that the metric reads, in float32 or wider."""
    held = given.final if isinstance(given, Run) else given
    if not isinstance(held, Tensor) or held.ndim not in (2, 3) or len(held) != len(prompts):
        got = list(held.shape) if isinstance(held, Tensor) else shown(held)
        raise InputError(
            f"metric {metric.name!r}: expected a run of the {len(prompts)} prompts, or a tensor of their logits, "
            f"[prompt, pos, d_vocab] or [prompt, d_vocab], got {got}"
        )
    place = prompts.role(metric.role).to(held.device)
    if held.ndim == 3 and int(place.max()) >= held.shape[1]:
        raise InputError(
            f"metric {metric.name!r}: it reads position {int(place.max())} of logits of {held.shape[1]} positions"
        )
    check_answers(prompts, given.config.d_vocab_out if isinstance(given, Run) else held.shape[-1])
    if isinstance(given, Run):
        return read_logits(given, metric, prompts)
    logits = held[torch.arange(len(held), device=held.device), place] if held.ndim == 3 else held
    logits, columns = widened(logits), metric.columns(prompts)
    return logits if columns is None else logits.gather(1, columns.to(logits.device))


def at(values: Float[Tensor, "row d_vocab"], index: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    """One entry of each row."""
    return values.gather(1, index.to(values.device)[:, None])[:, 0]


# Of the metric, the logits that it reads, their prompts and the clean run's logits: a score a row.
Fn = Callable[["LogitMetric", Tensor, Prompts, Tensor | None], Tensor]


@final
@dataclass(frozen=True)
class LogitMetric:
    """A metric whose score is a function of the logits that it reads.

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
        if self.reads == "all":
            return None
        return torch.stack([entries(self.name, prompts, which) for which in ("answers", "wrong")], dim=1)

    def score(
        self,
        logits: Float[Tensor, "row column"],
        prompts: Prompts,
        reference: Float[Tensor, "row column"] | None = None,
    ) -> Float[Tensor, " row"]:
        """One score a row.

        Raises:
            InputError: logits that are not those of `columns`, which are all that a sweep reads; prompts without
                answers, or no logits of the clean run.
        """
        columns = self.columns(prompts)
        shape = list(logits.shape) if isinstance(logits, Tensor) else []
        n_columns = columns.shape[1] if columns is not None else shape[-1] if shape else 0
        if shape != [len(prompts), n_columns]:
            width = "d_vocab" if columns is None else n_columns
            raise InputError(
                f"metric {self.name!r}: score expects logits [{len(prompts)}, {width}], those that `columns` names, "
                f"got {shape or shown(logits)}; to score a run or whole logits, call the metric: metric(run, prompts)"
            )
        # On a GPU this would wait for all that is under way; what a model has run was checked then.
        if columns is None and logits.device.type == "cpu":
            check_answers(prompts, n_columns)
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


def Custom(  # noqa: N802
    fn: Callable[[Tensor, Prompts], Tensor], name: str, unit: str = "", role: str = "end", higher_is_better: bool = True
) -> LogitMetric:
    """`fn(logits, prompts)` as a metric: `logits[row, d_vocab]` at `role`, one prompt a row, to one score a row.

        years = uw.Custom(lambda logits, prompts: logits.softmax(-1)[:, later].sum(-1), "p(later year)", "probability")

    Rows come in any order and number, so a score must depend only on its own row. Reads the whole vocabulary. `name`
    and `unit` stand on figures, and `higher_is_better` says which scores are good. A `fn` that is a lambda cannot be
    pickled; one that is defined in a module can.
    """
    return LogitMetric(name, unit, partial(_custom, fn), role, higher_is_better=higher_is_better)


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


def _custom(
    fn: Callable[[Tensor, Prompts], Tensor], metric: Metric, logits: Tensor, prompts: Prompts, reference: Tensor | None
) -> Tensor:
    scores = fn(logits, prompts)
    if not isinstance(scores, Tensor) or scores.shape != logits.shape[:1] or not scores.is_floating_point():
        got = f"{scores.dtype} {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise InputError(
            f"metric {metric.name!r}: its function gave {got}, expected a tensor of floating-point numbers of shape "
            f"({logits.shape[0]},): one score for each row of logits"
        )
    return scores
