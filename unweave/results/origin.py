"""Whether a result still is what a method returned, or was computed from several results since.

xarray keeps the attributes that both operands of `a - b` share, so that the difference of two patches would be read as
a patch. Each result therefore carries a digest of its values: operands that differ lose it, and what has a method but
no digest is shown as computed values, without claims. Slices, means and other changes of one result keep it.
"""

import hashlib
from typing import Any

import xarray as xr

DIGEST = "digest"
# What no longer holds of values computed from several results.
_OF_THE_METHOD = ("method", "quantity", "zero", "one", "measure", "direction", "unit")


def stamped(array: xr.DataArray) -> xr.DataArray:
    """The array, with the digest of its values."""
    return array.assign_attrs({DIGEST: hashlib.blake2b(array.values.tobytes(), digest_size=8).hexdigest()})


def without_lost_claims(result: Any) -> Any:
    """The result; of one that was computed from several, `computed values` are the quantity, and it has no method."""
    # Several sites say each for itself; an array and its summary have one set of attributes.
    parts = [result] if "mean" in getattr(result, "data_vars", ["mean"]) else [*result.data_vars.values()]
    if not all({"method", "version"} <= set(part.attrs) and DIGEST not in part.attrs for part in parts):
        return result
    if hasattr(result, "data_vars"):
        result = result.assign({name: _bare(part) for name, part in result.data_vars.items()})
    return _bare(result)


def _bare(part: Any) -> Any:
    left = {name: value for name, value in part.attrs.items() if name not in _OF_THE_METHOD}
    part = part.copy(deep=False)
    part.attrs = {**left, "quantity": "computed values"}
    return part
