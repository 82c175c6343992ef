"""How scores of ablated runs become a labelled table with intervals over prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from unweave.circuits.circuit import Circuit
from unweave.methods.to_xarray import Attrs, Coords, attributes, to_xarray
from unweave.metrics.contrast import Contrast
from unweave.nodes import Head, head_name
from unweave.results import statistics


@dataclass(frozen=True)
class Tested:
    """A circuit that is tested on a pair: the scores of the whole model and of nothing, and how the rest is ablated."""

    circuit: Circuit
    pair: Contrast
    whole: Float[Tensor, " prompt"]
    none: Float[Tensor, " prompt"]
    about: Mapping[str, str | int | float]


LEVEL = 0.95
_ENDS = ("", "_low", "_high")


def table(
    tested: Tested,
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
    circuit = tested.circuit
    about = {
        "quantity": tested.pair.metric.name,
        "circuit_heads": len(circuit.heads),
        "model_heads": tested.pair.model.config.n_layers * tested.pair.model.config.n_heads,
        "circuit_notes": circuit.notes,
        "level": LEVEL,
        **statistics.sample_attrs(statistics.SKEWED, int(of.sum()), _clusters(tested, of)),
        **tested.about,
    }
    arrays = {
        key: to_xarray(tested.pair, values.T, {name: list(labels)}, {}, extra=extra) for key, values in columns.items()
    }
    return xr.Dataset(arrays, attrs={**attributes(tested.pair), **about, **attrs})


def interval(tested: Tested, values: Float[Tensor, "cell prompt"]) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of each cell's mean over the prompts that were measured; NaN of one prompt."""
    of = measured(values)
    return statistics.mean_interval(_wide(values[:, of]), LEVEL, _clusters(tested, of))


def ratio_interval(
    tested: Tested, above: Float[Tensor, "cell prompt"], below: Float[Tensor, " prompt"]
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of each cell's mean over the mean of `below`; NaN of one prompt."""
    of = measured(above)
    return statistics.ratio_interval(_wide(above[:, of]), _wide(below[of]), LEVEL, _clusters(tested, of))


def gaps_of(
    tested: Tested, circuit: Float[Tensor, "cell prompt"], model: Float[Tensor, "cell prompt"]
) -> dict[str, np.ndarray]:
    """`difference` of the means of circuit and model in each cell, with `_low` and `_high`, and `gap`, its size."""
    difference = mean(circuit - model)
    ends = zip(_ENDS, (difference, *interval(tested, circuit - model)), strict=True)
    return {**{f"difference{end}": values for end, values in ends}, "gap": np.abs(difference)}


SCALES = (
    "difference = F(M) - F, ratio = F / F(M), share = (F - F(no head)) / (F(M) - F(no head)), of means over prompts; "
    "none is clamped"
)


def scales(tested: Tested, score: Float[Tensor, "cell prompt"]) -> dict[str, np.ndarray]:
    """`difference`, `ratio` and `share` of each cell (see `SCALES`), each with `_low` and `_high`; no share where the
    model is no better or worse than no head.
    """
    whole, none = tested.whole, tested.none
    values = {
        "difference": (mean(whole - score), *interval(tested, whole - score)),
        "ratio": _shares(tested, score, whole),
        "share": _shares(tested, score - none, whole - none),
    }
    return {name + end: column for name, three in values.items() for end, column in zip(_ENDS, three, strict=True)}


def _shares(
    tested: Tested, above: Float[Tensor, "cell prompt"], below: Float[Tensor, " prompt"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each cell's mean over the mean of `below`, and the ends of its interval; NaN where that is 0."""
    whole = mean(below[None, measured(above)])
    if not whole.all():
        unknown = np.full(len(above), np.nan)
        return unknown, unknown, unknown
    return (mean(above) / whole, *ratio_interval(tested, above, below))


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


def _clusters(tested: Tested, of: Bool[Tensor, " prompt"]) -> np.ndarray | None:
    clusters = tested.pair.prompts.clusters
    return None if clusters is None else clusters[of].cpu().numpy()
