"""How the model does the task, from what every result remembers: the metric on the clean and the corrupted prompts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unweave.errors import InputError
from unweave.results.summary import summary

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Baseline:
    """A metric over prompts: mean with its interval, in the metric's unit, and the share of prompts with it above 0.

    For a logit difference, above 0 means that the right answer is preferred to the wrong one.
    """

    mean: float
    low: float
    high: float
    n: int
    above_zero: float

    @property
    def above(self) -> bool:
        """Whether the mean is told from 0, and above it; of a single prompt, whether it is above 0."""
        return self.low > 0 or (self.n == 1 and self.mean > 0)


def baselines(result: "xarray.DataArray | xarray.Dataset") -> tuple[Baseline, Baseline]:
    """The clean and the corrupted baseline of a result.

    Raises:
        InputError: a result that does not remember them.
    """
    for name in ("clean", "corrupted"):
        if name not in result.coords:
            raise InputError(
                f"result: there is no coordinate {name!r} (prompt) with the metric's baseline; methods set it"
            )
    return baseline(result.coords["clean"]), baseline(result.coords["corrupted"])


def baseline(values: "xarray.DataArray") -> Baseline:
    """The baseline of a metric's values, one a prompt."""
    table = summary(values if "prompt" in values.dims else values.expand_dims("prompt"))
    numbers = np.asarray(values.values, dtype=np.float64)
    mean, low, high = (float(table[name]) for name in ("mean", "low", "high"))
    return Baseline(mean, low, high, numbers.size, float((numbers > 0).mean()))
