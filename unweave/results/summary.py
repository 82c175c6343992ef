"""Means over prompts, with what they are worth: interval, p-value, p-value adjusted over the table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int, Num

from unweave.errors import InputError
from unweave.results.labels import TOKENS
from unweave.results.origin import without_lost_claims
from unweave.results.statistics import (
    EXACT_UP_TO,
    SKEWED,
    WILSON,
    Ends,
    cluster_sums,
    draws_for,
    holm,
    mean_interval,
    sample_attrs,
    share_interval,
    sign_flip_p,
    smallest_p,
)

_TOKENS = (*TOKENS.values(), *(f"clean_{name}" for name in TOKENS.values()))
# The largest p-value of what is called significant.
LEVEL = 0.05
_COLUMNS = ("mean", "low", "high", "p", "p_holm")
# What a measure divides by: the mean of the first coordinate, less that of the second; others say it as `share_of`.
_SCALES = {"effect": "clean corrupted", "drop": "clean"}
# The attribute that has this mean, over all prompts of the result.
_MEANS = {"clean corrupted": "gap", "clean": "clean_mean"}


@overload
def summary(result: xr.DataArray, dim: str = ..., level: float = ..., seed: int = ...) -> xr.Dataset: ...
@overload
def summary(result: xr.Dataset | xr.DataTree, dim: str = ..., level: float = ..., seed: int = ...) -> xr.DataTree: ...
def summary(
    result: xr.DataArray | xr.Dataset | xr.DataTree,
    dim: str = "prompt",
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset | xr.DataTree:
    """The mean of every cell over prompts, its interval and its sign-flip p-value.

    The variables of a summary have the dimensions of the result without `dim`, and the result's unit:

    - `mean`, over the prompts that were reached (`n` of them; cells that were not reached are NaN);
    - `low`, `high`: t interval corrected for skewness (unweave/results/statistics.py), which holds the mean over all
      prompts of the kind in about `level` of cases, from 8 prompts on;
    - `p`: two-sided sign-flip p-value of a mean of 0, exact up to 16 prompts, else from seeded draws. It says something
      of quantities that could have had either sign (effects, differences), and nothing of attention or probabilities;
    - `p_holm`: `p` adjusted by Holm's method over the table, that is, over the cells of this variable that are tests. A
      cell that is exactly 0 on every prompt could not matter: it is no test, is not counted, and has p = p_holm = 1.

    An effect is a ratio: of a mean change to the mean gap of the same prompts (a drop: to the mean clean score). Its
    interval counts the doubt about both. The gap is taken as known in cells that lack a prompt, and in a selection of
    the prompts that the gap was made of. A mean of 0s and 1s has Wilson's interval.

    Prompts are assumed to be independent draws of their kind. Those with one number along the coordinate `cluster` are
    not: intervals and sign flips then count clusters (attribute `n_clusters`). The attributes `interval` and `test` say
    what was assumed. An interval covers the choice of prompts: not that of task, templates, corruption, metric or
    model. There is none (NaN) for one prompt or one cluster, nor for values that are all alike and not 0: they do not
    say how far others may lie.

    Few prompts cannot speak for many cells: n clusters give no p below 2^(1-n), so that 8 prompts never reach 0.05 over
    270 cells. The attribute `p_holm_smallest` is the least that the table could have shown.

    Args:
        result: a result of a method, or several sites of one. A summary is given back as it is, and a result whose
            prompts were averaged gets only its means, with NaN for the rest.
        dim: the dimension to average over.
        level: how often an interval is to hold the mean.
        seed: of the drawn signs. The same seed gives the same numbers.

    Returns:
        A Dataset with the coordinates and attributes of the result; tokens are those of the first prompt. For several
        sites a DataTree with one such Dataset each: `summary(heads)["z"]["mean"]`.

    Raises:
        InputError: `dim` is not in the result, or an option is out of range.
    """
    if not 0 < level < 1:
        raise InputError(f"level: expected a share between 0 and 1, such as 0.95, got {level}")
    if isinstance(result, (xr.DataArray, xr.Dataset)):
        result = without_lost_claims(result)
    if isinstance(result, xr.DataTree) or is_summary(result):
        return result  # pyright: ignore[reportReturnType]
    if isinstance(result, xr.Dataset):
        return xr.DataTree.from_dict({str(name): summary(result[name], dim, level, seed) for name in result.data_vars})
    if not isinstance(result, xr.DataArray) or result.dtype.kind not in "biuf":
        kind = f"{result.dtype} values" if isinstance(result, xr.DataArray) else f"a {type(result).__name__}"
        raise InputError(f"result: expected numbers in a DataArray or Dataset of a method, got {kind}")
    if dim == "prompt" and dim not in result.dims:
        if dim not in result.coords:
            return _averages(result)
        result = result.expand_dims(dim)  # one prompt was selected
    return _summary(result, dim, level, seed)


def summaries(
    result: xr.DataArray | xr.Dataset | xr.DataTree | Mapping[str, Any], dim: str = "prompt"
) -> dict[str, xr.Dataset]:
    """One summary for each site or name, whatever was given: results, summaries, or several of them by name.

    Summaries are not computed again. An array without prompts has a mean, and NaN for everything else.
    """
    if isinstance(result, (xr.DataTree, xr.Dataset)) and not is_summary(result):
        return {name: child.to_dataset() for name, child in summary(result, dim).children.items()}
    if isinstance(result, (xr.DataArray, xr.Dataset)):
        whole = without_lost_claims(result)
        return {str(whole.attrs.get("site", getattr(whole, "name", None) or "")): summary(whole, dim)}  # pyright: ignore[reportReturnType]
    if isinstance(result, Mapping) and result:
        return {name: next(iter(summaries(one, dim).values())) for name, one in result.items()}
    raise InputError(f"result: expected a result of a method, or several by name, got {type(result).__name__}")


def is_summary(table: object) -> bool:
    """Whether something is a summary of one site, and not several sites."""
    return isinstance(table, xr.Dataset) and set(_COLUMNS) <= set(table.data_vars)


def significant(table: xr.Dataset) -> Bool[np.ndarray, "..."]:
    """Which cells of a summary differ from 0 by more than the choice of prompts explains.

    By their adjusted p-value, or, if the prompts are too few for any adjusted p-value to be small, by their interval.
    """
    if float(table.attrs.get("p_holm_smallest", 1.0)) <= LEVEL:
        return np.asarray(table["p_holm"].values <= LEVEL)
    low, high = table["low"].values, table["high"].values
    return np.asarray((low > 0) | (high < 0))


def _averages(result: xr.DataArray) -> xr.Dataset:
    unknown = xr.full_like(result, np.nan, dtype=np.float64)
    table = xr.Dataset({"mean": result.astype(np.float64), **dict.fromkeys(_COLUMNS[1:], unknown)})
    return table.assign(n=xr.zeros_like(unknown, dtype=np.int64)).assign_attrs(result.attrs)


@dataclass(frozen=True)
class _Sample:
    """How the prompts are counted: their clusters; which interval, with its scale if it is that of a ratio."""

    clusters: Int[np.ndarray, " prompt"] | None
    interval: str
    scale: Float[np.ndarray, "#cell prompt"] | None = None

    def ends(self, values: Float[np.ndarray, "cell prompt"], level: float) -> Ends:
        """Lower and upper ends."""
        if self.interval == WILSON:
            return share_interval(values, level, self.clusters)
        return mean_interval(values, level, self.clusters, self.scale)


def _summary(result: xr.DataArray, dim: str, level: float, seed: int) -> xr.Dataset:
    if dim not in result.dims:
        have = ", ".join(map(str, result.dims)) or "none"
        raise InputError(f"dim: the result has no dimension {dim!r} (it has {have}); give one of them")
    if not result.sizes[dim]:
        raise InputError(f"result: its dimension {dim!r} is empty; select at least one of it")
    last = result.transpose(..., dim)
    values = np.asarray(last.values, dtype=np.float64).reshape(-1, last.sizes[dim])
    sample = _sample(last, values, dim)
    columns, n_tests = _columns(values, sample, level, seed)
    return xr.Dataset(
        {name: (last.dims[:-1], column.reshape(last.shape[:-1])) for name, column in columns.items()},
        coords=_coordinates(result, dim),
        attrs=dict(result.attrs) | _attributes(result, dim, n_tests, sample, level, seed),
    )


def _sample(last: xr.DataArray, values: Float[np.ndarray, "cell prompt"], dim: str) -> _Sample:
    clusters = _clusters(last, dim)
    measure = str(last.attrs.get("measure", ""))
    counted = not measure and ((values == 0) | (values == 1) | np.isnan(values)).all()
    if counted and (last.ndim == 1 or (values == 1).any()):  # a table of zeros could be anything
        return _Sample(clusters, WILSON)
    of = _SCALES.get(measure, str(last.attrs.get("share_of", "")))
    if not of:
        return _Sample(clusters, SKEWED)
    scale = _scale(last, dim, of)
    if scale is None:
        return _Sample(clusters, f"{SKEWED} (its scale taken as known)")
    return _Sample(clusters, f"{SKEWED}, of a ratio", scale)


def _clusters(last: xr.DataArray, dim: str) -> Int[np.ndarray, " prompt"] | None:
    """The cluster of each prompt; None if each prompt is its own."""
    if "cluster" not in last.coords or dim not in last["cluster"].dims:
        return None
    if last["cluster"].ndim > 1:
        raise InputError(f"result: the coordinate 'cluster' must run along {dim!r} only, got {last['cluster'].dims}")
    clusters = np.unique(last["cluster"].values, return_inverse=True)[1].ravel()
    return clusters if clusters.max() + 1 < len(clusters) else None


def _scale(last: xr.DataArray, dim: str, of: str) -> Float[np.ndarray, "_ prompt"] | None:
    """What the values are shares of, over its mean; None if these are not the prompts whose mean the values have."""
    if any(name not in last.coords or dim not in last[name].dims for name in of.split()):
        return None
    first, *others = (last[name].reset_coords(drop=True).astype(np.float64) for name in of.split())
    scale = first - others[0] if others else first
    mean = scale.mean(dim, skipna=False)
    name = _MEANS.get(of, "")
    known = last.attrs.get(name, last.coords.get(name, mean))
    whole = last.sizes[dim] == last.attrs.get("n_prompts") and np.allclose(mean, known, rtol=1e-3)
    if not whole or not (abs(mean) > 0).all():
        return None
    scale = scale / mean
    return scale.values[None] if scale.ndim == 1 else scale.broadcast_like(last).values.reshape(-1, last.sizes[dim])


def _columns(
    values: Float[np.ndarray, "cell prompt"], sample: _Sample, level: float, seed: int
) -> tuple[dict[str, Num[np.ndarray, " cell"]], int]:
    """The columns of a summary, and how many cells are tests: those with two clusters, and not 0 on all prompts."""
    present = np.isfinite(values)
    n = present.sum(axis=1)
    mean = np.where(n > 0, np.where(present, values, 0).sum(axis=1) / np.maximum(n, 1), np.nan)
    low, high = sample.ends(values, level)
    sums = cluster_sums(np.where(present, values, 0.0), sample.clusters)
    there = cluster_sums(present * 1.0, sample.clusters) > 0
    known = there.sum(axis=1) > 1
    tests = known & np.nan_to_num(values).any(axis=1)
    p = np.where(known, 1.0, np.nan)
    draws = draws_for(int(tests.sum()))
    for clusters, cells in _alike(there, tests):
        p[cells] = sign_flip_p(sums[np.ix_(cells, clusters)], draws, seed)
    p_holm = np.where(tests, holm(np.where(tests, p, np.nan)), p)
    return {"mean": mean, "low": low, "high": high, "p": p, "p_holm": p_holm, "n": n}, int(tests.sum())


def _alike(
    there: Bool[np.ndarray, "cell cluster"], tests: Bool[np.ndarray, " cell"]
) -> list[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]:
    """The tests, sorted by the set of clusters that they have values for: (clusters, cells) of each set."""
    kinds, kind_of = np.unique(there[tests], axis=0, return_inverse=True)
    cells = np.flatnonzero(tests)
    return [(np.flatnonzero(kind), cells[kind_of.ravel() == place]) for place, kind in enumerate(kinds)]


def _coordinates(result: xr.DataArray, dim: str) -> xr.Dataset:
    """The coordinates that do not depend on `dim`, and the first prompt's tokens."""
    first = result.isel({dim: 0}, drop=True).coords.to_dataset()
    lost = [name for name, coord in result.coords.items() if dim in coord.dims and name not in _TOKENS]
    return first.drop_vars(lost, errors="ignore")


def _attributes(
    result: xr.DataArray, dim: str, n_tests: int, sample: _Sample, level: float, seed: int
) -> dict[str, str | int | float]:
    n = result.sizes[dim]
    about = sample_attrs(sample.interval, n, sample.clusters)
    flipped = int(about["n_clusters"])
    what: dict[str, str | int | float] = {
        "n_prompts": n,
        "tokens": _whose_tokens(result, dim),
        "n_tests": n_tests,
        **about,
        "test": about["interval"],
    }
    if flipped > 1:
        draws = draws_for(n_tests)
        unit = "prompts" if sample.clusters is None else "clusters"
        signs = "all patterns" if flipped <= EXACT_UP_TO else f"up to {draws} drawn patterns, seed {seed}"
        what["test"] = f"two-sided sign flips of {flipped} {unit}, {signs}; p_holm over {n_tests} cells"
        what["level"] = level
        what["p_holm_smallest"] = min(1.0, smallest_p(flipped, draws) * max(n_tests, 1))
    return what


def _whose_tokens(result: xr.DataArray, dim: str) -> str:
    """Whose tokens the summary names: those of every prompt, where they are alike, or of the first."""
    named = [result[name] for name in _TOKENS if name in result.coords]
    if not named:
        return "none"
    alike = all(dim not in tokens.dims or bool((tokens == tokens.isel({dim: 0})).all()) for tokens in named)
    return "every prompt" if alike else f"prompt 1 of {result.sizes[dim]}"
