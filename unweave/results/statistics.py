"""Intervals and tests over prompts: skewness-corrected t intervals, sign flips, Holm's adjustment.

All take `[cell, prompt]`: the values of many independent questions (cells) on the same prompts. Values of one cluster
are not independent of each other: they enter as their sum, and clusters are what is counted.

1. Interval: a t interval over clusters, whose ends are moved for the skewness of the values by Hall's transformation
   (1992, "On the removal of skewness by transformation", J. R. Statist. Soc. B 54). It differs from Hall's by what
   simulations showed: the skewness of n values is taken 1 + 12 / n times, and at most twice, as that of a small sample
   is too small; the end that moves in does so half as far (on a logarithmic scale), as the skewness is uncertain; the
   end that moves out goes at most 2.25 times as far as that of t, as the transformation is erratic beyond, and below 8
   values at most (n + 1) / 4 times, as these say little of their skewness: from 4 lognormal values it holds the mean in
   85 % of cases only. Clusters of unequal size count as (sum of sizes)^2 / sum of sizes^2 clusters (Carter, Schnepel
   and Steigerwald 2017).
2. Ratio of two means over the same prompts: the interval goes further by as much as Fieller's (1954) goes further than
   the t interval of `above - ratio * below`. An end is infinite if the t interval of the denominator holds 0.
3. Share, the mean of values that are 0 or 1: Wilson's interval (1927), for as many independent prompts as would have
   the standard error of the clusters (Korn and Graubard 1998).
4. Sign flips (Fisher's randomisation test of a mean of 0): if an effect has no preferred sign, each cluster's sum could
   as well have been its negative. All patterns of signs are counted up to 16 clusters. Above, patterns are drawn,
   and the observed one counts as drawn, p = (b + 1) / (m + 1), so that p is never 0 (Phipson and Smyth 2010). A cell
   whose p is clearly large is drawn no further (Besag and Clifford 1991).
5. Holm (1979): p-values adjusted such that the chance of any false finding in the table stays below the level, whatever
   the dependence between cells.

How often a 95 % interval holds the true mean, or ratio, of 8 to 64 prompts or clusters, in % (`python -m
benchmarks.coverage`, which draws normal and lognormal values):

                                      normal      lognormal
    1. and 2.                        95 to 96     92 to 95
    t interval                       94 to 96     83 to 91
    studentized bootstrap            93 to 95     87 to 93
    percentile bootstrap             88 to 95     77 to 91

Nothing is drawn for an interval. The same seed gives the same p-values, and a cell's numbers do not depend on which
other cells are asked about, except that a larger table draws more sign patterns.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri, stdtrit

EXACT_UP_TO = 16
MOST_DRAWS = 200_000
_BLOCK = 10_000
_ENOUGH = 50
_AT_ONCE = 4_000_000
# Values that differ by less than this share of their mean are alike: float32 has no more digits.
_ALIKE = 1e-6

SKEWED, WILSON = "t interval corrected for skewness", "Wilson's interval"
Clusters = Int[np.ndarray, " prompt"] | None
Ends = tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " cell"]]


def mean_interval(
    values: Float[np.ndarray, "cell prompt"],
    level: float,
    clusters: Clusters = None,
    scale: Float[np.ndarray, "#cell prompt"] | None = None,
) -> Ends:
    """Lower and upper end of the interval of each cell's mean over the prompts that it has, in the unit of the values.

    Args:
        values: NaN where a cell lacks a prompt.
        level: how often the interval is to hold the mean over all prompts of the kind, such as 0.95.
        clusters: a number for each prompt, the same for prompts that are not independent; None if all are.
        scale: what the values are shares of, over its own mean: the mean is a ratio of two means over the same prompts.
            Known, and 1, for a cell that lacks a prompt; for every cell if None.

    Returns:
        NaN for a cell without two clusters, and for values that are all alike, which do not say how far others may lie;
        0 and 0 for a cell that is 0 on every prompt.
    """
    low, high = np.empty(len(values)), np.empty(len(values))
    for part in _parts(len(values), 8 * values.shape[1]):
        below = np.ones((1, 1)) if scale is None else scale if len(scale) == 1 else scale[part]
        low[part], high[part] = _interval(values[part], level, clusters, below)
    return low, high


def ratio_interval(
    above: Float[np.ndarray, "cell prompt"],
    below: Float[np.ndarray, " prompt"],
    level: float,
    clusters: Clusters = None,
) -> Ends:
    """As `mean_interval`, of each cell's mean over the mean of `below`; NaN if that is 0."""
    mean = below.mean() or np.nan
    return mean_interval(above / mean, level, clusters, below[None] / mean)


def share_interval(values: Float[np.ndarray, "cell prompt"], level: float, clusters: Clusters = None) -> Ends:
    """As `mean_interval`, of values that are 0 or 1. Also if all are alike, then as if each cluster were one prompt."""
    error, mean, n = _standard_error(values, np.ones((1, 1)), clusters)[:3]
    present = np.isfinite(values).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        like = np.where(error > 0, mean * (1 - mean) / error**2, n) if clusters is not None else present
        weight = ndtri((1 + level) / 2) ** 2 / np.minimum(like, present)
        centre = (mean + weight / 2) / (1 + weight)
        reach = np.sqrt(weight * (mean * (1 - mean) + weight / 4)) / (1 + weight)
    ends = np.clip(centre - reach, 0, 1), np.clip(centre + reach, 0, 1)
    low, high = (np.where(n > 1, end, np.nan) for end in ends)
    return low, high


def sample_attrs(interval: str, n: int, clusters: Clusters) -> dict[str, str | int]:
    """What a result says of its intervals: which they are, over how many prompts and clusters, and what is assumed."""
    unit = "prompt" if clusters is None else "cluster"
    n_clusters = n if clusters is None else len(np.unique(clusters))
    if n_clusters < 2:
        return {"n_clusters": n_clusters, "interval": f"none: one {'prompt' if n == 1 else unit}"}
    over = f"{n} prompts" + ("" if clusters is None else f" in {n_clusters} clusters")
    return {"n_clusters": n_clusters, "interval": f"{interval}, over {over}; {unit}s are independent"}


def cluster_sums(values: Float[np.ndarray, "cell #prompt"], clusters: Clusters) -> Float[np.ndarray, "cell cluster"]:
    """The sum of each cluster's values; the values themselves if each prompt is independent."""
    if clusters is None:
        return values
    order = np.argsort(clusters, kind="stable")
    first = np.unique(np.asarray(clusters)[order], return_index=True)[1]
    return np.add.reduceat(np.broadcast_to(values, (len(values), len(order)))[:, order], first, axis=1)


def _interval(
    values: Float[np.ndarray, "cell prompt"],
    level: float,
    clusters: Clusters,
    scale: Float[np.ndarray, "#cell #prompt"],
) -> Ends:
    error, mean, n, rest, wobble = _standard_error(values, scale, clusters)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = rest / np.sqrt((rest**2).sum(axis=1) / n)[:, None]
        t = stdtrit(n - 1, (1 + level) / 2)
        skewness, common = (rest**3).sum(axis=1) / n, t * (rest * wobble).sum(axis=1) / n
        certain = 1 - t**2 * (wobble**2).sum(axis=1) / n
        low, high = (
            mean + side * error * _reach(t, side * skewness, n) * _further(side * common, certain) for side in (-1, 1)
        )
        exact = error <= _ALIKE * np.abs(mean)
    alike = exact & (np.abs(wobble).max(axis=1, initial=0) <= _ALIKE)
    known = (n > 1) & (~alike | (mean == 0))
    low, high = (np.where(known, np.where(exact, mean, end), np.nan) for end in (low, high))
    return low, high


def _standard_error(
    values: Float[np.ndarray, "cell prompt"], scale: Float[np.ndarray, "#cell #prompt"], clusters: Clusters
) -> tuple[np.ndarray, ...]:
    """Of each cell: the standard error of its mean, the mean, and as how many clusters of equal size its own count.

    Then `[cell, cluster]`: the sums of what the scale does not explain of the values, and the sums of what the scale is
    beyond its mean, such that their squares have as mean the squared standard error of the scale.
    """
    present = np.isfinite(values)
    scale = np.where(present.all(axis=1, keepdims=True), scale, 1.0)
    total = present.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = total**2 / (cluster_sums(present * 1.0, clusters) ** 2).sum(axis=1)
        mean = np.where(present, values, 0.0).sum(axis=1) / total
        rest = cluster_sums(np.where(present, values - mean[:, None] * scale, 0.0), clusters)
        wobble = cluster_sums(np.where(present, scale - 1, 0.0), clusters) * (n / total / np.sqrt(n - 1))[:, None]
        error = np.sqrt((rest**2).sum(axis=1) * n / (n - 1)) / total
    return error, mean, n, rest, wobble


def _reach(
    t: Float[np.ndarray, " cell"], skewness: Float[np.ndarray, " cell"], n: Float[np.ndarray, " cell"]
) -> Float[np.ndarray, " cell"]:
    """How many standard errors an interval goes up from the mean of `n` values; down, if the skewness is turned."""
    most = (n - 2) / np.sqrt(n - 1)  # no n values are more skewed
    slant = np.minimum(2, 1 + 12 / n) * np.clip(skewness, -most, most) / np.sqrt(n)
    hall = np.where(np.abs(slant) > 1e-6, 3 / slant * (1 - np.cbrt(1 - slant * (t + slant / 6))), t)
    furthest = np.clip((n + 1) / 4, 1, 2.25)
    return np.where(hall > t, np.minimum(hall, furthest * t), np.sqrt(hall * t))


def _further(common: Float[np.ndarray, " cell"], certain: Float[np.ndarray, " cell"]) -> Float[np.ndarray, " cell"]:
    """How much further Fieller's interval goes up than the one for a known scale.

    It goes to the largest x for which the mean of `values - (mean + x) scale` is within t standard errors of 0.
    """
    return np.where(certain > 0, 1 / (common + np.sqrt(common**2 + certain)), np.inf)


def sign_flip_p(values: Float[np.ndarray, "cell cluster"], draws: int, seed: int) -> Float[np.ndarray, " cell"]:
    """Two-sided p-value of each cell's mean against 0, from the sums of clusters (`cluster_sums`) without gaps.

    `draws` is used above `EXACT_UP_TO` clusters only.
    """
    n_cells, n_prompts = values.shape
    # Sums that are equal in exact arithmetic may differ in their last digits; they must count as reached.
    reached = np.abs(values.sum(axis=1)) - 1e-12 * np.abs(values).sum(axis=1)
    if n_prompts <= EXACT_UP_TO:
        signs = _all_signs(n_prompts)
        return _times_reached(values, reached, signs) / signs.shape[1]
    rng = np.random.default_rng((seed, 2))
    times, drawn = np.zeros(n_cells), np.zeros(n_cells)
    active = np.arange(n_cells)
    for first in range(0, draws, _BLOCK):
        block = min(_BLOCK, draws - first)
        signs = rng.integers(0, 2, size=(n_prompts, block)) * 2.0 - 1.0
        times[active] += _times_reached(values[active], reached[active], signs)
        drawn[active] += block
        active = active[times[active] < _ENOUGH]
        if not len(active):
            break
    return (times + 1) / (drawn + 1)


def draws_for(n_tests: int) -> int:
    """How many sign patterns to draw: enough for the smallest adjusted p of the table to reach 0.005, within bounds."""
    return min(MOST_DRAWS, max(_BLOCK, 200 * n_tests))


def smallest_p(n_clusters: int, draws: int) -> float:
    """The smallest p-value that the sign-flip test can give."""
    return 2.0 ** (1 - n_clusters) if n_clusters <= EXACT_UP_TO else 1 / (draws + 1)


def holm(p: Float[np.ndarray, " cell"]) -> Float[np.ndarray, " cell"]:
    """P-values adjusted over the table; NaN stays NaN and is not counted.

    >>> holm(np.array([0.01, 0.04, 0.03, np.nan])).tolist()
    [0.03, 0.06, 0.06, nan]
    """
    adjusted = np.full(p.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _all_signs(n_prompts: int) -> Float[np.ndarray, "prompt pattern"]:
    # The first sign stays: a pattern and its negative reach the same distance from 0.
    bits = np.arange(2 ** (n_prompts - 1)) >> np.arange(n_prompts)[::-1, None] & 1
    return 1.0 - 2.0 * bits


def _times_reached(
    values: Float[np.ndarray, "cell prompt"],
    reached: Float[np.ndarray, " cell"],
    signs: Float[np.ndarray, "prompt pattern"],
) -> Float[np.ndarray, " cell"]:
    times = np.zeros(len(values))
    for part in _parts(len(values), signs.shape[1]):
        times[part] = (np.abs(values[part] @ signs) >= reached[part, None]).sum(axis=1)
    return times


def _parts(n_cells: int, width: int) -> list[slice]:
    """Slices of the cells such that a `[cell, width]` table stays small."""
    step = max(1, _AT_ONCE // width)
    return [slice(first, first + step) for first in range(0, n_cells, step)]
