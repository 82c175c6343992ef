"""The controls of a study: patches that cannot matter, and one that must carry everything."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import xarray as xr

from unweave.methods.patching import patch_at
from unweave.metrics.contrast import Contrast
from unweave.registry import CONTROLS
from unweave.results.labels import number
from unweave.studies.plan import Report, Results, Step
from unweave.views.blocks import Block, Fact, Table

_MOST_NAMED = 4


class ControlValues(NamedTuple):
    """Effects of patches that cannot matter (the largest of `n` on any prompt), and of the one that must carry all."""

    n: int
    largest: float
    whole: float


def control_values(result: xr.DataArray) -> ControlValues:
    """All addresses but the last cannot matter."""
    values = np.asarray(result)
    return ControlValues(values.shape[1] - 1, float(np.abs(values[:, :-1]).max()), float(values[:, -1].mean()))


def controls_step(pair: Contrast, nodes: Callable[[], Sequence[str]], before: str) -> Step:
    """The step.

    Args:
        nodes: places before any change, and last the one that carries all; may raise InputError if there are none.
        before: what the first of them stand before, in words.
    """

    def make(found: Results, report: Report) -> xr.DataArray:
        return patch_at(pair, nodes(), progress=report)

    finding, blocks = partial(control_finding, before=before), partial(_control_blocks, before=before)
    return Step("controls", "controls", make, section=CONTROLS, finding=finding, blocks=blocks)


def control_finding(found: Results, before: str) -> str:
    """Whether patches that cannot matter have no effect."""
    n, largest, whole = control_values(found["controls"])
    none = "exactly 0" if largest == 0 else f"at most {number(largest)}, where it should be 0"
    return f"{n} patches before {before} have an effect of {none}; the patch of all that is read has {number(whole)}"


def control_facts(found: Results, before: str) -> list[Fact]:
    """The largest of the effects that must be 0."""
    if "controls" not in found:
        return []
    control = control_values(found["controls"])
    note = f"the largest effect of {control.n} patches before {before}"
    return [Fact("must be 0", number(control.largest), note, True)]


def _control_blocks(found: Results, before: str) -> list[Block]:
    values = control_values(found["controls"])
    *none, last = map(str, found["controls"]["address"].values)
    names = ", ".join(none) if len(none) <= _MOST_NAMED else f"{none[0]} to {none[-1]}"
    rows = ((names, "0", number(values.largest)), (last, "1", number(values.whole)))
    return [Table(("patch", "must have", "has"), rows, control_finding(found, before), align="lrr")]
