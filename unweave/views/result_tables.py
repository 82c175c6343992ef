"""Tables made from results, once: as blocks of a page, and from there as rich tables for the terminal."""

from dataclasses import dataclass

import numpy as np
import rich.box
import rich.table
import xarray as xr
from rich.text import Text

from unweave.errors import InputError
from unweave.results.labels import number
from unweave.results.summary import summary
from unweave.results.top import Top
from unweave.views.blocks import Table, alignment
from unweave.views.certainty import caption
from unweave.views.sense import meaning, measure
from unweave.views.wording import Result, counted, interval, p_cell, percent, spread, visible


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
        """Whether the mean is significantly above 0; of a single prompt, whether it is above 0."""
        return self.low > 0 or (self.n == 1 and self.mean > 0)


def baselines(result: Result) -> tuple[Baseline, Baseline]:
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


def baseline(values: xr.DataArray) -> Baseline:
    """The baseline of a metric's values, one a prompt."""
    table = summary(values if "prompt" in values.dims else values.expand_dims("prompt"))
    numbers = np.asarray(values.values, dtype=np.float64)
    mean, low, high = (float(table[name]) for name in ("mean", "low", "high"))
    return Baseline(mean, low, high, numbers.size, float((numbers > 0).mean()))


def top_table(top: Top, title: str = "") -> Table:
    """The first cells of a result: name, mean, interval, p-value adjusted over the table, cumulative share of all."""
    header = ("", top.quantity, f"{percent(top.level)} interval", "adjusted p", "cumulative share")
    rows = tuple(
        (
            f"{row.label} {visible(row.token)}".strip(),
            number(row.mean),
            interval(row.low, row.high),
            p_cell(row.p_holm),
            percent(row.cumulative),
        )
        for row in top
    )
    return Table(header, rows, title or top.title, align="lrrrr")


def value_table(table: xr.Dataset, title: str = "") -> Table:
    """The summary of a result that is one number."""
    mean, low, high, p = (float(table[name]) for name in ("mean", "low", "high", "p_holm"))
    row = (number(mean), interval(low, high), p_cell(p), str(int(table["n"])))
    header = (measure(table.attrs), f"{percent(float(table.attrs.get('level', 0.95)))} interval", "adjusted p", "n")
    return Table(header, (row,), title, caption([table], scale=meaning(table.attrs)), align="lrrr")


def baseline_table(clean: Baseline, corrupted: Baseline, metric: str, title: str = "") -> Table:
    """How the model scores on the clean and on the corrupted prompts."""
    header = ("prompts", "n", f"mean {metric}", "95\u00a0% interval", "share above 0")
    rows = tuple(
        (name, str(line.n), number(line.mean), interval(line.low, line.high), percent(line.above_zero))
        for name, line in (("clean", clean), ("corrupted", corrupted))
    )
    return Table(header, rows, title, align="lrrrr")


def rich_table(table: Table) -> rich.table.Table:
    """The table for a terminal. Cells are plain text: square brackets in a token are no markup."""
    drawn = rich.table.Table(
        title=Text(table.title) if table.title else None,
        caption=Text(table.caption) if table.caption else None,
        title_justify="left",
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
    )
    for name, side in zip(table.header, alignment(table), strict=True):
        # Names are folded, not cut: half a name cannot be typed.
        drawn.add_column(Text(name), justify="right" if side == "r" else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    return drawn


def task_finding(clean: Baseline, metric: str = "logit difference") -> str:
    """Whether the model does the task."""
    n = counted(clean.n, "prompt")
    value = f"{number(clean.mean)}{spread(clean.low, clean.high)}"
    if metric != "logit difference":
        return f"On {n} the mean {metric} is {value}"
    other = "prefers the wrong answer" if clean.high < 0 else "does not do the task"
    ahead = f"the right answer ahead of the wrong one on {percent(clean.above_zero)} of {n}"
    return f"The model {'does the task' if clean.above else other}: {ahead}, mean {metric} {value}"
