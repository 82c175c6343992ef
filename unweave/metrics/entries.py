"""What a metric reads: the vocabulary entries of each prompt's answers, and the logits of a run or of other sources."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.metrics.contrast import read_logits
from unweave.metrics.protocol import Metric
from unweave.models.inputs import shown
from unweave.models.precision import widened
from unweave.models.prompts import Prompts, check_answers
from unweave.models.run import Run

Which = Literal["answers", "wrong"]


def entries(metric: str, prompts: Prompts, which: Which) -> Int[Tensor, " prompt"]:
    """Each prompt's answer or wrong answer. Raises InputError naming the metric where the prompts have none."""
    found = getattr(prompts, which)
    if found is None:
        instead = {"answers": "KLToClean()", "wrong": "LogProb()"}[which]
        raise InputError(
            f"metric {metric!r} needs the prompts' {which}, and these have none; give the prompts {which}=, or choose "
            f"a metric that does without, such as {instead}"
        )
    return found


def answer_and_wrong(metric: str, prompts: Prompts) -> Int[Tensor, "prompt column"]:
    """The two entries of each prompt, answer first."""
    return torch.stack([entries(metric, prompts, "answers"), entries(metric, prompts, "wrong")], dim=1)


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


def check_read(metric: Metric, logits: Float[Tensor, "row column"], prompts: Prompts) -> None:
    """Raises InputError if `score` is given logits that are not those of `columns`: a sweep reads these alone."""
    columns = metric.columns(prompts)
    shape = list(logits.shape) if isinstance(logits, Tensor) else []
    n_columns = columns.shape[1] if columns is not None else shape[-1] if shape else 0
    if shape != [len(prompts), n_columns]:
        width = "d_vocab" if columns is None else n_columns
        raise InputError(
            f"metric {metric.name!r}: score expects logits [{len(prompts)}, {width}], those that `columns` names, got "
            f"{shape or shown(logits)}; to score a run or whole logits, call the metric: metric(run, prompts)"
        )
    # On a GPU this would wait for all that is under way; what a model has run was checked then.
    if columns is None and logits.device.type == "cpu":
        check_answers(prompts, n_columns)


def at(values: Float[Tensor, "row d_vocab"], index: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    """One entry of each row."""
    return values.gather(1, index.to(values.device)[:, None])[:, 0]
