"""The ablation tables of the palindrome classifier's notebook: loss gained without each head, query, key, value."""

from pathlib import Path

import numpy as np
import pytest

import unweave as uw
from tests.methods import palindromes

TOLERANCE = 1e-5


def lost(pair: uw.Contrast, site: str, how: str | uw.Replacement) -> np.ndarray:
    """Mean loss with each head knocked out, less the mean loss: `[layer, head]`."""
    source = "clean" if how == "mean" else None
    return uw.knockout(pair, site, how, measure="change", progress=False, source=source).mean("prompt").values


def test_the_loss_itself(shared_data: Path) -> None:
    figures = palindromes.reference(shared_data)["reference"]
    sizes = {"ds100.loss": ("ds100", 100), "ds500.loss": ("ds500", 500), "cell37.base_loss": ("ds500", 200)}
    for figure, (name, size) in sizes.items():
        loss = palindromes.pair(shared_data, name, size).clean
        np.testing.assert_allclose(float(loss.mean()), figures[figure], rtol=0, atol=1e-9)


@pytest.mark.parametrize("how", ["zero", "mean"])
@pytest.mark.parametrize("site", ["z", "result"])
def test_heads(shared_data: Path, how: str, site: str) -> None:
    found = palindromes.reference(shared_data)
    table = lost(palindromes.pair(shared_data, "ds500"), site, how)
    for figures in (found["reference"], found["notebook"]):
        np.testing.assert_allclose(table, figures[f"cell36.{how}"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("how", ["zero", "mean"])
@pytest.mark.parametrize(("row", "site"), list(enumerate("qkv")))
def test_queries_keys_and_values(shared_data: Path, how: str, row: int, site: str) -> None:
    found = palindromes.reference(shared_data)
    table = lost(palindromes.pair(shared_data, "ds500", 200), site, how)
    for figures in (found["reference"], found["notebook"]):
        np.testing.assert_allclose(table, figures[f"cell37.{how}"][row], rtol=0, atol=TOLERANCE)


def test_the_mean_query_of_one_head(shared_data: Path) -> None:
    figures, pair = palindromes.reference(shared_data)["reference"], palindromes.pair(shared_data, "ds100")
    np.testing.assert_allclose(lost(pair, "q", "mean")[1, 0], figures["cell24.mean_q_h1.0_ds100"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(lost(pair, "q", "zero")[1, 0], figures["cell24.zero_q_h1.0_ds100"], rtol=0, atol=1e-8)


def test_noise_in_the_residual_stream_lies_among_the_reference_draws(shared_data: Path) -> None:
    """The reference states mean and deviation of 20 draws; ours are other draws of the same distribution."""
    figures, pair = palindromes.reference(shared_data)["reference"], palindromes.pair(shared_data, "ds500")
    tables = [lost(pair, "result", uw.Replacement("gaussian", seed=seed)) for seed in range(5)]
    spread = np.array(figures["cell36.random_std20"])
    allowed = 4 * spread * (1 / 5 + 1 / 20) ** 0.5
    assert (np.abs(np.mean(tables, axis=0) - figures["cell36.random_mean20"]) < allowed).all()
    in_z = lost(pair, "z", uw.Replacement("gaussian"))
    assert (np.abs(in_z - figures["cell36.random_mean20"]) > allowed).any()
