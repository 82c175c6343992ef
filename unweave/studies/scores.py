"""How prompts score, as a labelled result, from a contrast alone."""

from collections.abc import Sequence

import xarray as xr

from unweave.methods.frame import attributes
from unweave.metrics.contrast import Contrast


def scores(pair: Contrast, rows: Sequence[int] | None = None) -> xr.DataArray:
    """The metric of the clean prompts, or of some of them, with both baselines as coordinates."""
    chosen = list(range(len(pair.prompts))) if rows is None else list(rows)
    sides = {name: side.cpu().numpy()[chosen] for name, side in (("clean", pair.clean), ("corrupted", pair.spoiled))}
    coords = {name: ("prompt", values) for name, values in sides.items()}
    attrs = {**attributes(pair), "quantity": pair.metric.name}
    return xr.DataArray(sides["clean"], dims="prompt", coords=coords, attrs=attrs)
