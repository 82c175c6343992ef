"""What stands below a figure: how many prompts, how sure, and what its marks mean.

A cell counts as different from 0 by its adjusted p-value; if the prompts are too few for any adjusted p-value of the
table to be small, by its own interval, and the caption says so.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool

from unweave.results.top import Row
from unweave.views.sense import sense_of
from unweave.views.wording import counted, percent, prompts_of

LEVEL = 0.05


def testable(attrs: Mapping[Any, Any]) -> bool:
    """Whether there are prompts enough for any cell of the table to differ from 0 after adjustment."""
    return float(attrs.get("p_holm_smallest", 1.0)) <= LEVEL


def never_negative(attrs: Mapping[Any, Any]) -> bool:
    """Whether the numbers are shares, of attention or of words, for which a test of 0 says nothing."""
    quantity = str(attrs.get("quantity", ""))
    return quantity.endswith("attention") or quantity.startswith("share")


def unclear(table: xr.Dataset) -> Bool[np.ndarray, "..."]:
    """Cells not different from 0: by adjusted p, or, where no cell could be, by the cell's own interval.

    Cells that are exactly 0 need no mark; quantities that are never negative have no such test.
    """
    tested = (table["n"] > 1) & (table["high"] > table["low"])
    if never_negative(table.attrs):
        return np.zeros(tested.shape, dtype=bool)
    same = table["p_holm"] > LEVEL if testable(table.attrs) else (table["low"] <= 0) & (table["high"] >= 0)
    return (tested & same).transpose(*table["mean"].dims).values


def doubtful(row: Row, attrs: Mapping[Any, Any]) -> bool:
    """`unclear` of a single cell; False where there is no interval."""
    if never_negative(attrs) or not row.low < row.high:
        return False
    return row.p_holm > LEVEL if testable(attrs) else row.low <= 0 <= row.high


def caption(tables: Sequence[xr.Dataset], mark: str = "", scale: Sequence[str] = ()) -> str:
    """How many prompts, how sure, and what marks and numbers mean.

    Args:
        tables: the summaries that are drawn.
        mark: what stands on cells not different from 0, where there are any: `Dots`.
        scale: `meaning` of the numbers, where the drawing does not say so itself.
    """
    attrs = tables[0].attrs
    notes = dict.fromkeys(note for table in tables if (note := sense_of(table).note()))
    ending = " ".join([f" {', '.join(scale)}." if scale else "", *notes]).rstrip()
    least, most = _sizes(tables)
    if "level" not in attrs:
        one = "prompt" if most == 1 else "cluster" if most and attrs.get("n_clusters") == 1 else ""
        return (f"One {one}: no interval." if one else "Averages: no interval.") + ending
    n = f"{most} prompts" if least == most else f"{least} to {most} prompts"
    n_clusters = int(attrs.get("n_clusters", attrs["n_prompts"]))
    clustered = n_clusters < int(attrs["n_prompts"])
    of, unit = (f"{n} in {counted(n_clusters, 'cluster')}", "clusters") if clustered else (n, "prompts")
    level = percent(float(attrs["level"]))
    text = f"Means of {of}, with {level} intervals that take the {unit} as independent."
    marked = mark and any(unclear(table).any() for table in tables)
    return text + (f" {_marks(tables, mark)}" if marked else "") + ending


def _sizes(tables: Sequence[xr.Dataset]) -> tuple[int, int]:
    """How many prompts the cells have that have any, at least and at most: some prompts are shorter than others."""
    counts = np.concatenate([table["n"].values.ravel() for table in tables])
    known = counts[counts > 0]
    if len(known):
        return int(known.min()), int(known.max())
    alone = all("prompt" in table.coords and not table["prompt"].dims for table in tables)
    return (1, 1) if alone else (0, 0)


def _marks(tables: Sequence[xr.Dataset], mark: str) -> str:
    if not all(testable(table.attrs) for table in tables):
        return f"{too_few(tables)}; {mark.lower()}: the cell's own interval holds 0."
    tests, cells = max((int(table.attrs["n_tests"]), table["mean"].size) for table in tables)
    if tests == 1:
        return f"{mark}: not different from 0 (sign-flip p above {LEVEL})."
    those = f"all {tests} cells" if tests >= cells else f"the {tests} of {cells} cells that are not exactly 0"
    return f"{mark}: not different from 0 after adjustment for {those} (sign-flip p, Holm, above {LEVEL})."


def too_few(tables: Sequence[xr.Dataset]) -> str:
    """That no cell can be significant by its adjusted p-value, with how many prompts one could; "" if some can."""
    tables = [table for table in tables if "n_tests" in table.attrs]  # averages are no test
    if all(testable(table.attrs) for table in tables):
        return ""
    tests = max(int(table.attrs["n_tests"]) for table in tables)
    needed = math.floor(1 + math.log2(max(tests, 1) / LEVEL)) + 1
    n = prompts_of(tables[0].attrs)
    be, cells = "is" if n.startswith("1 ") else "are", counted(tests, "cell")
    return f"{n} {be} too few for any of {cells} to differ from 0 by adjusted p-values ({needed} could do)"
