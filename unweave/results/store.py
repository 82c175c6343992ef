"""Results on disk: netCDF files that give back what was saved, to the bit.

Any netCDF reader reads them; xarray by itself gives values, coordinates and attributes. What netCDF cannot hold is in
one more attribute, a line of JSON (unweave/results/encoding.py). The values carry checksums, so that a damaged file is
refused, not read.
"""

import json
import os
from pathlib import Path

import xarray as xr

from unweave.errors import InputError
from unweave.results.encoding import decoded, encoded
from unweave.results.origin import DIGEST
from unweave.whole_files import placed

FORMAT = 2
# Attributes that format 1 (version 0.1) held as one text, and what separated their items.
_LISTS = {"over": " ", "roles": ", ", "receivers": ", ", "knocked_out": " + ", "at": " "}
_RECORD = "unweave_file"
_VALUES = "_values"


def save(result: xr.DataArray | xr.Dataset | xr.DataTree, path: str | os.PathLike[str]) -> Path:
    """Write a result, several sites of one, or a summary, to a netCDF file; `load` reads it back as it was.

    The file appears whole or not at all, and replaces one that was there.

    Returns:
        The path of the file.

    Raises:
        InputError: the folder is not there or cannot be written to, an attribute is neither text nor number, or a name
            has a slash.
    """
    target = Path(path)
    tables = _tables(result)
    divided = [name for table in tables.values() for name in (*table.variables, *table.dims) if "/" in str(name)]
    if divided:
        raise InputError(f"result: a netCDF file allows no '/' in a name, got {divided[0]!r}; use result.rename first")
    tree = xr.DataTree.from_dict({name: encoded(table) for name, table in tables.items()})
    record: dict[str, object] = {"format": FORMAT, "kind": type(result).__name__}
    if isinstance(result, xr.DataArray):
        record |= {"name": result.name, "variable": _variable(result)}
    tree.attrs[_RECORD] = json.dumps(record)
    # In memory first: where the disk is full, HDF5 would bring down the whole process.
    content = tree.to_netcdf(engine="h5netcdf", encoding=_checked(tree))
    with placed(target) as spare:
        spare.write_bytes(content)
    return target


def load(path: str | os.PathLike[str]) -> xr.DataArray | xr.Dataset | xr.DataTree:
    """Read what `save` wrote: the same kind of value, equal in values, types, coordinates and attributes.

    Raises:
        InputError: no such file, a file that `save` did not write, or a damaged one.
    """
    source = Path(path)
    if not source.is_file():
        what = "a folder" if source.is_dir() else "not there"
        raise InputError(f"path: {source} is {what}; give a file that unweave saved")
    try:
        with xr.open_datatree(source, engine="h5netcdf") as tree:
            tree.load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        circuits = "; uw.Circuit.load reads circuits" if source.suffix == ".json" else ""
        raise InputError(
            f"path: {source} is damaged, or no netCDF file; give a file that unweave saved{circuits}"
        ) from error
    if _RECORD not in tree.attrs:
        raise InputError(f"path: {source} is a netCDF file that unweave did not save; open it with xarray")
    record = json.loads(tree.attrs.pop(_RECORD))
    if record["format"] > FORMAT:
        raise InputError(f"path: {source} was saved by a later version of unweave; update unweave to read it")
    read = decoded if record["format"] == FORMAT else _decoded_format_1
    if record["kind"] == "DataTree":
        return xr.DataTree.from_dict({name: read(child.to_dataset()) for name, child in tree.children.items()})
    table = read(tree.to_dataset())
    return table if record["kind"] == "Dataset" else table[record["variable"]].rename(record["name"])


def _decoded_format_1(table: xr.Dataset) -> xr.Dataset:
    """What version 0.1 wrote: lists in place of texts that held them, names of today, and no digest."""
    table = decoded(table)
    if "members" in table.coords:
        ((dim,), texts) = table["members"].dims, table["members"].values
        members = {str(label): text.split() for label, text in zip(table[dim].values, texts, strict=True)}
        table = table.drop_vars("members").assign_attrs(members=members)
    for part in (table, *table.data_vars.values()):
        part.attrs |= {"at": ""} if part.attrs.get("at") == "all positions" else {}
        lists = {name: part.attrs[name].split(mark) for name, mark in _LISTS.items() if name in part.attrs}
        part.attrs |= {"method": "subsets of heads"} if part.attrs.get("method") == "heads alone" else {}
        part.attrs |= {name: list(filter(None, items)) for name, items in lists.items()} | {DIGEST: ""}
    return table


def _tables(result: xr.DataArray | xr.Dataset | xr.DataTree) -> dict[str, xr.Dataset]:
    if isinstance(result, xr.DataTree):
        return {name: child.to_dataset() for name, child in result.children.items()}
    if isinstance(result, xr.Dataset):
        return {"/": result}
    if isinstance(result, xr.DataArray):
        return {"/": result.to_dataset(name=_variable(result))}
    raise InputError(f"result: expected a DataArray, Dataset or DataTree, got {type(result).__name__}")


def _variable(result: xr.DataArray) -> str:
    """The array's name in its file: its own, unless it has none or a coordinate has it too."""
    own = isinstance(result.name, str) and result.name not in result.coords and result.name not in result.dims
    return str(result.name) if own else _VALUES


def _checked(tree: xr.DataTree) -> dict[str, dict[str, dict[str, object]]]:
    """Compression and checksums for arrays of numbers; many effects are exactly 0."""
    return {
        node.path: {
            str(name): {"zlib": True, "complevel": 4, "shuffle": True, "fletcher32": True}
            for name, variable in node.variables.items()
            if variable.ndim and variable.dtype.kind in "fiub"
        }
        for node in tree.subtree
    }
