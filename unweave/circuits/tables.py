"""How scores of ablated runs become a labelled table with intervals over prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from unweave.circuits.runs import CircuitRuns
from unweave.methods.frame import Coords, attributes, labelled
from unweave.methods.heads import Head, head_name
from unweave.results import statistics

if TYPE_CHECKING:
    import xarray as xr

LEVEL = 0.95


def table(
    runs: CircuitRuns,
    axis: tuple[str, Sequence[str]],
    columns: Mapping[str, Float[Tensor, "cell prompt"]],
    coords: Mapping[str, Sequence | np.ndarray],
    attrs: Mapping[str, str | int | float],
) -> xr.Dataset:
    """Columns `(prompt, axis)`, with coordinates along the axis, and attributes that say how it was done."""
    import xarray as xr

    name, labels = axis
    extra: Coords = {key: ((name,), values) for key, values in coords.items()}
    circuit = runs.circuit
    said: dict[str, str | int | float] = {
        "quantity": runs.pair.metric.name,
        "circuit_heads": len(circuit.heads),
        "model_heads": runs.pair.model.config.n_layers * runs.pair.model.config.n_heads,
        "circuit_notes": circuit.notes,
        "level": LEVEL,
        **statistics.sample_attrs(statistics.SKEWED, len(runs.pair.prompts), _clusters(runs)),
        **runs.ablation.about,
    }
    arrays = {
        key: labelled(runs.pair, values.T, {name: list(labels)}, {}, extra=extra) for key, values in columns.items()
    }
    return xr.Dataset(arrays, attrs={**attributes(runs.pair), **said, **attrs})


def interval(runs: CircuitRuns, values: Float[Tensor, "cell prompt"]) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of each cell's mean over the prompts of the runs; NaN of one prompt."""
    return statistics.mean_interval(_wide(values), LEVEL, _clusters(runs))


def ratio_interval(
    runs: CircuitRuns, above: Float[Tensor, "cell prompt"], below: Float[Tensor, " prompt"]
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of each cell's mean over the mean of `below`; NaN of one prompt."""
    return statistics.ratio_interval(_wide(above), _wide(below), LEVEL, _clusters(runs))


def mean(values: Float[Tensor, "cell prompt"]) -> np.ndarray:
    """Each cell's mean over prompts."""
    return _wide(values).mean(-1)


def names(heads: Iterable[Head]) -> str:
    """Heads in the model's order: `9.6 9.9 10.0`."""
    return " ".join(map(head_name, sorted(heads)))


def _wide(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _clusters(runs: CircuitRuns) -> np.ndarray | None:
    clusters = runs.pair.prompts.clusters
    return None if clusters is None else clusters.cpu().numpy()
