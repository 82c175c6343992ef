"""Intervals and tests over prompts: percentile bootstrap, sign flips, Holm's adjustment.

All take `[cell, prompt]`: the values of many independent questions (cells) on the same prompts, without gaps.

1. Bootstrap (Efron and Tibshirani 1993, chapter 13): the prompts are drawn again with replacement; a draw is a row of
   weights, so that all means are one matrix product, and the interval lies between two quantiles of them.
2. Sign flips (Fisher's randomisation test of a mean of 0): where an effect has no preferred sign, each prompt's value
   could as well have been its negative. All patterns of signs are counted up to 16 prompts. Above, patterns are drawn,
   and the observed one counts as drawn, p = (b + 1) / (m + 1), so that p is never 0 (Phipson and Smyth 2010). A cell
   whose p is clearly large is drawn no further (Besag and Clifford 1991).
3. Holm (1979): p-values adjusted such that the chance of any false finding in the table stays below the level, whatever
   the dependence between cells.

The same seed gives the same numbers, and a cell's numbers do not depend on which other cells are asked about, except
that a larger table draws more sign patterns.
"""

import numpy as np
from jaxtyping import Float

EXACT_UP_TO = 16
MOST_DRAWS = 200_000
_BLOCK = 10_000
_ENOUGH = 50
_AT_ONCE = 4_000_000


def bootstrap_interval(
    values: Float[np.ndarray, "cell prompt"], level: float, n_boot: int, seed: int
) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """Lower and upper end of the percentile bootstrap interval of each cell's mean, in the unit of the values."""
    n_cells, n_prompts = values.shape
    weights = _resamples(n_prompts, n_boot, seed)
    low, high = np.zeros(n_cells), np.zeros(n_cells)
    for part in _parts(n_cells, n_boot):
        low[part], high[part] = np.quantile(values[part] @ weights, _ends(level), axis=1)
    return low, high


def bootstrap_ratio_interval(
    above: Float[np.ndarray, "cell prompt"],
    below: Float[np.ndarray, " prompt"],
    level: float,
    n_boot: int,
    seed: int,
) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """As `bootstrap_interval`, of each cell's mean over the mean of `below`, both over the same drawn prompts.

    Draws of prompts whose `below` is 0 on average have no ratio and are left out: few prompts, and a metric such as
    accuracy, that is 0 of many.
    """
    weights = _resamples(above.shape[1], n_boot, seed)
    weights = weights[:, below @ weights != 0]
    low, high = np.zeros(len(above)), np.zeros(len(above))
    for part in _parts(len(above), n_boot):
        low[part], high[part] = np.quantile((above[part] @ weights) / (below @ weights), _ends(level), axis=1)
    return low, high


def sign_flip_p(values: Float[np.ndarray, "cell prompt"], draws: int, seed: int) -> Float[np.ndarray, " cell"]:
    """Two-sided p-value of each cell's mean against 0. `draws` is used above `EXACT_UP_TO` prompts only."""
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


def smallest_p(n_prompts: int, draws: int) -> float:
    """The smallest p-value that the sign-flip test can give."""
    return 2.0 ** (1 - n_prompts) if n_prompts <= EXACT_UP_TO else 1 / (draws + 1)


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


def _resamples(n_prompts: int, n_boot: int, seed: int) -> Float[np.ndarray, "prompt draw"]:
    """How much each prompt weighs in each draw of the bootstrap."""
    drawn = np.random.default_rng((seed, 1)).multinomial(n_prompts, np.full(n_prompts, 1 / n_prompts), size=n_boot)
    return drawn.T / n_prompts


def _ends(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2


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
