"""The scales of a changed run's score, by the same names in every method that offers them.

    effect   (m - own) / (mean clean - mean corrupted)   0 as the run itself, -1 or 1 as the other prompts
    drop     (m - clean) / mean clean                    0 unharmed, -1 nothing left of the clean score
    change   m - own                                     in the metric's unit

`m` is the score of the changed run, `own` that of the run before the change. A drop is not an effect: their scales
differ by the corrupted prompts' score, and both are found in the literature as the change of the logit difference.
"""

from jaxtyping import Float
from torch import Tensor

from unweave.errors import InputError
from unweave.metrics.contrast import Contrast

# What 0 and 1 (or -1) of an effect mean, by direction.
MEANING = {
    "denoise": {"zero": "as the corrupted prompt", "one": "as the clean prompt"},
    "noise": {"zero": "as the clean prompt", "one": "as bad as the corrupted prompt (at -1)"},
}

# An effect is no amount of the metric, whatever its unit.
EFFECT = {"measure": "effect", "quantity": "effect", "unit": "share of the gap between the baselines"}

MEASURES = ("effect", "drop", "change")


def check_measure(pair: Contrast, measure: str, direction: str = "noise") -> None:
    """Raises InputError for an unknown measure, and for a drop that has no scale or is not of the clean run."""
    if measure not in MEASURES:
        raise InputError(f"measure: expected one of {', '.join(MEASURES)}, got {measure!r}")
    if measure != "drop":
        return
    if direction != "noise":
        raise InputError(
            f"measure: a drop is of the clean run, and direction={direction!r} changes the corrupted one; "
            "use direction='noise', or measure='effect'"
        )
    if not float(pair.clean_scores.mean().abs()) > 0:
        raise InputError("measure: the clean prompts score 0 on average, so a drop has no scale; use measure='effect'")


def normalize(
    pair: Contrast, scores: Float[Tensor, "variant prompt"], direction: str, measure: str
) -> Float[Tensor, "variant prompt"]:
    """Scores of changed runs on a measure's scale: exactly 0 where a score is the unchanged run's own."""
    if measure == "effect":
        return pair.effect(scores, direction)
    change = scores - pair.sides(direction)[2]
    return change / pair.clean_scores.mean() if measure == "drop" else change


def measure_attrs(measure: str, direction: str = "noise") -> dict[str, str]:
    """What a result says of its measure and direction: what the numbers are, and what 0 and 1 (or -1) mean."""
    says = {"measure": measure, "direction": direction, **MEANING[direction]}
    if measure == "effect":
        return {**says, **EFFECT}
    if measure == "drop":
        own = {"quantity": "relative change", "unit": "share", "one": "nothing left of the clean score (at -1)"}
        return {**says, **own}
    return {**says, "quantity": "change", "one": "one unit of the metric more"}
