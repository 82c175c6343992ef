"""Circuits by pruning edges one by one (ACDC: Conmy et al. 2023, arXiv 2304.14997), exactly and incrementally.

1. All edges are kept, so the run is the clean one.
2. Receivers are taken from the logits backwards, and of each the senders from the last to the first. An edge is
   dropped, for good, if the loss grows by less than the threshold: the edge then carries its ablated value.
3. What leads to the logits no more is dropped without a run.

What comes before the receiver in hand has not been touched, so it writes what it wrote: a trial is a flight of the
receiver's change through the edges that are left after it (`unweave.engine.edge_masks`). The next few drops are tried
together, each on top of those before, and taken up to the first that costs too much: the same edges go as one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.circuits.circuit import Circuit
from unweave.circuits.edge_circuits import check_circuit, circuit_with, mask_of
from unweave.circuits.edge_runs import EdgeAblation, edge_ablation, run_bytes
from unweave.engine.context import PatchContext, context_of
from unweave.engine.edge_graph import EdgeGraph, Mask, leading, without_dead_ends
from unweave.engine.memory import budget_bytes
from unweave.errors import InputError, Interrupted
from unweave.methods.replacement import Replacement
from unweave.metrics.contrast import Contrast, check_pair
from unweave.metrics.metric import KLToClean
from unweave.models.precision import without_autocast
from unweave.models.prompts import Prompts
from unweave.nodes import real
from unweave.progress import Progress, shown

BY = ("kl", "metric")
# Drops that are tried together at most.
MOST = 32


@without_autocast
def prune(
    pair: Contrast,
    threshold: float,
    by: str = "kl",
    *,
    start: Circuit | None = None,
    how: str | Replacement = "donor",
    source: str | Prompts | None = None,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> Circuit:
    """The circuit that is left when every edge that costs less than a threshold is dropped, from the logits backwards.

    The order is fixed, so the same prompts give the same circuit. All prompts are held at once.

    Args:
        pair: the model, both sets of prompts, and the metric, which says where the answer is read.
        threshold: the growth of the mean loss that keeps an edge: in nats by "kl", as a share of the gap by "metric".
        by: the loss: "kl", of the clean run's distribution over the vocabulary to the circuit's, or "metric", what the
            metric loses.
        start: a circuit of edges to prune further, such as `Circuit.from_edges(edges, n=1000)`; the whole model if left
            out, which takes a trial for every edge.
        how, source: what edges that are dropped carry, as in `curve`.
        memory: as in `patch`; it bounds how many drops are tried together.
        progress: as in `patch`.

    Returns:
        A circuit that keeps edges; an edge's effect is what dropping it would have cost when it was tried.

    Raises:
        InputError: a threshold that is not above 0 or leaves no edge, an unknown `by`, or prompts that do not fit.
        Interrupted: Ctrl-C; `partial` is the circuit of the edges not dropped yet.
    """
    check_pair(pair)
    if by not in BY:
        raise InputError(f"by: expected one of {', '.join(BY)}, got {by!r}")
    if not real("threshold", threshold) > 0:
        raise InputError(f"threshold: expected a loss above 0, got {threshold}")
    graph = EdgeGraph(pair.model.config)
    if start is not None:
        check_circuit(start, "start")
        start.check(pair)
    mask = graph.joined.clone() if start is None else mask_of(graph, start)
    ablation = edge_ablation(pair, graph, how, source=source, memory=memory)
    search = _Search(ablation, mask, _loss(pair, by), threshold, _at_once(ablation, memory))
    with shown(progress, "pruning edges") as told, torch.no_grad():
        total = int(mask.sum())
        try:
            search.run(lambda tried: None if told is None else told(tried, total))
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the circuit pruned so far is in .partial", _circuit(search, by)) from None
    return _circuit(search, by)


@dataclass
class _Search:
    """The circuit in hand.

    `loss(streams)` is the mean loss of variants from what the logits read where the metric does, `[variant prompt d]`.
    """

    ablation: EdgeAblation
    mask: Mask
    loss: Callable[[Tensor], Float[Tensor, " variant"]]
    threshold: float
    at_once: int
    costs: dict[tuple[int, int], float] = field(default_factory=dict)
    largest: float = 0.0

    def run(self, tell: Callable[[int], None]) -> None:
        pair, graph, tried = self.ablation.pair, self.ablation.graph, 0
        self.runs = self.ablation.runs(range(len(pair.prompts)))
        self.read = pair.prompts.role(pair.metric.role).to(pair.model.device) - self.runs.first
        live = {number: change[None] for number, change in self.runs.sent.items()}
        stream = self.runs.last + self.runs.flight(self.mask & leading(self.mask, graph.feeds), live, keep=True)[0]
        self.now = float(self.loss(self._read(stream[None])))
        for receiver in reversed(range(len(graph.receivers))):
            senders = self.mask[:, receiver].nonzero()[:, 0].flip(0).tolist()
            if senders:
                self._receiver(receiver, senders)
            tried += len(senders)
            tell(tried)

    def _receiver(self, receiver: int, senders: list[int]) -> None:
        """Drops the edges into a receiver that cost too little."""
        leads = leading(self.mask, self.ablation.graph.feeds)
        brought = [sender for sender in senders if sender in self.runs.sent and self.runs.sent[sender].any()]
        if not leads[receiver] or not brought:
            self.mask[:, receiver] = False
            return
        flown = self.mask & leads
        self.mask[[sender for sender in senders if sender not in brought], receiver] = False
        gone, size = torch.zeros_like(self.runs.sent[brought[0]]), 2
        while brought:
            tried = brought[:size]
            changes = gone - torch.stack([self.runs.sent[sender] for sender in tried]).cumsum(0)
            streams = self.runs.last + self.runs.flight(flown, {}, {receiver: changes})
            costs = self._taken(self.loss(self._read(streams)).tolist())
            dropped = len(costs) - (costs[-1] >= self.threshold)
            self.mask[tried[:dropped], receiver] = False
            gone = changes[dropped - 1] if dropped else gone
            if dropped < len(costs):
                self.costs[tried[dropped], receiver] = costs[-1]
            brought = brought[len(costs) :]
            size = min(self.at_once, 2 * size) if dropped == len(tried) else max(2, len(costs))
        if gone.any():
            self.runs.flight(flown, {}, {receiver: gone[None]}, keep=True)

    def _taken(self, losses: list[float]) -> list[float]:
        """The costs of drops on top of each other, up to the first that is too large."""
        costs = []
        for loss in losses:
            costs.append(loss - self.now)
            self.largest = max(self.largest, costs[-1])
            if costs[-1] >= self.threshold:
                break
            self.now = loss
        return costs

    def _read(self, streams: Float[Tensor, "variant prompt pos d_model"]) -> Float[Tensor, "variant prompt d_model"]:
        return streams[:, torch.arange(streams.shape[1], device=streams.device), self.read]


def _loss(pair: Contrast, by: str) -> Callable[[Tensor], Float[Tensor, " variant"]]:
    """The mean loss over prompts of variants, from `[variant prompt d_model]`."""
    context: PatchContext = context_of(pair, "noise")
    scale = -abs(pair.gap) if pair.metric.higher_is_better else abs(pair.gap)
    if by == "kl":
        metric = KLToClean(pair.metric.role)
        context, scale = context_of(Contrast(pair.model, pair.prompts, pair.corrupted, metric), "noise"), 1.0
    number = torch.arange(len(pair.prompts), device=pair.model.device)

    def loss(streams: Tensor) -> Tensor:
        scores = context.score(streams.flatten(0, 1), number.repeat(len(streams)))
        return scores.unflatten(0, (len(streams), -1)).double().mean(1) / scale

    return loss


def _at_once(ablation: EdgeAblation, memory: int | float | None) -> int:
    """How many drops may be tried together. Raises InputError where the prompts do not fit."""
    graph, prompts = ablation.graph, ablation.pair.prompts
    stream = prompts.tokens.shape[1] * graph.config.d_model * ablation.pair.model.dtype.itemsize
    held = len(prompts) * (run_bytes(ablation) + len(graph.receivers) * stream)
    budget = budget_bytes(memory, ablation.pair.model.device)
    if held > budget:
        raise InputError(
            f"memory: pruning holds all prompts at once, {held / 2**30:.2g} GiB, and may hold {budget / 2**30:.2g}; "
            "give fewer or shorter prompts, or more memory"
        )
    return max(1, min(MOST, (budget - held) // (len(prompts) * run_bytes(ablation))))


def _circuit(search: _Search, by: str) -> Circuit:
    pair, graph = search.ablation.pair, search.ablation.graph
    config, metric = pair.model.config, pair.metric
    mask = without_dead_ends(search.mask, graph.feeds) if search.ablation.from_run else search.mask
    if not mask.any():
        raise InputError(
            f"threshold: at {search.threshold:g} no way from the embeddings to the logits is left; lower it (the most "
            f"that a single drop cost is {search.largest:.3g})"
        )
    numbers = [tuple(edge) for edge in mask.nonzero().tolist()]
    unit = {"metric": "KL divergence to the clean run", "unit": "nats"}
    if by == "metric":
        unit = {"metric": metric.name, "unit": metric.unit, "gap": pair.gap}
        unit["better"] = "higher" if metric.higher_is_better else "lower"
    return circuit_with(
        [(graph.senders[sender], graph.receivers[receiver]) for sender, receiver in numbers],
        [(search.costs.get(edge), None, None) for edge in numbers],
        config.heads_per_kv,
        model=config.name,
        shape=(config.n_layers, config.n_heads),
        task=str(pair.prompts.source.get("task", "")),
        notes=f"pruned from the logits backwards by {by}, threshold {search.threshold:g}, on {len(pair.prompts)} "
        f"prompts; edges dropped carry {search.ablation.about['how']}",
        attrs=unit,
    )
