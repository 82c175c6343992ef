"""Results side by side: against scipy, by hand, and choices that cannot but be stable."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

import unweave as uw
from unweave.results.labels import cell_label

RANDOM = np.random.default_rng(0)


def cells(values: np.ndarray, **coords: object) -> xr.DataArray:
    """Effects `[prompt, layer, head]`."""
    axes = {"layer": range(values.shape[1]), "head": range(values.shape[2])}
    return xr.DataArray(values, dims=("prompt", "layer", "head"), coords={**axes, **coords})


def test_compare_counts_what_two_results_share() -> None:
    one, noise = RANDOM.normal(size=(4, 5, 6)), RANDOM.normal(size=(4, 5, 6))
    a, b = cells(one), cells(one + 0.3 * noise)
    b[:, 2, 3] += 9.0
    found = uw.compare(a, b.transpose("prompt", "head", "layer"), n=10)
    means = [x.mean("prompt").values.ravel() for x in (a, b)]
    ranked: Any = spearmanr(abs(means[0]), abs(means[1]))
    assert found.n_cells == 30
    assert found.correlation == pytest.approx(np.corrcoef(means[0], means[1])[0, 1])
    assert found.rank_correlation == pytest.approx(ranked.statistic)
    largest = [set(np.argsort(-np.abs(x))[:10].tolist()) for x in means]
    assert found.in_common == len(largest[0] & largest[1])
    assert found.misses[0][0] == "2.3"
    assert found.misses[0][2] - found.misses[0][1] == pytest.approx(9, abs=1)


def test_compare_takes_the_cells_that_both_have() -> None:
    a = cells(RANDOM.normal(size=(4, 5, 6)))
    part = a.isel(layer=[1, 3]).copy()
    part[:, 0, 0] = np.nan
    found = uw.compare(a, part)
    assert (found.n_cells, found.in_common, found.correlation) == (11, 11, pytest.approx(1))
    with pytest.raises(uw.InputError, match="cells in common"):
        uw.compare(a.isel(layer=[0]), a.isel(layer=[1]))


def test_agreement_by_hand() -> None:
    result = cells(np.array([[[5.0, -4.0, 3.0, 1.0, 0.0]]]))
    found = uw.agreement(result, ["0.0", "0.2", "0.4"], n=2)
    assert (found.n_both, found.precision, found.recall, found.jaccard) == (1, 0.5, 1 / 3, 0.25)
    # Of six pairs of a known and another cell, 5 > 4, 5 > 1, 3 > 1.
    assert found.roc_area == pytest.approx(3 / 6)
    assert uw.agreement(result, ["0.0", "0.1"]).roc_area == 1.0
    with pytest.raises(uw.InputError, match=r"9\.9"):
        uw.agreement(result, ["9.9"])


def test_large_cells_are_stable_and_noise_is_not() -> None:
    values = RANDOM.normal(size=(40, 5, 6))
    values[:, 1, 2] += 10
    values[:, 3, 4] -= 10
    steady = uw.stability(cells(values), n=2)
    assert float(steady.sel(layer=1, head=2)) == float(steady.sel(layer=3, head=4)) == 1.0
    assert steady.attrs["jaccard"] == 1.0
    shaky = uw.stability(cells(values), n=10)
    assert 0.1 < shaky.attrs["jaccard"] < 0.9
    assert float(shaky.sum()) == pytest.approx(10, rel=1e-5)
    assert uw.stability(cells(values), n=10).identical(shaky)


def test_clusters_are_drawn_together() -> None:
    # Two prompts of a cluster cancel each other: no cell stands out, unless they are drawn apart.
    values = np.zeros((6, 1, 3))
    values[:, 0, 0] = [9, -9, 9, -9, 9, -9]
    values[:, 0, 1] = 1
    together = uw.stability(cells(values, cluster=("prompt", [0, 0, 1, 1, 2, 2])), n=1)
    assert float(together.sel(layer=0, head=1)) == 1.0
    assert float(uw.stability(cells(values), n=1).sel(layer=0, head=1)) < 0.9
    with pytest.raises(uw.InputError, match="clusters"):
        uw.stability(cells(values, cluster=("prompt", [0] * 6)), n=1)


def test_names_are_those_that_are_printed() -> None:
    assert cell_label({"edge": "23.3 -> logits"}) == "23.3 -> logits"
