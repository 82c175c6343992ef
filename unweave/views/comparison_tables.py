"""Comparisons of results as tables: how alike two are, how well one finds known cells, how stable a choice is."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from unweave.results.comparison import Agreement, Comparison, cell_name
from unweave.results.labels import number
from unweave.views.blocks import Block, Details, Table
from unweave.views.pictures import blocks_of
from unweave.views.wording import SPACE, counted, few, percent

_MOST, _MOST_NAMED = 60, 30
_OFTEN = 0.5
# Mean Jaccard index of two samples that the literature asks for.
ENOUGH = 0.8
_BANDS = ((1.0, "every one"), (ENOUGH, "80\u00a0% or more"), (_OFTEN, "half or more"), (0.0, "fewer"))


def stability_blocks(result: xr.DataArray) -> list[Block]:
    """How often each cell is among the largest over samples of the prompts: in bands, one by one, and as a heat map if
    the cells have two dimensions.

    Args:
        result: shares of samples, as `uw.stability` gives them, or a slice.
    """
    shares = np.nan_to_num(result.values.ravel())
    order = np.argsort(-shares, kind="stable")
    order = order[shares[order] > 0]
    cells = [(cell_name(result, int(place)), float(shares[place])) for place in order]
    rows = tuple((name, percent(share)) for name, share in cells[:_MOST])
    listing = Table(("cell", "in samples"), rows, align="lr")
    some = Details(f"The {len(rows)} most frequent of {counted(len(cells), 'cell')}", (listing,))
    blocks = [_bands(cells, result), some]
    return blocks if result.ndim < 2 else [*blocks, *blocks_of(result.assign_attrs(method=""))]


def _bands(cells: Sequence[tuple[str, float]], result: xr.DataArray) -> Table:
    """How many cells are in all samples, in most, in some, and which."""
    rows, above = [], np.inf
    for least, said in _BANDS:
        there = [name for name, share in cells if least <= share < above]
        rows += [(said, str(len(there)), few([name.replace(" ", SPACE) for name in there], _MOST_NAMED))]
        above = least
    draws = counted(int(result.attrs.get("draws", 0)), "bootstrap sample")
    shown = f"Shares of {draws} of the prompts in which a cell is among the {result.attrs.get('n', '')} largest."
    return Table(("in samples", "cells", "which"), tuple(rows), stability_finding(result), shown, align="lrl")


def stability_finding(result: xr.DataArray) -> str:
    """How alike the choices of two samples are, and how many cells are in all of them."""
    n, shares = int(result.attrs.get("n", 0)), np.nan_to_num(result.values)
    always, often = int((shares >= 1).sum()), int((shares >= _OFTEN).sum())
    alike = number(float(result.attrs.get("jaccard", np.nan)))
    are = "is" if always == 1 else "are"
    said = f"{counted(always, 'cell')} {are} among the {n} largest in every sample of the prompts"
    said += f", {often} in at least half"
    return f"{said}; mean Jaccard index of two samples {alike} (the literature asks for {ENOUGH})"


def table_of(found: Comparison | Agreement) -> Table:
    """The table of a comparison, or of an agreement with known cells."""
    return comparison_table(found) if isinstance(found, Comparison) else agreement_table(found)


def comparison_table(found: Comparison) -> Table:
    """The cells that differ most between two results."""
    rows = tuple((name, number(one), number(other), number(one - other)) for name, one, other in found.misses)
    worst = f"; furthest apart is {rows[0][0]} ({rows[0][1]} and {rows[0][2]})" if rows else ""
    said = f"{found.n_cells} cells correlate at {number(found.correlation)}; {found.in_common} of the {found.n} largest"
    shown = f"Correlation of ranks by size: {number(found.rank_correlation)}. Listed are the cells that differ most."
    header = ("cell", "first", "second", "difference")
    return Table(header, rows, f"{said} are among the {found.n} largest of both{worst}", shown, align="lrrr")


def agreement_table(found: Agreement) -> Table:
    """How well the largest cells of a result match known ones."""
    rows = (
        ("chosen", str(found.n)),
        ("known", str(found.n_known)),
        ("both", str(found.n_both)),
        ("precision", percent(found.precision)),
        ("recall", percent(found.recall)),
        ("Jaccard index", number(found.jaccard)),
        ("ROC area", number(found.roc_area)),
    )
    said = f"{found.n_both} of the {found.n} largest cells are among the {found.n_known} known ones"
    return Table(("", ""), rows, f"{said}; ROC area {number(found.roc_area)}", align="lr")
