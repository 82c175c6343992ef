"""The statistics against slow, obvious versions, and against what they promise of pure noise."""

import itertools

import numpy as np
import pytest

from unweave.results import statistics
from unweave.results.statistics import (
    cluster_sums,
    draws_for,
    holm,
    mean_interval,
    ratio_interval,
    share_interval,
    sign_flip_p,
    smallest_p,
)

T7 = 2.364624  # 97.5 % quantile of t with 7 degrees of freedom
PAIRS = np.repeat(np.arange(8), 2)


def by_hand(values: np.ndarray) -> float:
    """Every pattern of signs, one by one."""
    sums = [abs(np.dot(signs, values)) for signs in itertools.product((1, -1), repeat=len(values))]
    return float(np.mean([total >= abs(values.sum()) - 1e-9 for total in sums]))


def held(ends: tuple[np.ndarray, np.ndarray], truth: float) -> float:
    """How often the truth is in the interval."""
    return float(np.mean((ends[0] <= truth) & (ends[1] >= truth)))


def percentile_bootstrap(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = values.shape[1]
    weights = np.random.default_rng(1).multinomial(n, np.full(n, 1 / n), size=1000).T / n
    low, high = np.quantile(values @ weights, [0.025, 0.975], axis=1)
    return low, high


def in_pairs(rng: np.random.Generator, n_cells: int) -> np.ndarray:
    """Noise around 0 on 16 prompts, two by two alike but for a little."""
    return rng.normal(size=(n_cells, 8))[:, PAIRS] + 0.3 * rng.normal(size=(n_cells, 16))


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


def test_flips_of_whole_clusters_give_evenly_spread_p_values() -> None:
    values = in_pairs(np.random.default_rng(6), 2000)
    p = sign_flip_p(cluster_sums(values, PAIRS), 0, 0)
    for level in (0.05, 0.3, 0.8):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.035)
    assert np.mean(sign_flip_p(values, 0, 0) <= 0.05) > 0.1  # flipped one by one, as if they were independent


def test_a_cell_does_not_depend_on_its_neighbours() -> None:
    values = np.random.default_rng(6).normal(0.2, 1, size=(7, 20))
    np.testing.assert_array_equal(sign_flip_p(values, 30_000, 4)[2:3], sign_flip_p(values[2:3], 30_000, 4))


def test_the_interval_of_symmetric_values_is_that_of_t() -> None:
    values = np.array([[-3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0]]) + 5
    low, high = mean_interval(values, 0.95)
    reach = T7 * values.std(ddof=1) / np.sqrt(8)
    assert (low[0], high[0]) == pytest.approx((5 - reach, 5 + reach), rel=1e-5)


def test_the_interval_reaches_further_where_the_values_do() -> None:
    values = np.exp(np.random.default_rng(1).normal(size=(50, 12)))
    low, high = mean_interval(values, 0.95)
    mean = values.mean(axis=1)
    skewed = ((values - mean[:, None]) ** 3).sum(axis=1) > 0
    assert ((high - mean > mean - low) == skewed).all()
    np.testing.assert_allclose(mean_interval(7 - 2 * values, 0.95), (7 - 2 * high, 7 - 2 * low), rtol=1e-9)


@pytest.mark.parametrize("n", [8, 16, 24])
def test_intervals_hold_the_mean_as_often_as_they_say(n: int) -> None:
    normal = np.random.default_rng(n).normal(size=(4000, n))
    skewed = np.exp(normal)
    assert 0.93 < held(mean_interval(normal, 0.95), 0.0) < 0.97
    assert 0.87 < held(mean_interval(normal, 0.9), 0.0) < 0.93
    assert held(mean_interval(skewed, 0.95), np.exp(0.5)) > 0.9
    assert held(percentile_bootstrap(normal), 0.0) < 0.94
    assert held(percentile_bootstrap(skewed), np.exp(0.5)) < 0.89


@pytest.mark.parametrize("n", [8, 16])
def test_intervals_hold_a_ratio_as_often_as_they_say(n: int) -> None:
    rng = np.random.default_rng(n)
    below = rng.normal(2, 1, size=(4000, n))
    above = 0.8 * below + 0.2 * rng.normal(size=(4000, n))
    size = below.mean(axis=1, keepdims=True)
    assert 0.93 < held(mean_interval(above / size, 0.95, None, below / size), 0.8) < 0.97
    assert held(mean_interval(above / size, 0.95), 0.8) > 0.99  # a gap that is taken as known: not what varies here
    other = 0.8 * rng.normal(2, 1, size=(4000, n))
    assert 0.93 < held(mean_interval(other / size, 0.95, None, below / size), 0.8) < 0.97
    assert held(mean_interval(other / size, 0.95), 0.8) < 0.9  # the doubt about the gap left out


def test_intervals_of_clusters_hold_the_mean_as_often_as_they_say() -> None:
    values = in_pairs(np.random.default_rng(2), 4000)
    assert 0.93 < held(mean_interval(values, 0.95, PAIRS), 0.0) < 0.97
    assert held(mean_interval(values, 0.95), 0.0) < 0.9  # as if they were independent


def test_a_prompt_that_is_there_twice_tells_nothing_new() -> None:
    rng = np.random.default_rng(3)
    values, below = rng.normal(size=(5, 8)), rng.normal(3, 1, size=8)
    np.testing.assert_allclose(mean_interval(values[:, PAIRS], 0.95, PAIRS), mean_interval(values, 0.95))
    shuffled = np.random.default_rng(4).permutation(16)
    twice = ratio_interval(values[:, PAIRS[shuffled]], below[PAIRS[shuffled]], 0.95, 7 - PAIRS[shuffled])
    np.testing.assert_allclose(twice, ratio_interval(values, below, 0.95))


def test_a_ratio_is_inside_where_the_rest_does_not_differ_from_zero() -> None:
    rng = np.random.default_rng(8)
    below = np.tile(rng.normal(3, 1, size=4), 2)
    rest = np.tile(rng.normal(size=4), 2) * np.repeat([1, -1], 4)  # symmetric, so that the interval is Fieller's
    above = 0.4 * below + rest
    low, high = ratio_interval(above[None], below, 0.95)
    for end in (low[0], high[0]):
        left = above - end * below
        assert abs(left.mean()) / (left.std(ddof=1) / np.sqrt(8)) == pytest.approx(T7, rel=1e-5)


def test_a_ratio_to_what_may_be_zero_is_open() -> None:
    below = np.array([4.0, -3.0, 5.0, -2.0, 1.0, -3.0])
    low, high = ratio_interval(np.array([[1.0, 0.5, 0.2, 0.8, 1.1, 0.9]]), below, 0.95)
    assert (low[0], high[0]) == (-np.inf, np.inf)


def test_a_ratio_that_is_the_same_for_every_prompt_is_known() -> None:
    below = np.array([1.0, 2.0, 3.0, 4.0])
    assert np.ravel(ratio_interval(0.5 * below[None], below, 0.95)) == pytest.approx([0.5, 0.5])
    assert np.ravel(ratio_interval(-2 * below[None], -below, 0.95)) == pytest.approx([2.0, 2.0])


def test_values_that_are_all_alike_do_not_say_how_far_others_lie() -> None:
    low, high = mean_interval(np.array([[0.25] * 8, [0.0] * 8, [1e-20] * 8, [0.1 + 1e-9] * 4 + [0.1] * 4]), 0.95)
    np.testing.assert_array_equal(low, high)
    np.testing.assert_array_equal(np.isnan(low), [True, False, True, True])


@pytest.mark.parametrize("clusters", [None, np.array([0, 0, 1, 1, 2, 2, 3, 3, 4])])
def test_a_cell_without_some_prompts_is_one_of_the_others(clusters: np.ndarray | None) -> None:
    rng = np.random.default_rng(9)
    values, below = rng.normal(size=(3, 9)), rng.normal(3, 1, size=(1, 9))
    scale = below / below.mean()
    whole = mean_interval(values, 0.95, clusters, scale)
    values[0, 3:5] = np.nan
    values[1] = np.nan
    low, high = mean_interval(values, 0.95, clusters, scale)
    kept = np.isfinite(values[0])
    part = mean_interval(values[:1, kept], 0.95, None if clusters is None else clusters[kept])
    np.testing.assert_allclose((low[0], high[0]), np.ravel(part))
    assert np.isnan([low[1], high[1]]).all()
    np.testing.assert_allclose((low[2], high[2]), (whole[0][2], whole[1][2]))


@pytest.mark.parametrize(("n", "clusters"), [(1, None), (4, np.zeros(4, dtype=int))])
def test_one_prompt_and_one_cluster_have_no_interval(n: int, clusters: np.ndarray | None) -> None:
    assert np.isnan(mean_interval(np.arange(1.0, n + 1)[None], 0.95, clusters)).all()
    assert np.isnan(share_interval(np.ones((1, n)), 0.95, clusters)).all()


def test_shares_by_hand() -> None:
    # Wilson for 3 of 4, with z = 1.96: (0.75 + z^2/8 -+ z sqrt(0.75 * 0.25 / 4 + z^2/64)) / (1 + z^2/4)
    rows = np.array([[1.0, 1.0, 1.0, 0.0], [1.0] * 4, [0.0] * 4])
    low, high = share_interval(rows, 0.95)
    np.testing.assert_allclose(low, [0.300642, 0.510109, 0.0], atol=1e-5)
    np.testing.assert_allclose(high, [0.954413, 1.0, 0.489891], atol=1e-5)


def test_shares_of_clusters_that_are_of_one_mind_count_clusters() -> None:
    once = np.array([[1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0], [1.0] * 8])
    for ends in (share_interval(once[:, PAIRS], 0.95, PAIRS),):
        np.testing.assert_allclose(ends, share_interval(once, 0.95), atol=0.03)
    low, _ = share_interval(once[:, PAIRS], 0.95)
    assert (low > share_interval(once, 0.95)[0] + 0.08).all()


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(10).normal(size=(11, 9))
    scale = np.abs(values[::-1])
    whole = *mean_interval(values, 0.95, None, scale), sign_flip_p(values, 0, 0)
    monkeypatch.setattr(statistics, "_AT_ONCE", 300)
    parts = *mean_interval(values, 0.95, None, scale), sign_flip_p(values, 0, 0)
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
