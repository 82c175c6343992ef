"""How the numbers of a result are read: their unit, what 0 and 1 mean, and which sign means a better answer.

A metric may be good if it is low, and corrupted prompts may score better than clean ones. Which sign of a number means
a better answer, and which a part that carries it, follows from the result's `better`, `gap`, `measure` and `direction`,
in `sense_of` only. Results without these attributes are read as of a metric that is good if it is high.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from unweave.registry import method_of
from unweave.results.labels import number
from unweave.views.wording import Result, listed, percent


@dataclass(frozen=True)
class Sense:
    """How the numbers of a result are read.

    Args:
        good: the sign of a number that means a better answer.
        carries: the sign of a number of a part that carries the answer: in a corrupted run that is restored it is the
            good one, in a clean run that is corrupted or knocked out the other one.
        rises: the sign of a number that means a higher score.
        measure: "effect", "drop", "change", or "" where the numbers are no changes of the metric.
        metric, unit: of the score.
        backwards: whether the corrupted prompts score better than the clean ones, so that effects run backwards.
    """

    good: int = 1
    carries: int = 1
    rises: int = 1
    measure: str = ""
    metric: str = "score"
    unit: str = ""
    backwards: bool = False

    @property
    def plain(self) -> bool:
        """Whether 0 to 1 is the way from the worse to the better prompts, so that it can be given back, or be lost."""
        return self.measure == "effect" and not self.backwards

    def write(self, value: float) -> str:
        """A number as this result's are written: shares in percent."""
        return percent(value) if self.measure in ("effect", "drop") else number(value)

    def amount(self, values: Sequence[float]) -> str:
        """Sizes, and what they are of: `50 % and 40 % of the gap`, `1.50 nats`."""
        of = {"effect": "of the gap", "drop": "of the clean score", "change": self.unit}.get(self.measure, "")
        return f"{listed([self.write(abs(value)) for value in values])} {of}".rstrip()

    def outcome(self, values: Sequence[float], verb: str) -> str:
        """What numbers of one sign mean: `verb`, where the numbers are shares of a gap that can be restored or lost;
        else whether the metric is raised or lowered, which is true of every metric."""
        if self.plain:
            return f"{verb} {self.amount(values)}"
        return f"{'raises' if values[0] * self.rises > 0 else 'lowers'} the {self.metric} by {self.amount(values)}"

    def note(self) -> str:
        """What a reader of the numbers must know to take their signs as they are meant."""
        if self.backwards:
            return (
                "The corrupted prompts score better than the clean ones, so that effects run backwards: the clean "
                "prompt's side of the scale is the worse one."
            )
        if self.good > 0:
            return ""
        return f"Below 0 the {self.metric} {'falls' if self.rises > 0 else 'rises'}, and the answer is better."


def sense_of(result: Result) -> Sense:
    """The sense of a result's numbers, or of its summary's."""
    attrs = result.attrs
    known, quantity = method_of(attrs), str(attrs.get("quantity", ""))
    if not (known and known.claim and known.claim.change) and "measure" not in attrs:
        return Sense(unit=str(attrs.get("unit", "")))
    better = -1 if attrs.get("better") == "lower" else 1
    gap, clean = (_sign(result, name) for name in ("gap", "clean_mean"))
    measure = str(attrs.get("measure", "change" if quantity == "change" else "effect"))
    rises = {"effect": gap, "drop": clean}.get(measure, 1)
    restored = str(attrs.get("direction", known.direction if known else "noise")) == "denoise"
    return Sense(
        good=better * rises,
        carries=better * rises * (1 if restored else -1),
        rises=rises,
        measure=measure,
        metric=str(attrs.get("metric", "score")),
        unit=str(attrs.get("metric_unit", attrs.get("unit", ""))),
        backwards=better * gap < 0,
    )


def _sign(result: Result, name: str) -> int:
    """The sign of an attribute, or of a coordinate where models differ in it; 1 where it is not known, or mixed."""
    known: Any = result.attrs.get(name, result.coords[name].values if name in result.coords else 1)
    signs = set(np.sign(np.atleast_1d(known)).astype(int).tolist())
    return (signs.pop() or 1) if len(signs) == 1 else 1


def measure(attrs: Mapping[Any, Any]) -> str:
    """What the numbers are, with their unit: `logit difference (logits)`. An effect, a share of a gap, has none."""
    name, unit = str(attrs.get("quantity", "mean")), str(attrs.get("unit", ""))
    known = name == "effect" or unit in ("", name) or name.startswith(f"{unit} ")
    return name if known else f"{name} ({unit})"


def shared(tables: Sequence[xr.Dataset], say: Callable[[Mapping[Any, Any]], Any]) -> Any:
    """What all tables say alike, or nothing of its kind: an axis of two metrics has no unit."""
    said = [say(table.attrs) for table in tables]
    return said[0] if all(one == said[0] for one in said) else type(said[0])()


def meaning(attrs: Mapping[Any, Any]) -> tuple[str, ...]:
    """`0 = as the corrupted prompt` and `1 = as the clean prompt`; nothing where the result does not say."""
    zero, one = str(attrs.get("zero", "")), str(attrs.get("one", ""))
    # Corrupted prompts may score better than clean ones; then nothing is as bad as they are.
    if attrs.get("better") in ("higher", "lower") and (attrs["better"] == "higher") != (float(attrs.get("gap", 1)) > 0):
        one = one.replace("as bad as", "as")
    below = " (at -1)"
    far = "−1" if one.endswith(below) else "1"
    return (f"0 = {zero}", f"{far} = {one.removesuffix(below)}") if zero and one else ()
