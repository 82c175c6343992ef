"""How prompts score, as a labelled result, from a contrast alone."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from unweave.methods.to_xarray import attributes
from unweave.metrics import Rank
from unweave.metrics.contrast import Contrast
from unweave.metrics.metric import read_logits


def scores(pair: Contrast, rows: Sequence[int] | None = None) -> xr.DataArray:
    """The metric of the clean prompts, or of some of them, with both baselines as coordinates."""
    chosen = list(range(len(pair.prompts))) if rows is None else list(rows)
    sides = {
        name: side.cpu().numpy()[chosen]
        for name, side in (("clean", pair.clean_scores), ("corrupted", pair.corrupted_scores))
    }
    coords = {name: ("prompt", values) for name, values in sides.items()}
    attrs = {**attributes(pair), "quantity": pair.metric.name}
    return xr.DataArray(sides["clean"], dims="prompt", coords=coords, attrs=attrs)


def first_share(pair: Contrast, rows: Sequence[int] | None = None) -> float:
    """On which share of the clean prompts, or of some of them, the answer is the first of all outputs of the model."""
    rank = Rank(pair.metric.role)
    found = rank.score(read_logits(pair.clean_run, rank, pair.prompts), pair.prompts).cpu().numpy()
    return float(np.mean((found if rows is None else found[list(rows)]) == 0))
