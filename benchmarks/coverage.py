"""How often intervals hold the truth: `python -m benchmarks.coverage`, about a minute.

Each cell draws its own prompts from a population whose mean, or ratio of two means, is known. The interval of
`uw.summary` stands next to the t interval, the studentized and the percentile bootstrap, all at 95 %. The exit status
is 1 if the first leaves its bounds: 93 to 97 % for normal values, 90 % or more for lognormal ones.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import typer
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table
from scipy.special import stdtrit

from unweave.results.statistics import Ends, cluster_sums, mean_interval

LEVEL = 0.95
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
SIZES = (8, 16, 24, 64)
BOUNDS = {"normal": (0.93, 0.97), "lognormal": (0.90, 1.0)}
RATIO = 0.3
DRAWS = 999
# A bootstrap takes long, and is there for comparison only.
FEWER = 10


@dataclass(frozen=True)
class Sample:
    """Values over prompts, what they are shares of, and the cluster of each prompt."""

    above: Float[np.ndarray, "cell prompt"]
    below: Float[np.ndarray, "cell prompt"]
    clusters: Int[np.ndarray, " prompt"]

    def resampled(self, weights: Float[np.ndarray, "cluster draw"]) -> tuple[np.ndarray, np.ndarray]:
        """`[cell, draw]`: the ratio of the means of the clusters, and its standard error, each so many times."""
        above, below = (cluster_sums(values, self.clusters) for values in (self.above, self.below))
        n, size = len(weights), below @ weights
        ratio = (above @ weights) / size
        squares = above**2 @ weights - 2 * ratio * ((above * below) @ weights) + ratio**2 * (below**2 @ weights)
        return ratio, np.sqrt(np.maximum(squares, 0) * n / (n - 1)) / size


class Row(NamedTuple):
    """How often each kind of interval holds the truth, for one population and number of clusters."""

    population: str
    of: str
    n: int
    held: dict[str, float]

    @property
    def kept(self) -> bool:
        low, high = BOUNDS[self.population]
        return low <= self.held["unweave"] <= high


def drawn(rng: np.random.Generator, population: str, cells: int, of: str, n: int) -> Sample:
    """`n` prompts a cell, or `n` clusters of 2 or 3 prompts that correlate by 0.8 (before the exponential)."""
    sizes = rng.integers(2, 4, size=n) if "clusters" in of else np.ones(n, dtype=int)
    clusters = np.repeat(np.arange(n), sizes)

    def values() -> Float[np.ndarray, "cell prompt"]:
        alike, own = rng.normal(size=(cells, n))[:, clusters], rng.normal(size=(cells, len(clusters)))
        normal = np.sqrt(0.8) * alike + np.sqrt(0.2) * own
        return normal if population == "normal" else np.exp(normal) - np.exp(0.5)

    below = 3 + values() if "ratio" in of else np.ones((cells, len(clusters)))
    return Sample(RATIO * below + values() / 2, below, clusters)


def unweave(sample: Sample, rng: np.random.Generator) -> Ends:
    scale = sample.below.mean(axis=1, keepdims=True)
    return mean_interval(sample.above / scale, LEVEL, sample.clusters, sample.below / scale)


def student(sample: Sample, rng: np.random.Generator) -> Ends:
    n = sample.clusters.max() + 1
    ratio, error = sample.resampled(np.ones((n, 1)))
    low, high = (ratio + stdtrit(n - 1, tail) * error for tail in TAILS)
    return low[:, 0], high[:, 0]


def studentized(sample: Sample, rng: np.random.Generator) -> Ends:
    ratio, error = sample.resampled(np.ones((sample.clusters.max() + 1, 1)))
    ratios, errors = sample.resampled(_weights(sample, rng))
    high, low = np.quantile((ratios - ratio) / np.maximum(errors, 1e-9), TAILS, axis=1)
    return ratio[:, 0] - low * error[:, 0], ratio[:, 0] - high * error[:, 0]


def percentile(sample: Sample, rng: np.random.Generator) -> Ends:
    low, high = np.quantile(sample.resampled(_weights(sample, rng))[0], TAILS, axis=1)
    return low, high


def _weights(sample: Sample, rng: np.random.Generator) -> Float[np.ndarray, "cluster draw"]:
    n = sample.clusters.max() + 1
    return rng.multinomial(n, np.full(n, 1 / n), size=DRAWS).T * 1.0


INTERVALS: dict[str, Callable[[Sample, np.random.Generator], Ends]] = {
    "unweave": unweave,
    "t": student,
    "studentized bootstrap": studentized,
    "percentile bootstrap": percentile,
}


def rows(cells: int, seed: int) -> Iterator[Row]:
    """A row for each population, kind of mean, and number of clusters."""
    rng = np.random.default_rng(seed)
    for population in BOUNDS:
        for of in ("mean", "mean of clusters", "ratio", "ratio of clusters"):
            for n in SIZES:
                held = {}
                for name, interval in INTERVALS.items():
                    sample = drawn(rng, population, max(1, cells // FEWER) if "bootstrap" in name else cells, of, n)
                    low, high = interval(sample, rng)
                    held[name] = float(np.mean((low <= RATIO) & (high >= RATIO)))
                yield Row(population, of, n, held)


def main(
    cells: Annotated[int, typer.Option(min=1, help="Samples of each size; a tenth of them for a bootstrap.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
) -> None:
    """Measure how often 95 % intervals hold the truth, in per cent."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    table, every = Table("values", "of", "n", *INTERVALS), []
    for row in rows(cells, seed):
        every.append(row)
        shares = (f"{share:.1%}" for share in row.held.values())
        table.add_row(row.population, row.of, str(row.n), *shares, style="" if row.kept else "bold red")
    console.print(table)
    said = ", ".join(f"{low:.0%} to {high:.0%} for {name} values" for name, (low, high) in BOUNDS.items())
    console.print(f"unweave: {said}. {cells} samples per line, {cells // FEWER} for a bootstrap.", highlight=False)
    if not all(row.kept for row in every):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
