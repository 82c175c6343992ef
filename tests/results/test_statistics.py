"""The statistics against slow, obvious versions, and against what they promise of pure noise."""

import itertools

import numpy as np
import pytest

from unweave.results import statistics
from unweave.results.statistics import (
    bootstrap_interval,
    bootstrap_ratio_interval,
    draws_for,
    holm,
    sign_flip_p,
    smallest_p,
)


def by_hand(values: np.ndarray) -> float:
    """Every pattern of signs, one by one."""
    sums = [abs(np.dot(signs, values)) for signs in itertools.product((1, -1), repeat=len(values))]
    return float(np.mean([total >= abs(values.sum()) - 1e-9 for total in sums]))


@pytest.mark.parametrize("n_prompts", [2, 3, 8, 12])
def test_few_prompts_are_enumerated(n_prompts: int) -> None:
    values = np.random.default_rng(n_prompts).normal(0.4, 1, size=(5, n_prompts))
    expected = [by_hand(row) for row in values]
    np.testing.assert_allclose(sign_flip_p(values, 0, 0), expected, atol=1e-12)


def test_equal_sums_count_as_reached() -> None:
    # 0.1 + 0.2 - 0.3 is not 0 in floating point; the observed sum is reached by half of the patterns here.
    assert sign_flip_p(np.array([[0.1, 0.2, 0.3, 0.0]]), 0, 0)[0] == by_hand(np.array([0.1, 0.2, 0.3, 0.0]))
    assert sign_flip_p(np.zeros((1, 4)), 0, 0)[0] == 1.0


def test_all_of_one_sign_gives_the_smallest_p() -> None:
    assert sign_flip_p(np.ones((1, 8)), 0, 0)[0] == smallest_p(8, 0) == 2 / 2**8
    assert sign_flip_p(np.ones((1, 16)), 0, 0)[0] == smallest_p(16, 0) == 2 / 2**16
    assert sign_flip_p(np.full((1, 40), -1.0), 20_000, 0)[0] == smallest_p(40, 20_000) == 1 / 20_001


def test_drawn_patterns_agree_with_all_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(0.3, 1, size=(20, 12))
    exact = sign_flip_p(values, 0, 0)
    monkeypatch.setattr(statistics, "EXACT_UP_TO", 0)
    # Six standard errors of 10,000 draws; a one-sided test or a wrong sum would be off by far more.
    assert (np.abs(sign_flip_p(values, 10_000, 0) - exact) < 6 * np.sqrt(exact * (1 - exact) / 10_000) + 1e-3).all()


def test_noise_gives_evenly_spread_p_values() -> None:
    values = np.random.default_rng(5).normal(size=(2000, 20))
    p = sign_flip_p(values, 10_000, 1)
    for level in (0.05, 0.3, 0.8):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.035)


def test_a_cell_does_not_depend_on_its_neighbours() -> None:
    values = np.random.default_rng(6).normal(0.2, 1, size=(7, 20))
    np.testing.assert_array_equal(sign_flip_p(values, 30_000, 4)[2:3], sign_flip_p(values[2:3], 30_000, 4))


def test_the_interval_is_that_of_resampled_means() -> None:
    values = np.random.default_rng(8).normal(1, 2, size=(1, 30))
    low, high = bootstrap_interval(values, 0.9, 20_000, 0)
    rng = np.random.default_rng(99)
    means = values[0][rng.integers(0, 30, size=(20_000, 30))].mean(axis=1)
    np.testing.assert_allclose([low[0], high[0]], np.quantile(means, [0.05, 0.95]), atol=0.03)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    values = np.random.default_rng(9).normal(0.7, 1, size=(3000, 50))
    low, high = bootstrap_interval(values, 0.9, 1000, 0)
    assert np.mean((low <= 0.7) & (high >= 0.7)) == pytest.approx(0.9, abs=0.025)


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(10).normal(size=(11, 9))
    whole = *bootstrap_interval(values, 0.95, 100, 0), sign_flip_p(values, 0, 0)
    monkeypatch.setattr(statistics, "_AT_ONCE", 300)
    parts = *bootstrap_interval(values, 0.95, 100, 0), sign_flip_p(values, 0, 0)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_holm_by_hand() -> None:
    p = np.array([0.04, 0.01, np.nan, 0.03, 0.5])
    # Sorted .01 .03 .04 .5 times 4 3 2 1 is .04 .09 .08 .5; the third may not fall below the second.
    np.testing.assert_allclose(holm(p), [0.09, 0.04, np.nan, 0.09, 0.5])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])
    assert holm(np.array([])).shape == (0,)


def test_draws_grow_with_the_table_within_bounds() -> None:
    assert draws_for(1) == 10_000
    assert smallest_p(50, draws_for(270)) * 270 < 0.006
    assert draws_for(10**6) == 200_000


def test_draws_whose_ratio_has_no_denominator_are_left_out() -> None:
    right = np.array([1.0, 0.0, 0.0, 0.0])  # a third of the draws hold none that is right
    low, high = bootstrap_ratio_interval(np.stack([right / 2, 1 - right]), right, 0.95, 2000, 0)
    assert (low[0], high[0]) == (0.5, 0.5)
    assert (low[1], high[1]) == pytest.approx((1 / 3, 3))
