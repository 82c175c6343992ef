"""Every figure of the palindrome classifier's reference file, through unweave's public calls.

float64: to the ten digits that the file has. float32: to 1e-5. The published notebook's own values: to the digits that
it shows. Figures that are sizes of rounding errors are small here too, and random ablations lie within their spread. A
figure that is in the file and in none of these lists fails a test.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.methods.palindrome_figures import FIGURES, MANY, Subject, losses_and_hits
from unweave.methods.weights.composition import composition_baseline

LOSSES = ("ds100", "ds500", MANY)
SCORED = [f"{name}.{what}" for name in LOSSES for what in ("loss", "accuracy")]
SCORED += [f"{name}.accuracy_{kind}" for name in LOSSES for kind in ("palindromes", "nonpalindromes")]
# Sizes of rounding errors: what they say is that they are small.
ERRORS = {
    "W_U_colsum_max": lambda s: float(s.model.weights.w_u.sum(0).abs().max()),
    "fold_max_logprob_diff": Subject.fold_error,
    "decomposition_max_err": Subject.decomposition_error,
    "dla_with_ln_total_check": Subject.attribution_error,
}
RANDOM = ("cell36.random_draw0", "cell36.random_mean20", "cell36.random_std20")
INPUTS = ("cell22.tokens",)
# Shares that the file has in float32.
SHARES = ("QK_pos_lambda_fraction_rows11_20", "single_mismatch_missed_fraction_pos11_20")
# Shown with three decimals in the notebook.
ROUNDED = ("cell6.prob_palindrome", "cell33.prob_palindrome")
# The notebook splits these by class, one row for each class and component.
SPLIT = ("cell17.dla", "cell27.h00_through_h10_OV")
# Other draws than the reference's.
REDRAWN = ("cell36.random_mean20", "comp_baseline_mean_300_seed0", "comp_baseline_std_300_seed0")
DTYPES = [torch.float64, torch.float32]
# In float32: of 2,000 sequences at each of ten places, in the dtype of the file's; and one of each kind.
SINGLE = (SHARES[1], "cell24.mean_q_h1.0_ds100", "cell9.QK_embed", "cell32.V_comp", "cell7.pattern_h00_ex1_2_3")
CASES = [(name, torch.float32 if name == SHARES[1] else torch.float64) for name in FIGURES]
CASES += [(name, torch.float32) for name in SINGLE[1:]]


@cache
def subject(folder: Path, dtype: torch.dtype) -> Subject:
    return Subject(folder, dtype)


@cache
def made(folder: Path, dtype: torch.dtype, name: str) -> np.ndarray:
    """A figure as numbers."""
    value = FIGURES[name](subject(folder, dtype))
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, dtype=np.float64)


def file(folder: Path) -> dict[str, Any]:
    return subject(folder, torch.float64).file


def test_no_figure_is_left_out(shared_data: Path) -> None:
    checked = {*FIGURES, *SCORED, *ERRORS, *RANDOM, *INPUTS}
    assert checked == set(file(shared_data)["reference"])
    assert set(file(shared_data)["notebook"]) <= checked


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
def test_figure(shared_data: Path, name: str, dtype: torch.dtype) -> None:
    expected = np.asarray(file(shared_data)["reference"][name], dtype=np.float64)
    # Ten digits: half a unit of the last is up to 5e-10 of the number.
    rtol, atol = (6e-10, 1e-12) if dtype == torch.float64 else (1e-5, 1e-5)
    rtol = max(rtol, 1e-7) if name in SHARES else rtol
    np.testing.assert_allclose(made(shared_data, dtype, name), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("name", "dtype"), [*((name, torch.float64) for name in LOSSES), ("ds500", torch.float32)])
def test_loss_and_accuracy(shared_data: Path, name: str, dtype: torch.dtype) -> None:
    figures, ours = file(shared_data)["reference"], subject(shared_data, dtype)
    right, answers = losses_and_hits(ours, name)[1], ours.prompts(name).answers
    assert answers is not None
    labels = answers.numpy()
    found = {"loss": ours.loss(name), "accuracy": right.mean(dtype=float)}
    found["accuracy_palindromes"] = right[labels == 1].mean(dtype=float)
    found["accuracy_nonpalindromes"] = right[labels == 0].mean(dtype=float)
    for what, value in found.items():
        atol = 1e-5 if dtype == torch.float32 else 1e-11
        assert value == pytest.approx(figures[f"{name}.{what}"], rel=6e-10, abs=atol)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ERRORS)
def test_rounding_errors_are_small(shared_data: Path, name: str, dtype: torch.dtype) -> None:
    largest = 1e-12 if dtype == torch.float64 else 2e-5
    assert file(shared_data)["reference"][name] < largest
    assert ERRORS[name](subject(shared_data, dtype)) < largest


def test_random_ablations_lie_within_their_spread(shared_data: Path) -> None:
    """Means of 5 and of 20 draws, and one draw, of one distribution; the spread of 5 is roughly that of 20."""
    figures = file(shared_data)["reference"] | {"notebook": file(shared_data)["notebook"]["cell36.random_mean20"]}
    ours = subject(shared_data, torch.float64).random_tables()
    spread = np.array(figures["cell36.random_std20"])
    of_means = spread * (1 / 5 + 1 / 20) ** 0.5
    assert (np.abs(ours.mean(0) - figures["cell36.random_mean20"]) < 4 * of_means).all()
    assert (np.abs(ours.mean(0) - figures["notebook"]) < 4 * of_means).all()
    assert (np.abs(ours.mean(0) - figures["cell36.random_draw0"]) < 4 * spread * (1 / 5 + 1) ** 0.5).all()
    assert (ours.std(0, ddof=1) < 3 * spread).all()
    assert (ours.std(0, ddof=1) > spread / 5).all()


def test_the_notebooks_baseline_is_another_draw(shared_data: Path) -> None:
    shown, ours = file(shared_data)["notebook"], composition_baseline(28, 14)
    assert abs(shown["comp_baseline_mean_300_seed0"] - ours.mean) < 4 * ours.std * (2 / 300) ** 0.5
    assert shown["comp_baseline_std_300_seed0"] == pytest.approx(ours.std, rel=0.15)


def test_what_the_notebook_prints(shared_data: Path) -> None:
    shown = {name: v for name, v in file(shared_data)["notebook"].items() if name not in (*REDRAWN, *SPLIT)}
    assert len(shown) == 26
    for name, printed in shown.items():
        ours = made(shared_data, torch.float64, name) if name in FIGURES else loss_of(shared_data, name)
        tolerance = (0, 5.1e-4) if name in ROUNDED else (1e-5, 1e-5)
        np.testing.assert_allclose(ours, printed, *tolerance, err_msg=name)


@pytest.mark.parametrize("name", SPLIT)
def test_what_the_notebook_prints_by_class(shared_data: Path, name: str) -> None:
    ours = np.atleast_2d(made(shared_data, torch.float64, name))
    labels = np.array(file(shared_data)["inputs"]["ds100.is_palindrome"])
    by_class = [row[labels == label] for row in ours for label in (0, 1)]
    np.testing.assert_allclose(by_class, file(shared_data)["notebook"][name], rtol=1e-5, atol=1e-5)


def loss_of(folder: Path, name: str) -> float:
    return subject(folder, torch.float64).loss(name.removesuffix(".loss"))
