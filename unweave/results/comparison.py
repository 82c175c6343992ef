"""Two results laid side by side: how alike they are, how well one finds what the other knows, how stable a choice is.

Cells are the edges, heads or places of results; what counts is the size of each cell's mean over prompts.

    compare     correlation, the largest cells in common, and the worst misses: of a gradient and what it approximates
    agreement   precision, recall, Jaccard index and ROC area of a choice of cells against a known one
    stability   how often each cell is among the n largest, over bootstrap samples of the prompts, and the mean Jaccard
                index of two samples
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from unweave.errors import InputError
from unweave.registry import BY_EDGES, Method, register
from unweave.results.labels import cell_label, number

STABILITY = register(
    Method(
        "stability",
        BY_EDGES,
        quantity="share of samples",
        unit="share",
        picture="unweave.views.comparison_tables:stability_blocks",
        dims=("...",),
        asked=lambda says, dims: f"the {says['n']} largest; mean Jaccard index of two samples {says['jaccard'][:5]}",
    )
)


@dataclass(frozen=True)
class Comparison:
    """How alike two results are, cell by cell.

    Args:
        n_cells: that both have.
        correlation: of the means (Pearson); `rank_correlation` of their sizes (Spearman).
        n, in_common: how many of the `n` largest of the second are among the `n` largest of the first.
        misses: the cells that differ most: name, mean in the first, mean in the second.
    """

    n_cells: int
    correlation: float
    rank_correlation: float
    n: int
    in_common: int
    misses: tuple[tuple[str, float, float], ...]

    def __repr__(self) -> str:
        lines = [
            f"{self.n_cells} cells: correlation {self.correlation:.2f}, of ranks by size {self.rank_correlation:.2f}; "
            f"{self.in_common} of the {self.n} largest in common; the cells that differ most:"
        ]
        width = max((len(name) for name, _, _ in self.misses), default=0)
        lines += [f"{name:<{width}}  {number(one)} and {number(other)}" for name, one, other in self.misses]
        return "\n".join(lines)


@dataclass(frozen=True)
class Agreement:
    """How well the largest cells of a result match a known choice.

    Args:
        n: cells chosen; `n_known` are known, `n_both` are both.
        precision, recall: `n_both` over `n`, and over `n_known`.
        jaccard: `n_both` over the cells that are in either.
        roc_area: the chance that a known cell is larger than one that is not; NaN if all or none are known.
    """

    n: int
    n_known: int
    n_both: int
    precision: float
    recall: float
    jaccard: float
    roc_area: float


def compare(one: xr.DataArray, other: xr.DataArray, n: int = 50, n_misses: int = 5) -> Comparison:
    """Two results of the same kind of cells, such as `uw.attribution_patch` and `uw.patch`.

    Raises:
        InputError: results without three cells in common, or without a spread.
    """
    first, second = xr.align(_means(one), _means(other), join="inner")
    if set(first.dims) != set(second.dims):
        raise InputError(f"compare: the results have the dimensions {first.dims} and {second.dims}; give cells alike")
    second = second.transpose(*first.dims)
    a, b = first.values.ravel(), second.values.ravel()
    known = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    if len(known) < 3 or not a[known].std() or not b[known].std():
        raise InputError(f"compare: {len(known)} cells in common, or all alike; give results that overlap")
    a, b = a[known], b[known]
    n = min(n, len(known))
    common = len(set(_largest(a, n).tolist()) & set(_largest(b, n).tolist()))
    worst = np.argsort(-np.abs(a - b), kind="stable")[:n_misses]
    misses = tuple((cell_name(first, int(known[cell])), float(a[cell]), float(b[cell])) for cell in worst)
    ranks = np.corrcoef(_ranks(np.abs(a)), _ranks(np.abs(b)))[0, 1]
    return Comparison(len(known), float(np.corrcoef(a, b)[0, 1]), float(ranks), n, common, misses)


def agreement(result: xr.DataArray, known: Collection[str], n: int | None = None) -> Agreement:
    """The `n` largest cells (as many as are known, if left out) against known ones, by their names: `23.3 -> logits`.

    Raises:
        InputError: a name that no cell of the result has, or `n` out of range.
    """
    means = _means(result)
    sizes = np.nan_to_num(np.abs(means.values.ravel()))
    names = [cell_name(means, cell) for cell in range(len(sizes))]
    places = {name: place for place, name in enumerate(names)}
    missing = next((name for name in known if name not in places), None)
    if missing is not None or not known:
        raise InputError(f"known: the result has no cell {missing!r}; its cells are called {', '.join(names[:3])}, …")
    truth = np.zeros(len(sizes), dtype=bool)
    truth[[places[name] for name in known]] = True
    n = int(truth.sum()) if n is None else n
    if not 1 <= n <= len(sizes):
        raise InputError(f"n: expected 1 to {len(sizes)} cells, got {n}")
    chosen = np.zeros(len(sizes), dtype=bool)
    chosen[_largest(sizes, n)] = True
    both, either = int((chosen & truth).sum()), int((chosen | truth).sum())
    return Agreement(n, int(truth.sum()), both, both / n, both / int(truth.sum()), both / either, _roc(sizes, truth))


def stability(result: xr.DataArray, n: int = 50, draws: int = 200, seed: int = 0) -> xr.DataArray:
    """How often each cell is among the `n` largest, over bootstrap samples of the prompts (or of their clusters).

    Returns:
        Shares, with the dimensions of the result but `prompt`; the attribute `jaccard` is the mean Jaccard index of two
        samples' choices. The literature asks for 0.8.

    Raises:
        InputError: a result without two prompts (or clusters), `n` out of range, or fewer than 2 draws.
    """
    if "prompt" not in result.dims:
        raise InputError("result: its prompts were averaged; give the result itself, with its dimension 'prompt'")
    last = result.transpose("prompt", ...)
    values = np.nan_to_num(last.values.reshape(last.sizes["prompt"], -1).astype(np.float64))
    clusters = result["cluster"].values if "cluster" in result.coords else np.arange(len(values))
    groups = [np.flatnonzero(clusters == cluster) for cluster in np.unique(clusters)]
    if len(groups) < 2 or draws < 2 or not 1 <= n <= values.shape[1]:
        raise InputError(
            f"stability: expected two prompts or clusters (got {len(groups)}), two draws (got {draws}), and n from 1 "
            f"to {values.shape[1]} (got {n})"
        )
    generator = np.random.default_rng(seed)
    members = np.zeros((draws, values.shape[1]), dtype=np.float32)
    for draw in range(draws):
        rows = np.concatenate([groups[group] for group in generator.integers(len(groups), size=len(groups))])
        members[draw, _largest(np.abs(values[rows].mean(0)), n)] = 1
    shared = (members @ members.T)[np.triu_indices(draws, 1)]
    shares = xr.zeros_like(last.isel(prompt=0, drop=True)).copy(data=members.mean(0).reshape(last.shape[1:]))
    attrs = {"jaccard": float((shared / (2 * n - shared)).mean()), "n": n, "draws": draws, "draw_seed": seed}
    known = ("model", "task", "corruption", "metric", "n_prompts")
    about = {name: result.attrs[name] for name in known if name in result.attrs}
    return shares.drop_attrs().assign_attrs({**about, **STABILITY.attrs(**attrs, unit="share")})


def _means(result: xr.DataArray) -> xr.DataArray:
    if not isinstance(result, xr.DataArray):
        raise InputError(f"result: expected a DataArray of a method, got {type(result).__name__}")
    means: Any = result.mean("prompt", skipna=False) if "prompt" in result.dims else result
    return means.reset_coords([name for name in means.coords if name not in means.dims], drop=True)


def cell_name(means: xr.DataArray, cell: int) -> str:
    """What a cell is called, by its place among all cells."""
    index = np.unravel_index(cell, means.shape)
    return cell_label({str(dim): means[dim].values[at].item() for dim, at in zip(means.dims, index, strict=True)})


def _largest(values: Float[np.ndarray, " cell"], n: int) -> np.ndarray:
    return np.argsort(-np.abs(values), kind="stable")[:n]


def _ranks(values: Float[np.ndarray, " cell"]) -> np.ndarray:
    """Mean ranks: equal values share theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    return ((ends - counts + ends - 1) / 2)[inverse]


def _roc(sizes: Float[np.ndarray, " cell"], truth: Bool[np.ndarray, " cell"]) -> float:
    """The area under the ROC curve, from the rank sum of the known cells."""
    known, others = int(truth.sum()), int((~truth).sum())
    if not others:
        return float("nan")
    return float((_ranks(sizes)[truth].sum() - known * (known - 1) / 2) / (known * others))
