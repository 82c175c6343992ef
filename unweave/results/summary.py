"""Means over prompts, with what they are worth: interval, p-value, p-value adjusted over the table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from unweave.errors import InputError
from unweave.results.labels import TOKENS
from unweave.results.statistics import (
    EXACT_UP_TO,
    bootstrap_interval,
    draws_for,
    holm,
    sign_flip_p,
    smallest_p,
)

if TYPE_CHECKING:
    import xarray

_TOKENS = (*TOKENS.values(), *(f"clean_{name}" for name in TOKENS.values()))
# The largest p-value of what is called significant.
LEVEL = 0.05
_COLUMNS = ("mean", "low", "high", "p", "p_holm")


@overload
def summary(
    result: "xarray.DataArray", dim: str = ..., level: float = ..., n_boot: int = ..., seed: int = ...
) -> "xarray.Dataset": ...
@overload
def summary(
    result: "xarray.Dataset", dim: str = ..., level: float = ..., n_boot: int = ..., seed: int = ...
) -> "xarray.DataTree": ...
def summary(
    result: "xarray.DataArray | xarray.Dataset",
    dim: str = "prompt",
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> "xarray.Dataset | xarray.DataTree":
    """The mean of every cell over prompts, its bootstrap interval and its sign-flip p-value.

    The variables of a summary have the dimensions of the result without `dim`, and the result's unit:

    - `mean`, over the prompts that were reached (`n` of them; cells that were not reached are NaN);
    - `low`, `high`: percentile bootstrap interval at `level`, from `n_boot` resamples of the prompts;
    - `p`: two-sided sign-flip p-value of a mean of 0, exact up to 16 prompts, else from seeded draws. It says something
      of quantities that could have had either sign (effects, differences), and nothing of attention or probabilities;
    - `p_holm`: `p` adjusted by Holm's method over the table, that is, over the cells of this variable that are tests. A
      cell that is exactly 0 on every prompt could not matter: it is no test, is not counted, and has p = p_holm = 1.

    The interval covers the choice of prompts: what the mean might have been on other prompts of the same kind. It does
    not cover the choice of task, templates, corruption, metric or model, and with fewer than about 20 prompts it is
    too narrow. With one prompt there is neither interval nor p-value; both are NaN, and the attributes say so.

    Few prompts cannot speak for many cells: n prompts give no p below 2^(1-n), so that 8 prompts never reach 0.05 over
    270 cells. The attribute `p_holm_smallest` is the least that the table could have shown.

    Args:
        result: a result of a method, or several sites of one.
        dim: the dimension to average over.
        level: the share of bootstrap means between `low` and `high`.
        n_boot: resamples of the prompts.
        seed: of the resamples and of the drawn signs. The same seed gives the same numbers.

    Returns:
        A Dataset with the coordinates and attributes of the result; tokens are those of the first prompt. For several
        sites a DataTree with one such Dataset each: `summary(heads)["z"]["mean"]`.

    Raises:
        InputError: `dim` is not in the result, or an option is out of range.
    """
    import xarray as xr

    if not isinstance(result, (xr.DataArray, xr.Dataset)):
        raise InputError(f"result: expected a DataArray or Dataset of a method, got {type(result).__name__}")
    options = _Options(level, n_boot, seed)
    if isinstance(result, xr.Dataset):
        tables = {str(name): _summary(result[name], dim, options) for name in result.data_vars}
        return xr.DataTree.from_dict(tables)
    return _summary(result, dim, options)


def summaries(
    result: "xarray.DataArray | xarray.Dataset | xarray.DataTree | Mapping[str, Any]", dim: str = "prompt"
) -> "dict[str, xarray.Dataset]":
    """One summary for each site or name, whatever was given: results, summaries, or several of them by name.

    Summaries are not computed again. An array without prompts has a mean, and NaN for everything else.
    """
    import xarray as xr

    if isinstance(result, xr.DataTree):
        return {name: child.to_dataset() for name, child in result.children.items()}
    if isinstance(result, xr.Dataset):
        if is_summary(result):
            return {str(result.attrs.get("site", "")): result}
        return {str(name): _one(result[name], dim) for name in result.data_vars}
    if isinstance(result, xr.DataArray):
        return {str(result.attrs.get("site", result.name or "")): _one(result, dim)}
    if isinstance(result, Mapping) and result:
        return {name: next(iter(summaries(one, dim).values())) for name, one in result.items()}
    raise InputError(f"result: expected a result of a method, or several by name, got {type(result).__name__}")


def is_summary(table: "xarray.Dataset") -> bool:
    """Whether a Dataset is a summary of one site, and not several sites."""
    return set(_COLUMNS) <= set(table.data_vars)


def told_from_zero(table: "xarray.Dataset") -> Bool[np.ndarray, "..."]:
    """Which cells of a summary differ from 0 by more than the choice of prompts explains: by their adjusted p-value, or,
    if the prompts are too few for any adjusted p-value to be small, by their interval.
    """
    if float(table.attrs.get("p_holm_smallest", 1.0)) <= LEVEL:
        return np.asarray(table["p_holm"].values <= LEVEL)
    low, high = table["low"].values, table["high"].values
    return np.asarray((low > 0) | (high < 0))


def _one(result: "xarray.DataArray", dim: str) -> "xarray.Dataset":
    import xarray as xr

    if dim in result.dims:
        return summary(result, dim)
    unknown = xr.full_like(result, np.nan, dtype=np.float64)
    table = xr.Dataset({"mean": result.astype(np.float64), **dict.fromkeys(_COLUMNS[1:], unknown)})
    return table.assign(n=xr.zeros_like(unknown, dtype=np.int64)).assign_attrs(result.attrs)


@dataclass(frozen=True)
class _Options:
    level: float
    n_boot: int
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise InputError(f"level: expected a share between 0 and 1, such as 0.95, got {self.level}")
        if self.n_boot < 1:
            raise InputError(f"n_boot: expected at least 1 resample, got {self.n_boot}")


def _summary(result: "xarray.DataArray", dim: str, options: _Options) -> "xarray.Dataset":
    import xarray as xr

    if dim not in result.dims:
        have = ", ".join(map(str, result.dims)) or "none"
        raise InputError(f"dim: the result has no dimension {dim!r} (it has {have}); give one of them")
    last = result.transpose(..., dim)
    values = np.asarray(last.values, dtype=np.float64).reshape(-1, last.sizes[dim])
    tests = _tests(values)
    columns = _columns(values, tests, options)
    return xr.Dataset(
        {name: (last.dims[:-1], column.reshape(last.shape[:-1])) for name, column in columns.items()},
        coords=_coordinates(result, dim),
        attrs=dict(result.attrs) | _attributes(result, dim, int(tests.sum()), options),
    )


def _tests(values: Float[np.ndarray, "cell prompt"]) -> Bool[np.ndarray, " cell"]:
    """Cells with at least two prompts, and not 0 on all of them."""
    return (np.isfinite(values).sum(axis=1) > 1) & np.nan_to_num(values).any(axis=1)


def _columns(
    values: Float[np.ndarray, "cell prompt"], tests: Bool[np.ndarray, " cell"], options: _Options
) -> dict[str, Num[np.ndarray, " cell"]]:
    present = np.isfinite(values)
    n = present.sum(axis=1)
    mean = np.where(n > 0, np.where(present, values, 0).sum(axis=1) / np.maximum(n, 1), np.nan)
    low, high = (np.where(n > 1, 0.0, np.nan) for _ in range(2))
    p = np.where(n > 1, 1.0, np.nan)
    draws = draws_for(int(tests.sum()))
    for prompts, cells in _alike(present, tests):
        part = values[np.ix_(cells, prompts)]
        low[cells], high[cells] = bootstrap_interval(part, options.level, options.n_boot, options.seed)
        p[cells] = sign_flip_p(part, draws, options.seed)
    p_holm = np.where(tests, holm(np.where(tests, p, np.nan)), p)
    return {"mean": mean, "low": low, "high": high, "p": p, "p_holm": p_holm, "n": n}


def _alike(
    present: Bool[np.ndarray, "cell prompt"], tests: Bool[np.ndarray, " cell"]
) -> list[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]:
    """The tests, sorted by the set of prompts that they have values for: (prompts, cells) of each set."""
    kinds, kind_of = np.unique(present[tests], axis=0, return_inverse=True)
    cells = np.flatnonzero(tests)
    return [(np.flatnonzero(kind), cells[kind_of.ravel() == place]) for place, kind in enumerate(kinds)]


def _coordinates(result: "xarray.DataArray", dim: str) -> "xarray.Dataset":
    """The coordinates that do not depend on `dim`, and the first prompt's tokens."""
    first = result.isel({dim: 0}, drop=True).coords.to_dataset()
    lost = [name for name, coord in result.coords.items() if dim in coord.dims and name not in _TOKENS]
    return first.drop_vars(lost, errors="ignore")


def _attributes(result: "xarray.DataArray", dim: str, n_tests: int, options: _Options) -> dict[str, str | int | float]:
    n = result.sizes[dim]
    what: dict[str, str | int | float] = {
        "n_prompts": n,
        "tokens": _whose_tokens(result, dim),
        "n_tests": n_tests,
        "interval": "none: one prompt",
        "test": "none: one prompt",
    }
    if n > 1:
        draws = draws_for(n_tests)
        what["interval"] = f"percentile bootstrap over {n} prompts, {options.n_boot} resamples, seed {options.seed}"
        signs = "all patterns" if n <= EXACT_UP_TO else f"up to {draws} drawn patterns, seed {options.seed}"
        what["test"] = f"two-sided sign flips of the mean, {signs}; p_holm over {n_tests} cells"
        what["level"] = options.level
        what["p_holm_smallest"] = min(1.0, smallest_p(n, draws) * max(n_tests, 1))
    return what


def _whose_tokens(result: "xarray.DataArray", dim: str) -> str:
    """Whose tokens the summary names: those of every prompt, where they are alike, or of the first."""
    named = [result[name] for name in _TOKENS if name in result.coords and dim in result[name].dims]
    if not named:
        return "none"
    alike = all(bool((tokens == tokens.isel({dim: 0})).all()) for tokens in named)
    return "every prompt" if alike else f"prompt 1 of {result.sizes[dim]}"
