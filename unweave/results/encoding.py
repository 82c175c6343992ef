"""What netCDF cannot hold of a result, and how it gets through: encoded before a file is written, decoded after.

1. Texts come back as texts of another type; their type is noted.
2. Texts with a NUL or half a surrogate pair, which byte-level tokens can have, are refused by the format; an array that
   holds one is escaped, and noted.
3. Booleans are written as 0 and 1: xarray marks them by an attribute `dtype`, which results have of their own.
4. Attributes that are no finite number or plain text are in the note only (true, None, lists, texts as in 2, very
   large numbers), and so do those whose names mean something to readers of netCDF (`units`, `scale_factor`, …). Tuples
   and arrays come back as lists, numbers of numpy as those of Python.

The notes are one attribute of the table, a line of JSON.
"""

import json
import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from unweave.errors import InputError

NOTES = "unweave_notes"
_REFUSED = re.compile("[\x00\ud800-\udfff]")
_TEXTS = "OUT"
# Names by which readers of netCDF change values.
_RESERVED = {
    "units",
    "calendar",
    "scale_factor",
    "add_offset",
    "missing_value",
    "coordinates",
    "grid_mapping",
    "bounds",
}
_RESERVED |= {"_FillValue", "_Unsigned"}


def encoded(table: xr.Dataset) -> xr.Dataset:
    """The table as netCDF can hold it, with its notes. Raises InputError for what is no text or number."""
    variables, notes = {}, {}
    for name, variable in table.variables.items():
        variables[name], notes[str(name)] = _encoded(str(name), variable)
    plain, held_back = _attributes(table.attrs)
    record = json.dumps({"variables": notes, "attrs": held_back})
    return _rebuilt(table, variables, plain | {NOTES: record})


def decoded(table: xr.Dataset) -> xr.Dataset:
    """The table as it was before `encoded`."""
    record = json.loads(table.attrs[NOTES])
    variables = {
        name: _decoded(variable, record["variables"].get(str(name), {})) for name, variable in table.variables.items()
    }
    attrs = {name: _plain(value) for name, value in table.attrs.items() if name != NOTES}
    return _rebuilt(table, variables, attrs | record["attrs"])


def _encoded(name: str, variable: xr.Variable) -> tuple[xr.Variable, dict[str, Any]]:
    plain, held_back = _attributes(variable.attrs)
    note: dict[str, Any] = {"attrs": held_back}
    values = variable.values
    if values.dtype.kind in _TEXTS:
        note["type"] = "T" if values.dtype.kind == "T" else values.dtype.str
        values = values.astype(object)
        odd = next((value for value in values.ravel() if not isinstance(value, str)), "")
        if not isinstance(odd, str):
            raise InputError(f"result: {name!r} holds a {type(odd).__name__}; only numbers and texts can be saved")
        note["escaped"] = any(map(_REFUSED.search, values.ravel()))
        values = _each(_escape, values) if note["escaped"] else values
    elif values.dtype == bool:
        note["type"], values = "bool", values.astype(np.int8)
    return xr.Variable(variable.dims, values, plain), note


def _decoded(variable: xr.Variable, note: Mapping[str, Any]) -> xr.Variable:
    values = variable.values
    if "type" in note:
        values = _each(_unescape, values.astype(object)) if note.get("escaped") else values
        values = values.astype(np.dtypes.StringDType() if note["type"] == "T" else np.dtype(note["type"]))
    attrs = {name: _plain(value) for name, value in variable.attrs.items()}
    return xr.Variable(variable.dims, values, attrs | note.get("attrs", {}))


def _rebuilt(table: xr.Dataset, variables: Mapping[Hashable, xr.Variable], attrs: Mapping[str, Any]) -> xr.Dataset:
    return xr.Dataset(
        {name: variables[name] for name in table.data_vars},
        coords={name: variables[name] for name in table.coords},
        attrs=attrs,
    )


def _attributes(attrs: Mapping[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes that netCDF holds, and those for the notes."""
    plain, held_back = {}, {}
    for name, value in attrs.items():
        value = _plain(value)
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"result: attrs[{name!r}] is a {type(value).__name__} that cannot be saved ({error}); attributes are "
                "texts, numbers, and lists of these, so turn it into a text"
            ) from error
        if isinstance(value, str):
            held = _REFUSED.search(value)
        else:
            held = type(value) not in (int, float) or abs(value) >= 2**63
        (held_back if held or name in _RESERVED else plain)[str(name)] = value
    return plain, held_back


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def _each(change: Callable[[str], str], values: np.ndarray) -> np.ndarray:
    changed = np.empty(values.shape, dtype=object)
    changed.ravel()[:] = [change(text) for text in values.ravel()]
    return changed


def _escape(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def _unescape(text: str) -> str:
    return text.encode("ascii").decode("unicode_escape")
