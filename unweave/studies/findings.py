"""What a study's results show, in words computed from them."""

import numpy as np
import xarray as xr

from unweave.results import top
from unweave.results.labels import number
from unweave.studies.plan import Result
from unweave.views.pictures import title_in
from unweave.views.show import show
from unweave.views.wording import listed

N_LEADING = 6


def finding_of(result: Result) -> str:
    """What a result shows, in a line: the title of its first picture."""
    return title_in(show(result).blocks[0])


def array(result: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """A result of one site as it is; of several the first."""
    return next(iter(result.data_vars.values())) if isinstance(result, xr.Dataset) else result


def agreement(one: xr.DataArray, other: xr.DataArray) -> str:
    """How alike the effects of heads are under two corruptions."""
    x, y = (effects.mean("prompt").values.ravel() for effects in (one, other))
    first, second = ([row.label for row in top(effects, N_LEADING)] for effects in (one, other))
    shared = [label for label in first if label in second]
    names = f": {listed(shared)}" if shared else ""
    return (
        f"Under {one.attrs['corruption']} and {other.attrs['corruption']} the effects correlate at "
        f"{number(float(np.corrcoef(x, y)[0, 1]))}; {len(shared)} of the first {len(first)} heads are the same{names}"
    )
