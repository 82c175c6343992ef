"""What heads carry of the subject: its position, or its token.

Wang et al. 2022 (arXiv 2211.00593), appendix A. Steps:

1. Six data sets: the subject's token kept, replaced by another name's, or exchanged with the indirect object's; its
   position kept, or exchanged. The first is the prompts themselves.
2. The outputs `z` of the heads, at all positions, are taken from each and put into the clean run.
3. The scores of the six cells are fitted by least squares, `score = constant + a · position + b · token`, where
   `position` is 1 or -1 and `token` is 1, 0 or -1: how far the data set's signal agrees with the clean one.

A coefficient is the change of the score for one unit of agreement. From full agreement (1) to full disagreement (-1) is
two units, so that the full-range effect is twice the coefficient; both are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from unweave.engine.context import RunDonor, context_of
from unweave.engine.executor import execute
from unweave.engine.patches import NodeGrid, patch_runs
from unweave.errors import InputError
from unweave.methods.targets import Nodes, heads_of
from unweave.methods.to_xarray import to_xarray
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.precision import without_autocast
from unweave.models.prompts import Prompts
from unweave.nodes import Head, head_name
from unweave.progress import Progress, part, shown
from unweave.registry import SIGNALS, Method, register
from unweave.tasks.task import Task

POSITION_TOKEN = register(
    Method(
        "position and token",
        SIGNALS,
        picture="unweave.views.head_pictures:signal_blocks",
        dims=("prompt", "address", "token_signal", "position_signal", "signal"),
    )
)

TOKENS = {"original": 1.0, "random": 0.0, "inverted": -1.0}
POSITIONS = {"original": 1.0, "inverted": -1.0}
# The corruption that makes each cell; the first cell is the prompts themselves.
FLIPS = {
    ("original", "inverted"): "inverted_position",
    ("random", "original"): "random_token",
    ("random", "inverted"): "inverted_position_random_token",
    ("inverted", "original"): "inverted_token",
    ("inverted", "inverted"): "both_inverted",
}
TERMS = ("constant", "position", "token")


def position_token(
    pair: Contrast,
    task: Task,
    heads: Nodes,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.Dataset:
    """The score with heads patched from six data sets, for all heads at once and for each by itself.

    Args:
        pair: the model, the task's prompts, and the metric; its corrupted prompts are not used.
        task: indirect-object prompts, whose `corrupt` makes the other five data sets.
        heads: the heads, S-inhibition heads as a rule.
        memory, progress: as in `patch`.

    Returns:
        Variables, where `address` is `all` (all heads at once) or one head:

        - `score` `[prompt, address, token_signal, position_signal]`: the metric, in its unit;
        - `change`: `(score - clean) / mean clean`;
        - `coefficient` `[prompt, address, term]`: of `constant`, `position` and `token`, in the metric's unit, for one
          unit of agreement; the mean over prompts is the fit of the mean table;
        - `full_range` `[prompt, address, signal]`: twice the coefficients of `position` and `token`: the score at full
          agreement less the score at full disagreement;
        - `residual` `[prompt, address, token_signal, position_signal]`: the score less the fit.

    Raises:
        InputError: no head, one that does not exist or is named twice; a task without these corruptions, or with
            other prompts than the pair's.
    """
    check_pair(pair)
    chosen = heads_of(pair.model.config, heads)
    flipped = _flipped(pair, task)
    grids = _grids(chosen)
    names = ["all", *(head_name(head) for head in chosen)]
    scores = torch.empty(len(pair.prompts), len(names), len(TOKENS), len(POSITIONS), dtype=pair.clean_scores.dtype)
    scores[:] = pair.clean_scores.cpu()[:, None, None, None]
    with shown(progress, "position and token") as report:
        for number, (cell, prompts) in enumerate(flipped.items()):
            runs = patch_runs(context_of(pair, "noise", RunDonor(prompts)), grids)
            values = execute(runs, memory, part(report, number, len(flipped))).complete()
            scores[:, :, list(TOKENS).index(cell[0]), list(POSITIONS).index(cell[1])] = values.T
    return _dataset(pair, scores, names)


@without_autocast
def additive_fit(
    scores: Float[Tensor, "*cell token position"],
) -> tuple[Float[Tensor, "*cell term"], Float[Tensor, "*cell token position"]]:
    """Least-squares coefficients (constant, position, token) of the six cells, and what they leave over."""
    token, position = (torch.tensor(list(axis.values()), dtype=scores.dtype) for axis in (TOKENS, POSITIONS))
    design = torch.stack(
        [torch.ones(len(token), len(position), dtype=scores.dtype), *torch.meshgrid(position, token, indexing="xy")], -1
    )
    flat = design.flatten(0, 1)
    coefficients = scores.flatten(-2) @ torch.linalg.pinv(flat).T
    fitted = (coefficients @ flat.T).unflatten(-1, scores.shape[-2:])
    return coefficients, scores - fitted


def _grids(heads: Sequence[Head]) -> list[NodeGrid]:
    """All heads at once, then each by itself."""
    single = [NodeGrid("z", layer, 1 + number, (head,)) for number, (layer, head) in enumerate(heads)]
    return [replace(single[0], offset=0, also=tuple(single[1:])), *single]


def _flipped(pair: Contrast, task: Task) -> dict[tuple[str, str], Prompts]:
    """The five other data sets."""
    if not isinstance(task, Task):
        raise InputError(f"task: expected a task such as uw.tasks.ioi(model), got a {type(task).__name__}")
    missing = [name for name in FLIPS.values() if name not in task.corruptions]
    if missing:
        raise InputError(
            f"task: {task.name} has no corruption {', '.join(missing)}, which tell position from token; "
            "take uw.tasks.ioi"
        )
    ours = pair.model.prompts(task.prompts)
    if ours.tokens.shape != pair.prompts.tokens.shape or not torch.equal(ours.tokens, pair.prompts.tokens):
        raise InputError("task: its prompts are not the pair's clean prompts; make the pair of task.prompts")
    return {cell: pair.model.prompts(task.corrupt(name)) for cell, name in FLIPS.items()}


def _dataset(
    pair: Contrast, scores: Float[Tensor, "prompt address token position"], names: Sequence[str]
) -> xr.Dataset:
    mean = float(pair.clean_scores.mean())
    if not abs(mean) > 0:
        raise InputError("pair: the clean prompts score 0 on average, so a relative change has no scale")
    coefficients, residual = additive_fit(scores)
    table = {"address": names, "token_signal": list(TOKENS), "position_signal": list(POSITIONS)}
    terms = {"address": names, "term": list(TERMS)}
    signals = {"address": names, "signal": list(TERMS[1:])}
    unit = pair.metric.unit
    kinds = {
        "score": (scores, table, pair.metric.name, unit),
        "change": ((scores - pair.clean_scores.cpu()[:, None, None, None]) / mean, table, "relative change", "share"),
        "coefficient": (coefficients, terms, "coefficient", f"{unit} for one unit of agreement"),
        "full_range": (2 * coefficients[..., 1:], signals, "full-range effect", unit),
        "residual": (residual, table, "residual", unit),
    }
    arrays = {
        name: to_xarray(
            pair,
            values,
            axes,
            {
                "quantity": quantity,
                "unit": unit_of,
                "corruption": "six flips",
                "share_of": "clean" if name == "change" else "",
            },
        )
        for name, (values, axes, quantity, unit_of) in kinds.items()
    }
    shared = dict(arrays["score"].attrs) | POSITION_TOKEN.attrs(site="z")
    return xr.Dataset(arrays, attrs={name: v for name, v in shared.items() if name not in ("quantity", "unit")})
