"""The curve of a circuit of edges: how much of the score the best few edges give.

1. All edges are put in order by their effects (`unweave.circuits.edge_order`).
2. For each share of them a circuit keeps the first ones, without dead ends; all other edges carry the ablated value
   (`unweave.engine.edge_masks`), and the model is scored: m(C).
3. f = (m(C) - m(none)) / (m(M) - m(none)), where M keeps all edges. CPR is the area under f over the share of edges,
   CMD the area between f and 1, by trapezoids, not clamped (Mueller et al. 2025, arXiv 2504.13151). CPR can be won by
   leaving out edges that work against the answer, so CMD stands first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from unweave.circuits.circuit import Circuit
from unweave.circuits.edge_circuits import carries, check_circuit, effect_table, mask_from, mask_of
from unweave.circuits.edge_order import in_order
from unweave.circuits.edge_runs import edge_ablation, masked_scores
from unweave.engine.edge_graph import EdgeGraph, Mask, without_dead_ends
from unweave.errors import InputError
from unweave.methods.replacement import Replacement
from unweave.methods.to_xarray import to_xarray
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.prompts import Prompts
from unweave.nodes import real
from unweave.progress import Progress, shown
from unweave.registry import ENOUGH, Attrs, Method, register
from unweave.results.statistics import mean_interval

EDGE_CURVE = register(
    Method(
        "edge curve",
        ENOUGH,
        picture="unweave.views.curve_pictures:curve_blocks",
        dims=("prompt?", "share"),
        together=True,
        asked=lambda says, dims: _asked(says),
    )
)
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
LEVEL = 0.95


def curve(
    pair: Contrast,
    edges: xr.DataArray | Sequence[Circuit],
    shares: Sequence[float] = SHARES,
    *,
    by: str = "size",
    how: str | Replacement = "donor",
    source: str | Prompts | None = None,
    prune: bool = True,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Scores of circuits of the first edges, as `uw.edges` found them, or of circuits that are given.

    Args:
        pair: the model, both sets of prompts, and the metric.
        edges: effects of edges; of `how="verified"` the edges that were not run are ordered by their local score. Or
            circuits, each at the share of edges that it has: one that keeps nodes has all edges that its heads and the
            MLPs send.
        shares: of all edges, each kept by one circuit; of circuits that are given it is not read, nor are `by` and
            `prune`.
        by: "size", "signed" or "greedy".
        how, source: what edges outside a circuit carry: "donor", the corrupted prompt's value, or a replacement and
            whose, as of `knockout`.
        prune: whether dead ends are left out.
        memory, progress: as in `patch`.

    Returns:
        Scores `[prompt, share]`, with the number of edges `asked` and `kept`, and the coordinates `none[prompt]` and
        `whole[prompt]`, the scores without and with all edges. The attributes `cmd` and `cpr` have their intervals in
        `cmd_low`, `cmd_high`, `cpr_low` and `cpr_high`.

    Raises:
        InputError: a result that is not of this model's edges, a share out of range, or an unknown option.
    """
    check_pair(pair)
    graph = EdgeGraph(pair.model.config)
    if isinstance(edges, xr.DataArray):
        shares = [real("shares", share) for share in shares]
        asked, masks = _first_edges(graph, edges, shares, by, prune)
        says = {"scores": str(edges.attrs.get("how", "given")), "by": by, "dead_ends": "left out" if prune else "kept"}
    else:
        asked, masks = _given(pair, graph, edges)
        shares, says = [count / int(graph.joined.sum()) for count in asked], {"scores": "circuits"}
    masks = [torch.zeros_like(graph.joined), graph.joined, *masks]
    ablation = edge_ablation(pair, graph, how, source=source, memory=memory)
    with shown(progress, "circuits of edges") as told:
        scores = masked_scores(ablation, masks, memory, told)
    none, whole, found = scores[0], scores[1], scores[2:].T
    attrs = {**says, "ablated": ablation.said, "notes": ablation.about.get("notes", "")}
    attrs |= {**_areas(pair, shares, scores), "unit": pair.metric.unit, "quantity": pair.metric.name}
    along = {"asked": (("share",), asked), "kept": (("share",), [int(mask.sum()) for mask in masks[2:]])}
    ends = {"none": (("prompt",), none.tolist()), "whole": (("prompt",), whole.tolist())}
    return to_xarray(pair, found, {"share": list(shares)}, EDGE_CURVE.attrs(**attrs), extra={**along, **ends})


def _first_edges(
    graph: EdgeGraph, edges: xr.DataArray, shares: Sequence[float], by: str, prune: bool
) -> tuple[list[int], list[Mask]]:
    """How many edges are asked for, and the circuits of these."""
    effects = effect_table(graph, edges)
    strange = [share for share in shares if not 0 < share <= 1]
    if strange or not len(shares):
        raise InputError(f"shares: expected numbers above 0 and up to 1, got {strange or shares!r}")
    order = in_order(graph.joined, graph.feeds, effects, by, carries(edges.attrs))
    asked = [int(share * int(graph.joined.sum())) for share in shares]
    masks = [mask_from(graph.joined, order[:count]) for count in asked]
    return asked, [without_dead_ends(mask, graph.feeds) for mask in masks] if prune else masks


def _given(pair: Contrast, graph: EdgeGraph, circuits: object) -> tuple[list[int], list[Mask]]:
    """How many edges circuits have, and these; from the fewest on."""
    if not isinstance(circuits, (list, tuple)) or not circuits:
        kind = type(circuits).__name__
        raise InputError(f"edges: expected a result of uw.edges or a list of circuits, got {kind or 'none'}")
    for one in circuits:
        check_circuit(one, "edges")
        one.check(pair)
    masks = sorted((mask_of(graph, one) for one in circuits), key=lambda mask: int(mask.sum()))
    return [int(mask.sum()) for mask in masks], masks


def _asked(says: Attrs) -> str:
    """How it was asked, in a line, and the areas of the whole curve."""
    areas = f"CMD {float(says['cmd']):.2g} and CPR {float(says['cpr']):.2g} over all its shares"
    kept = "circuits"
    if "by" in says:
        kept = f"{says['scores']} effects by {says['by']}, dead ends {says['dead_ends']}"
    return f"{kept}; others carry {says['ablated']}; {areas}"


def _areas(pair: Contrast, shares: Sequence[float], scores: Float[Tensor, "variant prompt"]) -> dict[str, float]:
    """CMD and CPR with their intervals: both are ratios of two means over the same prompts."""
    x, values = np.asarray(shares, dtype=float), scores.double().cpu().numpy()
    none, whole, found = values[0], values[1], values[2:]
    order = np.argsort(x)
    steps = np.diff(x[order]) if len(x) > 1 else np.ones(1)
    weights = np.zeros(len(x))
    weights[order] = (np.append(steps, 0) + np.append(0, steps)) / 2 if len(x) > 1 else 1.0
    gap = whole - none
    f = (found - none).mean(1) / gap.mean()
    clusters = None if pair.prompts.clusters is None else pair.prompts.clusters.cpu().numpy()
    sides = {"cpr": weights @ (found - none), "cmd": (weights * np.sign(1 - f)) @ (whole - found)}
    areas: dict[str, float] = {}
    for name, each in sides.items():
        low, high = mean_interval((each / gap.mean())[None], LEVEL, clusters, (gap / gap.mean())[None])
        areas |= {name: float(each.mean() / gap.mean()), f"{name}_low": float(low[0]), f"{name}_high": float(high[0])}
    return areas
