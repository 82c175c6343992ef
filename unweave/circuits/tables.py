"""How scores of ablated runs become a labelled table with intervals over prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from unweave.circuits.runs import CircuitRuns
from unweave.methods.to_xarray import Attrs, Coords, attributes, to_xarray
from unweave.nodes import Head, head_name
from unweave.results import statistics

LEVEL = 0.95
_ENDS = ("", "_low", "_high")


def table(
    runs: CircuitRuns,
    axis: tuple[str, Sequence[str] | Sequence[int]],
    columns: Mapping[str, Float[Tensor, "cell prompt"]],
    coords: Mapping[str, Sequence | np.ndarray],
    attrs: Attrs,
) -> xr.Dataset:
    """Columns `(prompt, axis)`, with coordinates along the axis, and attributes that say how it was done.

    Prompts that were not measured stay NaN.
    """
    name, labels = axis
    of = measured(next(iter(columns.values())))
    extra: Coords = {key: ((name,), values) for key, values in coords.items()}
    circuit = runs.circuit
    about = {
        "quantity": runs.pair.metric.name,
        "circuit_heads": len(circuit.heads),
        "model_heads": runs.pair.model.config.n_layers * runs.pair.model.config.n_heads,
        "circuit_notes": circuit.notes,
        "level": LEVEL,
        **statistics.sample_attrs(statistics.SKEWED, int(of.sum()), _clusters(runs, of)),
        **runs.ablation.about,
    }
    arrays = {
        key: to_xarray(runs.pair, values.T, {name: list(labels)}, {}, extra=extra) for key, values in columns.items()
    }
    return xr.Dataset(arrays, attrs={**attributes(runs.pair), **about, **attrs})


def interval(runs: CircuitRuns, values: Float[Tensor, "cell prompt"]) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of each cell's mean over the prompts that were measured; NaN of one prompt."""
    of = measured(values)
    return statistics.mean_interval(_wide(values[:, of]), LEVEL, _clusters(runs, of))


def ratio_interval(
    runs: CircuitRuns, above: Float[Tensor, "cell prompt"], below: Float[Tensor, " prompt"]
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of each cell's mean over the mean of `below`; NaN of one prompt."""
    of = measured(above)
    return statistics.ratio_interval(_wide(above[:, of]), _wide(below[of]), LEVEL, _clusters(runs, of))


SCALES = (
    "difference = F(M) - F, ratio = F / F(M), share = (F - F(no head)) / (F(M) - F(no head)), of means over prompts; "
    "none is clamped"
)


def scales(runs: CircuitRuns, score: Float[Tensor, "cell prompt"]) -> dict[str, np.ndarray]:
    """`difference`, `ratio` and `share` of each cell (see `SCALES`), each with `_low` and `_high`; no share where the
    model is no better or worse than no head.
    """
    whole, none = runs.whole.values, runs.none.values
    values = {
        "difference": (mean(whole - score), *interval(runs, whole - score)),
        "ratio": _shares(runs, score, whole),
        "share": _shares(runs, score - none, whole - none),
    }
    return {name + end: column for name, three in values.items() for end, column in zip(_ENDS, three, strict=True)}


def _shares(
    runs: CircuitRuns, above: Float[Tensor, "cell prompt"], below: Float[Tensor, " prompt"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each cell's mean over the mean of `below`, and the ends of its interval; NaN where that is 0."""
    whole = mean(below[None, measured(above)])
    if not whole.all():
        unknown = np.full(len(above), np.nan)
        return unknown, unknown, unknown
    return (mean(above) / whole, *ratio_interval(runs, above, below))


def measured(values: Float[Tensor, "cell prompt"]) -> Bool[Tensor, " prompt"]:
    """The prompts that were measured: those that are not NaN in every cell."""
    return ~values.isnan().all(0)


def mean(values: Float[Tensor, "cell prompt"]) -> np.ndarray:
    """Each cell's mean over the prompts that were measured."""
    return _wide(values[:, measured(values)]).mean(-1)


def compared(values: np.ndarray) -> np.ndarray:
    """Scores as they are ranked: to six digits, so that those that differ by rounding errors only are equal, and no
    processor or number of threads chooses between them."""
    return np.array([float(f"{value:.6g}") for value in values])


def names(heads: Iterable[Head]) -> list[str]:
    """Heads in the model's order: `9.6`, `9.9`, `10.0`."""
    return [*map(head_name, sorted(heads))]


def _wide(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _clusters(runs: CircuitRuns, of: Bool[Tensor, " prompt"]) -> np.ndarray | None:
    clusters = runs.pair.prompts.clusters
    return None if clusters is None else clusters[of].cpu().numpy()
