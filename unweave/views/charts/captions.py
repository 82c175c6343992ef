"""What stands above a figure: its title, if none was given, and its caption: prompts, intervals, marks, units.

A cell counts as different from 0 by its adjusted p-value; where the prompts are too few for any adjusted p-value of the
table to be small, by its own interval, and the caption says so.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from unweave.results.labels import number
from unweave.results.top import Row, top
from unweave.views.facts import sense_of
from unweave.views.text import visible
from unweave.views.wording import counted, percent, prompts_of

if TYPE_CHECKING:
    import xarray

LEVEL = 0.05


def measure(attrs: Mapping[Any, Any]) -> str:
    """What the numbers are, with their unit: `logit difference (logits)`. An effect, a share of a gap, has none."""
    name, unit = str(attrs.get("quantity", "mean")), str(attrs.get("unit", ""))
    known = name == "effect" or unit in ("", name) or name.startswith(f"{unit} ")
    return name if known else f"{name} ({unit})"


def shared(tables: Sequence["xarray.Dataset"], say: Callable[[Mapping[Any, Any]], Any]) -> Any:
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


def testable(attrs: Mapping[Any, Any]) -> bool:
    """Whether there are prompts enough for any cell of the table to differ from 0 after adjustment."""
    return float(attrs.get("p_holm_smallest", 1.0)) <= LEVEL


def never_negative(attrs: Mapping[Any, Any]) -> bool:
    """Whether the numbers are shares, of attention or of words, for which a test of 0 says nothing."""
    quantity = str(attrs.get("quantity", ""))
    return quantity.endswith("attention") or quantity.startswith("share")


def unclear(table: "xarray.Dataset") -> Bool[np.ndarray, "..."]:
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


def caption(tables: Sequence["xarray.Dataset"], mark: str = "", scale: Sequence[str] = ()) -> str:
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


def _sizes(tables: Sequence["xarray.Dataset"]) -> tuple[int, int]:
    """How many prompts the cells have that have any, at least and at most: some prompts are shorter than others."""
    counts = np.concatenate([table["n"].values.ravel() for table in tables])
    known = counts[counts > 0]
    if len(known):
        return int(known.min()), int(known.max())
    alone = all("prompt" in table.coords and not table["prompt"].dims for table in tables)
    return (1, 1) if alone else (0, 0)


def _marks(tables: Sequence["xarray.Dataset"], mark: str) -> str:
    if not all(testable(table.attrs) for table in tables):
        return f"{too_few(tables)}; {mark.lower()}: the cell's own interval holds 0."
    tests, cells = max((int(table.attrs["n_tests"]), table["mean"].size) for table in tables)
    if tests == 1:
        return f"{mark}: not different from 0 (sign-flip p above {LEVEL})."
    those = f"all {tests} cells" if tests >= cells else f"the {tests} of {cells} cells that are not exactly 0"
    return f"{mark}: not different from 0 after adjustment for {those} (sign-flip p, Holm, above {LEVEL})."


def too_few(tables: Sequence["xarray.Dataset"]) -> str:
    """That no cell can be told from 0 by its adjusted p-value, with how many prompts one could; "" where some can."""
    if all(testable(table.attrs) for table in tables):
        return ""
    tests = max(int(table.attrs["n_tests"]) for table in tables)
    needed = math.floor(1 + math.log2(max(tests, 1) / LEVEL)) + 1
    n = prompts_of(tables[0].attrs)
    be = "is" if n.startswith("1 ") else "are"
    return f"{n} {be} too few to tell any of {counted(tests, 'cell')} from 0 with adjusted p-values ({needed} could)"


def largest(tables: "Mapping[str, xarray.Dataset]") -> str:
    """A title: the highest means, the lowest, and how many differ from 0.

    `Effect: 23.3 (0.51) and 20.0 (0.44) are highest, 29.0 (−0.24) is lowest; 21 of 270 cells differ from 0`
    """
    high = [row for row in top(tables, 3, by="high") if row.mean > 0]
    low = [row for row in top(tables, 1, by="low") if row.mean < 0]
    said = [f"{named(high)} {'is' if len(high) == 1 else 'are'} highest"] if high else []
    said += [f"{named(low)} is lowest"] if low else []
    what = " and ".join(dict.fromkeys(str(table.attrs.get("quantity", "mean")) for table in tables.values()))
    return f"{what.capitalize()}: {', '.join(said) or 'all cells are 0'}{_clear(tables)}"


def steepest(labels: Sequence[str], means: np.ndarray, what: str) -> str:
    """A title for a quantity that builds up along an axis: where it changes most, and where it ends."""
    known = np.flatnonzero(np.isfinite(means))
    steps = np.diff(means[known])
    if not len(steps):
        return what.capitalize()
    at = int(np.argmax(np.abs(steps)))
    way = "rises" if steps[at] > 0 else "falls"
    size, end = number(abs(steps[at])), number(means[known[-1]])
    return f"{what.capitalize()} {way} most at {labels[known[at + 1]]}, by {size}, and ends at {end}"


def named(rows: Sequence[Row]) -> str:
    """`23.3 (0.51), 20.0 (0.44) and 17.4 (0.33)`"""
    items = [f"{row.label}{' ' + visible(row.token) if row.token else ''} ({number(row.mean)})" for row in rows]
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def _clear(tables: "Mapping[str, xarray.Dataset]") -> str:
    if not all(testable(table.attrs) for table in tables.values()):
        return ""
    clear = sum(int((table["p_holm"] <= LEVEL).sum()) for table in tables.values())
    tests = sum(int(table.attrs["n_tests"]) for table in tables.values())
    return f"; {clear} of {tests} cells differ from 0" if tests else ""
