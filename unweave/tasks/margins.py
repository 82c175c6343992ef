"""Prompts chosen by what the model does with them: kept where it answers right, and turns round with the opposite.

1. Candidates come in pairs, a prompt and its opposite, whose right answer is the first one's wrong answer.
2. They are run in batches. The margin of a prompt is logit(right) - logit(wrong) at its last token.
3. A pair is kept where both margins are above the threshold, until there are enough.
4. Where too few are kept of a fixed number of tries, that is an error which says what was found.

Figures about such prompts speak of the model where it does the task, and of nothing else: `Chosen.notes` says so.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from unweave.errors import InputError
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.models.quiet import status

R = TypeVar("R")
_PAIRS_AT_ONCE = 16


@dataclass(frozen=True)
class Chosen(Generic[R]):
    """The records of the prompts that were kept, each followed by its opposite, and how they were chosen."""

    records: tuple[R, ...]
    notes: str


@dataclass(frozen=True)
class Rule:
    """What is asked for: so many pairs, with margins above the threshold (logits), out of at most so many tried."""

    n_pairs: int
    threshold: float
    most_pairs: int


def margins(model: Model, prompts: Prompts) -> Float[Tensor, " prompt"]:
    """Logit of the right answer less that of the wrong one, at the last token of each prompt."""
    if prompts.answers is None or prompts.wrong is None:
        raise InputError("prompts: expected a right and a wrong answer of each prompt; make them with a task")
    logits = model.run(prompts).logits_at("end")
    columns = torch.stack([prompts.answers, prompts.wrong], dim=1).to(logits.device)
    right, wrong = logits.gather(1, columns).unbind(1)
    return (right - wrong).cpu()


def choose(
    model: Model, pairs: Iterable[tuple[R, R]], prompts_of: Callable[[Sequence[R]], Prompts], rule: Rule
) -> Chosen[R]:
    """The first pairs that the rule keeps.

    Args:
        model: that is asked.
        pairs: candidates, each a record and its opposite.
        prompts_of: makes the prompts of records, with answers.
        rule: what is kept, and of how many.

    Raises:
        InputError: too few are kept; it says how many were tried, and the figures.
    """
    source, kept, seen = islice(pairs, rule.most_pairs), [], []
    with status("asking the model for prompts that it answers right"):
        while len(kept) < rule.n_pairs and (batch := list(islice(source, _PAIRS_AT_ONCE))):
            prompts = prompts_of([record for pair in batch for record in pair])
            found = rearrange(margins(model, prompts), "(pair side) -> pair side", side=2)
            seen.append(found)
            kept += [pair for pair, low in zip(batch, found.amin(1).tolist(), strict=True) if low > rule.threshold]
    tried = torch.cat(seen) if seen else torch.zeros(0, 2)
    said = _figures(tried, rule.threshold)
    if len(kept) < rule.n_pairs:
        raise InputError(
            f"threshold: {2 * len(kept)} of the {2 * rule.n_pairs} prompts asked for were found. {said} Give a lower "
            "threshold=, a smaller n_prompts=, or threshold=None for prompts without this filter"
        )
    return Chosen(tuple(record for pair in kept[: rule.n_pairs] for record in pair), said)


def _figures(tried: Float[Tensor, "pair side"], threshold: float) -> str:
    """How the prompts that were tried came out, in a sentence or two."""
    if tried.numel() == 0:
        return "No prompt was tried."
    passed = int((tried.amin(1) > threshold).sum())
    return (
        f"{tried.numel()} prompts were tried: in {2 * passed} the right answer is more than {threshold:g} above the "
        f"wrong one (logits), and with the opposite prompt as far below. Of all tried, "
        f"{float((tried > 0).float().mean()):.0%} are answered right, the mean logit difference is "
        f"{float(tried.mean()):.2f}."
    )
