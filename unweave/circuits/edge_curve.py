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
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unweave.circuits.edge_order import in_order, without_dead_ends
from unweave.engine.context import context_of
from unweave.engine.edge_graph import EdgeGraph, edge_name
from unweave.engine.edge_masks import EdgeMaskRuns
from unweave.engine.memory import budget_bytes, forward_bytes, in_portions
from unweave.errors import InputError
from unweave.methods.replacement import Replacement, replacement_of, replacing
from unweave.methods.to_xarray import to_xarray
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.forward import AttentionInputs
from unweave.models.precision import without_autocast
from unweave.models.run import Key
from unweave.progress import Progress, shown
from unweave.registry import ENOUGH, Attrs, Method, register
from unweave.results.statistics import mean_interval

if TYPE_CHECKING:
    import xarray as xr

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
    edges: xr.DataArray,
    shares: Sequence[float] = SHARES,
    *,
    by: str = "size",
    how: str | Replacement = "donor",
    prune: bool = True,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Scores of circuits of the first edges, as `uw.edges` found them.

    Args:
        pair: the model, both sets of prompts, and the metric.
        edges: effects of edges; of `how="verified"` the edges that were not run are ordered by their local score.
        shares: of all edges, each kept by one circuit.
        by: "size", "signed" or "greedy".
        how: what edges outside a circuit carry: "donor", the other prompt's value, or a replacement as of `knockout`.
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
    effects = effect_table(graph, edges)
    strange = [share for share in shares if not 0 < share <= 1]
    if strange or not len(shares):
        raise InputError(f"shares: expected numbers above 0 and up to 1, got {strange or shares!r}")
    noise = str(edges.attrs.get("direction", "noise")) == "noise"
    better = 1 if (pair.metric.higher_is_better) == (pair.gap > 0) else -1
    order = in_order(graph, effects, by, better * (-1 if noise else 1))
    masks, asked = [torch.zeros_like(graph.joined), graph.joined], []
    for share in shares:
        asked.append(int(share * int(graph.joined.sum())))
        mask = torch.zeros_like(graph.joined)
        if asked[-1]:
            mask[tuple(torch.tensor(order[: asked[-1]]).T)] = True
        masks.append(without_dead_ends(graph, mask) if prune else mask)
    scores, about = masked_scores(pair, graph, torch.stack(masks), how, memory, progress)
    none, whole, found = scores[0], scores[1], scores[2:].T
    attrs = {"by": by, "dead_ends": "left out" if prune else "kept", "ablated": about, **_areas(pair, shares, scores)}
    attrs |= {"unit": pair.metric.unit, "quantity": pair.metric.name}
    along = {"asked": (("share",), asked), "kept": (("share",), [int(mask.sum()) for mask in masks[2:]])}
    ends = {"none": (("prompt",), none.tolist()), "whole": (("prompt",), whole.tolist())}
    return to_xarray(pair, found, {"share": list(shares)}, EDGE_CURVE.attrs(**attrs), extra={**along, **ends})


def effect_table(graph: EdgeGraph, edges: xr.DataArray) -> Float[Tensor, "sender receiver"]:
    """The mean effect of each edge, 0 of those that the result lacks.

    Raises:
        InputError: a result of anything but edges of this model.
    """
    if "edge" not in getattr(edges, "dims", ()):
        raise InputError(f"edges: expected a result of uw.edges, got {type(edges).__name__}")
    numbers = {
        edge_name(graph.senders[sender], graph.receivers[receiver]): (sender, receiver)
        for sender, receiver in graph.joined.nonzero().tolist()
    }
    names = list(map(str, edges["edge"].values))
    unknown = next((name for name in names if name not in numbers), None)
    if unknown is not None:
        raise InputError(f"edges: the model has no edge {unknown!r}; give edges that uw.edges found in this model")
    means = edges.mean("prompt").values if "prompt" in edges.dims else edges.values
    if "local" in edges.coords:
        means = np.where(np.isnan(means), edges["local"].values, means)
    table = torch.zeros(graph.joined.shape, dtype=torch.float64)
    table[tuple(torch.tensor([numbers[name] for name in names]).T)] = torch.tensor(np.nan_to_num(means)).double()
    return table


@without_autocast
def masked_scores(
    pair: Contrast,
    graph: EdgeGraph,
    masks: torch.Tensor,
    how: str | Replacement,
    memory: int | float | None,
    progress: Progress | bool | None,
) -> tuple[Float[Tensor, "variant prompt"], str]:
    """The scores of circuits `masks[variant sender receiver]`, and what the other edges carry."""
    config, context = graph.config, context_of(pair, "noise")
    layers = range(config.n_layers)
    keys: list[Key] = [("resid_pre", 0), *(("z", layer) for layer in layers)]
    keys += [("mlp_out", layer) for layer in layers] if config.d_mlp else []
    if how == "donor":
        about = "the other prompt's values"

        def values(prompts: range) -> dict[Key, Tensor]:
            return dict(context.donor.values(config, context.weights, keys, prompts))

    else:
        fill = replacement_of(how)
        made, note = replacing(pair, keys, fill, memory)
        about = "; ".join(filter(None, [str(fill.attrs["how"]), note]))

        def values(prompts: range) -> dict[Key, Tensor]:
            return dict(made(prompts))

    n_pos, n = context.recipient.tokens.shape[1], len(context.recipient)
    device = context.weights.w_e.device
    masks = masks.to(device)
    one = forward_bytes(config, n_pos, context.itemsize) + context.itemsize * n_pos * config.d_model * (
        2 * len(graph.senders) + 4 * (config.n_heads + 2 * config.n_kv_heads)
    )
    table = pair.clean_scores.new_full((len(masks), n), float("nan"))
    budget = budget_bytes(memory, device) // 2
    with shown(progress, "circuits of edges") as report, torch.no_grad():

        def run(cells: range) -> None:
            for variant in sorted({cell // n for cell in cells}):
                prompts = range(max(cells.start - variant * n, 0), min(cells.stop - variant * n, n))
                number = torch.tensor(prompts, device=device)
                tokens, lengths = context.recipient.tokens[number], context.recipient.lengths[number]
                inputs = AttentionInputs.of(config, context.weights, tokens, lengths)
                embedded = context.own.values(config, context.weights, [("resid_pre", 0)], prompts)["resid_pre", 0]
                runs = EdgeMaskRuns(graph, context.weights, inputs, embedded, values(prompts))
                streams = runs.streams(masks[variant : variant + 1])[0]
                read = pair.prompts.role(pair.metric.role).to(device)[number]
                rows = torch.arange(len(number), device=device)
                table[variant, number] = context.score(streams[rows, read], number).to(table.dtype)
            if report is not None:
                report(cells.stop, len(masks) * n)

        in_portions(len(masks) * n, min(n, budget // one), run)
    return table, about


def _asked(says: Attrs) -> str:
    """How it was asked, in a line, and the areas of the whole curve."""
    areas = f"CMD {float(says['cmd']):.2g} and CPR {float(says['cpr']):.2g} over all its shares"
    return f"edges by {says['by']}, dead ends {says['dead_ends']}; others carry {says['ablated']}; {areas}"


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
