"""Circuits of edges: made of the largest effects of `uw.edges`, and told as the edges of a model's graph.

A circuit that keeps edges keeps only those: a head is in it where an edge is. Of a key or value that several query
heads share, one edge is received by those of them that write something in the circuit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from unweave.circuits.circuit import Circuit, Group
from unweave.circuits.edge_order import in_order
from unweave.engine.edge_graph import INPUTS, EdgeGraph, Mask, feeds, heads_of, without_dead_ends
from unweave.errors import InputError
from unweave.nodes import Edge, Node, read_node, real
from unweave.results.summary import summary

Ends = Sequence[tuple[Node, Node]]
Values = Sequence[tuple[float | None, float | None, float | None]]
_ABOUT = ("metric", "metric_unit", "better", "gap", "n_prompts", "direction")


def circuit_of(
    edges: xr.DataArray, n: int | None, threshold: float | None, share: float | None, by: str, prune: bool
) -> Circuit:
    """See `Circuit.from_edges`."""
    check_edges(edges)
    threshold = None if threshold is None else real("threshold", threshold)
    share = None if share is None else real("share", share)
    if edges.attrs.get("sender_at", "all positions") != "all positions":
        raise InputError(
            f"edges: they were sent at {edges.attrs['sender_at']} only; a circuit of edges needs all positions"
        )
    ends = _ends(edges)
    senders, receivers = (tuple(sorted(set(side), key=_in_network)) for side in zip(*ends, strict=True))
    if senders[0].site != "embed" or receivers[-1].site != "logits":
        raise InputError("edges: none leaves the embeddings, or none reaches the logits; measure those edges too")
    numbers = [{node: number for number, node in enumerate(side)} for side in (senders, receivers)]
    where = tuple(torch.tensor([[numbers[side][node] for side, node in enumerate(both)] for both in ends]).T)
    means = mean_effects(edges)
    joined, effects = torch.zeros(2, len(senders), len(receivers), dtype=torch.float64)
    joined[where], effects[where] = 1.0, torch.from_numpy(means)
    joined, shared = joined.bool(), int(edges.attrs["n_heads"]) // int(edges.attrs["n_kv_heads"])
    into, good = feeds(senders, receivers, shared), carries(edges.attrs)
    if threshold is not None:
        joined &= _reaching(effects * good if by == "signed" else effects.abs(), threshold)
    order = in_order(joined, into, effects, by, good)
    mask = mask_from(joined, order[: _count(len(order), n, threshold, share)])
    kept = without_dead_ends(mask, into) if prune else mask
    if not kept.any():
        raise InputError(
            f"edges: none of the first {int(mask.sum())} stands on a way from the embeddings to the logits; "
            "take more of them, by='greedy', or prune=False"
        )
    chosen = np.flatnonzero(kept[where].numpy())
    left_out = f"; {int(mask.sum() - kept.sum())} dead ends left out" if prune else ""
    attrs = edges.attrs
    on = f" on {attrs['n_prompts']} prompts" if "n_prompts" in attrs else ""
    return circuit_with(
        [ends[number] for number in chosen],
        _intervals(edges, means, chosen),
        shared,
        model=str(attrs["model"]),
        shape=(int(attrs["n_layers"]), int(attrs["n_heads"])),
        task=str(attrs.get("task", "")),
        notes=f"the first {int(mask.sum())} edges by {by}, of {attrs['how']} effects{on}{left_out}",
        attrs={"unit": str(attrs.get("metric_unit", "")), **{name: attrs[name] for name in _ABOUT if name in attrs}},
    )


def circuit_with(ends: Ends, values: Values, shared: int, **about: Any) -> Circuit:
    """The circuit of some edges, each with its effect and the ends of its interval; `shared` heads have one key."""
    writes, edges = {sender for sender, _ in ends}, []
    for (sender, receiver), value in zip(ends, values, strict=True):
        if receiver.part is None:
            edges.append(Edge(sender, receiver, "", *value))
            continue
        heads = heads_of(receiver, shared)
        first, *others = [head for head in heads if head in writes] or heads
        edges.append(Edge(sender, first, receiver.site, *value, shared=others))
    nodes = sorted({node for edge in edges for node in (edge.sender, edge.receiver, *edge.shared)}, key=_in_network)
    heads, mlps = ([node for node in nodes if node.site == site] for site in ("z", "mlp_out"))
    groups = [Group("heads", tuple(head.head for head in heads))] if heads else []
    groups += [Group("MLPs", (), "all", tuple(mlp.layer for mlp in mlps))] if mlps else []
    return Circuit(tuple(groups), tuple(edges), keeps="edges", **about)


def mask_of(graph: EdgeGraph, circuit: Circuit) -> Mask:
    """The edges of a circuit in the graph of a model. One that keeps nodes has all edges that its heads, at all
    positions, and the MLPs send.

    Raises:
        InputError: an edge at a role, into a head without saying which input, or that the model does not have.
    """
    mask = torch.zeros_like(graph.joined)
    if circuit.keeps == "nodes":
        sends = [node.site != "z" or node.head in circuit.heads for node in graph.senders]
        return without_dead_ends(graph.joined & torch.tensor(sends)[:, None], graph.feeds)
    for edge in circuit.edges:
        mask[number_of(graph, edge)] = True
    return mask


def number_of(graph: EdgeGraph, edge: Edge) -> tuple[int, int]:
    """The numbers of an edge's sender and receiver in the graph; raises InputError as `mask_of`."""
    receiver, site = edge.receiver, edge.input
    if edge.role:
        raise InputError(f"edge {edge}: it counts at a role; a circuit of edges keeps them at all positions")
    if receiver.site == "z" and not site:
        raise InputError(f"edge {edge}: it names no input of the head; write '{receiver.short} q', k or v")
    if site:
        shared = 1 if site == "q" else graph.config.heads_per_kv
        receiver = Node(site, receiver.layer, receiver.head[1] // shared)
    sender, found = graph.sender_number.get(edge.sender), graph.receiver_number.get(receiver)
    if sender is None or found is None:
        raise InputError(f"edge {edge}: {graph.config.name} has no such sender or receiver")
    if not graph.joined[sender, found]:
        raise InputError(f"edge {edge}: it runs backwards; a sender must write before its receiver reads")
    return sender, found


def check_circuit(circuit: object, argument: str) -> None:
    """Raises InputError for what is no circuit."""
    if not isinstance(circuit, Circuit):
        raise InputError(
            f"{argument}: expected a Circuit, got {type(circuit).__name__}; uw.Circuit.from_edges makes one"
        )


def check_edges(edges: object) -> None:
    """Raises InputError for what is no result of `uw.edges`."""
    if not isinstance(edges, xr.DataArray) or "edge" not in edges.dims or "sender" not in edges.coords:
        raise InputError(f"edges: expected a result of uw.edges, got {type(edges).__name__}")
    if not edges.sizes["edge"]:
        raise InputError("edges: the result has none")


def mean_effects(edges: xr.DataArray) -> Float[np.ndarray, " edge"]:
    """The mean effect of each edge; of those that were not run, the score by their response; 0 of those without."""
    means = edges.mean("prompt").values if "prompt" in edges.dims else edges.values
    if "local" in edges.coords:
        means = np.where(np.isnan(means), edges["local"].values, means)
    return np.nan_to_num(means).astype(np.float64)


def effect_table(graph: EdgeGraph, edges: xr.DataArray) -> Float[Tensor, "sender receiver"]:
    """The mean effect of each edge of the graph, 0 of those that the result lacks.

    Raises:
        InputError: a result of anything but edges of this model.
    """
    check_edges(edges)
    table = torch.zeros(graph.joined.shape, dtype=torch.float64)
    try:
        numbers = [(graph.sender_number[sender], graph.receiver_number[receiver]) for sender, receiver in _ends(edges)]
        table[tuple(torch.tensor(numbers).T)] = torch.from_numpy(mean_effects(edges))
    except KeyError as error:
        raise InputError(
            f"edges: {graph.config.name} has no edge at {error.args[0]}; give edges of this model"
        ) from error
    return table


def carries(attrs: Mapping[Any, Any]) -> int:
    """The sign of effects that carry the answer, as the attributes of a result tell it."""
    better = 1 if (attrs.get("better", "higher") == "higher") == (float(attrs.get("gap", 1.0)) > 0) else -1
    return better * (-1 if attrs.get("direction", "noise") == "noise" else 1)


def mask_from(joined: Mask, edges: Sequence[tuple[int, int]]) -> Mask:
    """The mask of some edges, given as numbers."""
    mask = torch.zeros_like(joined)
    if edges:
        mask[tuple(torch.tensor(edges).T)] = True
    return mask


def _reaching(sizes: Float[Tensor, "sender receiver"], threshold: float) -> Mask:
    """The edges of at least this size. Raises InputError for none, and says how large the largest is."""
    if not threshold > 0:
        raise InputError(f"threshold: expected a size above 0, got {threshold}")
    if not sizes.max() >= threshold:
        raise InputError(f"threshold: no edge reaches {threshold:g}; the largest has {float(sizes.max()):.3g}")
    return sizes >= threshold


def _count(known: int, n: int | None, threshold: float | None, share: float | None) -> int:
    """How many edges are asked for. Raises InputError where that is not said once, or cannot be."""
    if sum(one is not None for one in (n, threshold, share)) != 1:
        raise InputError("from_edges: say how many edges by one of n=200, share=0.01 or threshold=0.02")
    if share is not None and not 0 < share <= 1:
        raise InputError(f"share: expected a number above 0 and up to 1, got {share}")
    wanted = known if threshold is not None else n if share is None else round(share * known)
    if not isinstance(wanted, (int, np.integer)) or isinstance(wanted, bool) or not 1 <= wanted <= known:
        raise InputError(f"{'share' if n is None else 'n'}: asks for {wanted} of {known} edges; give 1 to {known}")
    return int(wanted)


def _ends(edges: xr.DataArray) -> list[tuple[Node, Node]]:
    """Sender and receiver of each edge of a result."""
    inputs, receivers = (edges[name].values.tolist() for name in ("input", "receiver"))
    texts = [edges["sender"].values.tolist(), [f"{i} {r}".strip() for i, r in zip(inputs, receivers, strict=True)]]
    nodes = {text: read_node(text) for text in {*texts[0], *texts[1]}}
    return [(nodes[sender], nodes[receiver]) for sender, receiver in zip(*texts, strict=True)]


def _in_network(node: Node) -> tuple[int, ...]:
    """Where a node stands in the order of the network: the embeddings first, the logits last."""
    order = ("embed", "z", *INPUTS, "mlp_out", "logits")
    return int(node.site == "logits"), node.layer, order.index(node.site), node.head[1]


def _intervals(edges: xr.DataArray, means: Float[np.ndarray, " edge"], chosen: np.ndarray) -> Values:
    """Effect and interval of some edges, positive where they carry the answer; none of those that were not run."""
    sign = carries(edges.attrs)
    table = summary(edges.isel(edge=chosen))
    low, high = (sign * table[name].values for name in ("low", "high"))
    found: list[tuple[float | None, float | None, float | None]] = []
    for number, *ends in zip(chosen, low, high, strict=True):
        least, most = sorted(map(float, ends)) if np.isfinite(ends).all() else (None, None)
        found.append((float(sign * means[number]), least, most))
    return found
