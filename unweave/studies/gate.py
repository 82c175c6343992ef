"""Whether a task can be studied in a model: asked before any sweep, since effects of what is not there mean nothing."""

from unweave.metrics.contrast import Contrast
from unweave.results.labels import number
from unweave.studies.scores import scores
from unweave.views.result_tables import Baseline, baseline, baselines
from unweave.views.wording import counted, interval, percent


def shortfall(pair: Contrast) -> str:
    """Why the model does not do the task, with its figures, or "".

    It does where the right answer is ahead of the wrong one on more than half of the prompts, its mean logit difference
    is told from 0 by its interval, and so is what the corruption takes away from the metric. Of a single prompt the
    values themselves are taken.
    """
    table = scores(pair)
    clean, _ = baselines(table)
    gap = baseline(table.coords["clean"] - table.coords["corrupted"])
    said = []
    if pair.prompts.wrong is not None:
        if clean.above_zero <= 0.5:
            said.append(f"the right answer is ahead on {percent(clean.above_zero)} of {counted(clean.n, 'prompt')}")
        if not clean.above:
            said.append(f"the mean {pair.metric.name} is {_figures(clean)}, not above 0")
    if not gap.above:
        metric = "it" if said else f"the {pair.metric.name} of {number(clean.mean)}"
        lost = f"the corrupted prompts lower {metric} by {_figures(gap)}"
        said.append(
            f"{lost}, which is not significantly different from 0" if gap.n > 1 else f"{lost}, which is not above 0"
        )
    return "; ".join(said).replace("\u00a0", " ")


def _figures(line: Baseline) -> str:
    return number(line.mean) + (f" ({interval(line.low, line.high)})" if line.n > 1 else "")
