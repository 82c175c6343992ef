"""How prompts score, as a labelled result, and whether a task can be studied in a model at all."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from unweave.methods.to_xarray import to_xarray
from unweave.metrics import LogitDiff, Rank
from unweave.metrics.contrast import Contrast
from unweave.metrics.metric import Metric, read_logits
from unweave.results.labels import number
from unweave.views.result_tables import Baseline, baseline
from unweave.views.wording import counted, interval, percent


def scores(pair: Contrast, rows: Sequence[int] | None = None) -> xr.DataArray:
    """The metric of the clean prompts, or of some of them, with both baselines and clusters as coordinates."""
    table = to_xarray(pair, pair.clean_scores, {}, {"quantity": pair.metric.name})
    return table if rows is None else table.isel(prompt=list(rows))


def first_share(pair: Contrast, rows: Sequence[int] | None = None) -> float:
    """On which share of the clean prompts, or of some of them, the answer is the first of all outputs of the model."""
    return float(
        np.mean(_scored(pair, Rank(pair.metric.role)).values[slice(None) if rows is None else list(rows)] == 0)
    )


def shortfall(pair: Contrast) -> str:
    """Why the model does not do the task, with its figures, or "".

    It does if the right answer is ahead of the wrong one on more than half of the prompts, its mean logit difference is
    significantly above 0, and so is what the corruption makes worse. Of a single prompt the values themselves are
    taken. Effects of what is not there mean nothing, so that this is asked before any sweep.
    """
    said, table, metric = [], scores(pair), pair.metric
    if pair.prompts.wrong is not None:
        difference = LogitDiff(metric.role)
        ahead = baseline(table["clean"] if metric.name == difference.name else _scored(pair, difference))
        if ahead.above_zero <= 0.5:
            said.append(f"the right answer is ahead on {percent(ahead.above_zero)} of {counted(ahead.n, 'prompt')}")
        if not ahead.above:
            said.append(f"the mean {difference.name} is {_figures(ahead)}, not above 0")
    lost = table["clean"] - table["corrupted"]
    gap = baseline(lost if metric.higher_is_better else -lost)
    if not gap.above:
        what = "it" if said else f"the {metric.name} of {number(float(table['clean'].mean()))}"
        worse = f"the corrupted prompts {'lower' if metric.higher_is_better else 'raise'} {what} by {_figures(gap)}"
        why = "not significantly different from 0" if gap.n > 1 else "not above 0"
        said.append(f"{worse}, which is {why}")
    return "; ".join(said).replace("\u00a0", " ")


def _scored(pair: Contrast, metric: Metric) -> xr.DataArray:
    """Another metric of the clean prompts."""
    values = metric.score(read_logits(pair.clean_run, metric, pair.prompts), pair.prompts)
    return to_xarray(pair, values, {}, {"quantity": metric.name})


def _figures(line: Baseline) -> str:
    return number(line.mean) + (f" ({interval(line.low, line.high)})" if line.n > 1 else "")
