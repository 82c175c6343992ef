"""What a study's results show, in words computed from them."""

import numpy as np
import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.methods.head_types import HeadTypes
from unweave.registry import method_of
from unweave.results import top
from unweave.results.labels import number
from unweave.studies.plan import Result
from unweave.views.blocks import Figure, Table
from unweave.views.circuit_layout import circuit_finding
from unweave.views.evaluation_findings import faithfulness_finding
from unweave.views.head_pictures import roles_finding
from unweave.views.pictures import blocks_of, title_of
from unweave.views.wording import listed

N_LEADING = 6


def finding_of(result: Result) -> str:
    """What a result shows, in a line; of several sites the first one's."""
    if isinstance(result, Circuit):
        return circuit_finding(result)
    if isinstance(result, HeadTypes):
        return roles_finding(result)
    if isinstance(result, xr.DataTree):
        return faithfulness_finding(result["faithfulness"].to_dataset())
    known, first = method_of(result.attrs), array(result)
    if known and known.reads_roles:
        return f"heads {', '.join(map(str, first['address'].values))}"
    if known and known.picture:
        return next(block.title for block in blocks_of(result) if isinstance(block, (Figure, Table)))
    return title_of(first)


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
