"""The vocabulary entries that a metric reads of each prompt: its answer, its wrong answer."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models.prompts import Prompts

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


def at(values: Float[Tensor, "row d_vocab"], index: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    """One entry of each row."""
    return values.gather(1, index.to(values.device)[:, None])[:, 0]
