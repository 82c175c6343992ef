"""Reference prompts for template means: more prompts of the pair's templates, corrupted as the pair's are.

A set of 16 or 32 indirect-object prompts has one or two of each template. The mean over one prompt is that prompt, so
that nothing would be ablated; the mean over two is half of it. The generator can draw the set further.
"""

import torch

from unweave.errors import InputError
from unweave.metrics.contrast import Contrast
from unweave.models.prompts import Prompts
from unweave.tasks.indirect_object import ioi
from unweave.tasks.templates import own_templates

PER_TEMPLATE = 6


def reference_prompts(pair: Contrast, per_template: int = PER_TEMPLATE) -> Prompts:
    """`per_template` corrupted prompts of each of the pair's templates, for `uw.evaluate(…, reference=…)`.

    They continue the pair's own set: the same seed, order of names, templates and corruption.

    Raises:
        InputError: a pair that `uw.tasks.ioi` did not make from its own templates, or `per_template` below 2.
    """
    if per_template < 2:
        raise InputError(f"per_template: expected at least 2, since the mean of one is that one, got {per_template}")
    drawn = drawn_reference(pair, per_template)
    if drawn is None:
        raise InputError(
            "pair: more prompts of its templates can be drawn only where uw.tasks.ioi made it from its own templates; "
            "make a larger set yourself, and give it as reference="
        )
    return drawn


def drawn_reference(pair: Contrast, per_template: int = PER_TEMPLATE, source: str = "corrupted") -> Prompts | None:
    """As `reference_prompts`, or clean ones; None where they cannot be drawn."""
    prompts, made, corruption = pair.prompts, pair.prompts.source, pair.corrupted.source.get("corruption")
    made_here = made.get("task") == "ioi" and made.get("templates") == "unweave"
    if not made_here or corruption is None or prompts.groups is None or pair.model.tokenizer is None:
        return None
    task = ioi(
        pair.model,
        n_prompts=per_template * len(own_templates().templates),
        seed=int(made["seed"]),
        order=made["order"],  # type: ignore[arg-type]
        bos=prompts.bos,
    )
    drawn = task.corrupt(str(corruption)) if source == "corrupted" else task.prompts
    assert drawn.groups is not None
    wanted = torch.isin(drawn.groups, prompts.groups.cpu())
    return drawn.take(wanted.nonzero()[:, 0])
