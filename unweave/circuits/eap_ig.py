"""Graphs of edges in the JSON of EAP-IG and MIB (Hanna et al. 2024, arXiv 2403.17806; Mueller et al. 2025, 2504.13151).

    {"cfg": {"n_layers": 12, "n_heads": 12, "parallel_attn_mlp": false, "d_model": 768},
     "nodes": {"input": {"in_graph": true}, "a0.h0": …, "m0": …, "logits": …},
     "edges": {"input->a0.h0<q>": {"score": 0.1, "in_graph": true}, "a0.h0->m0": …, "m0->logits": …}}

There keys and values belong to query heads. Where several share one, an edge into it is written for each, with an equal
part of its score; what is read is one edge, in the circuit if any is in the graph, with the sum of the scores.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unweave.circuits.edge_circuits import circuit_with, effect_table, mask_of, number_of
from unweave.engine.edge_graph import EdgeGraph, edge_name, heads_of
from unweave.errors import InputError
from unweave.methods.edges import SCORES, end_coords
from unweave.methods.to_xarray import weights_to_xarray
from unweave.nodes import Edge, Node, whole
from unweave.whole_files import placed

if TYPE_CHECKING:
    import xarray as xr

    from unweave.circuits.circuit import Circuit
    from unweave.models.model import Model

_NAME = re.compile(r"(input|logits|m(\d+)|a(\d+)\.h(\d+))(?:<([qkv])>)?")


def is_graph(fields: object) -> bool:
    """Whether a JSON file's content is such a graph."""
    return isinstance(fields, dict) and {"cfg", "nodes", "edges"} <= set(fields)


def circuit_from(fields: Mapping[str, Any]) -> Circuit:
    """The circuit of the edges that are in the graph. Raises InputError for none, and for names that are none."""
    found = [(name, entry) for name, entry in _edges(fields) if entry.get("in_graph")]
    if not found:
        raise InputError(
            "edges: none is in_graph, so the file holds scores and no circuit; uw.load_edges(path, model) reads these, "
            "and uw.Circuit.from_edges makes circuits of them"
        )
    ends = [_ends(name) for name, _ in found]
    scores = [(_score(name, entry), None, None) for name, entry in found]
    shape = tuple(whole(f"cfg: {name}", fields["cfg"].get(name, 0)) for name in ("n_layers", "n_heads"))
    notes = "imported from the JSON of EAP-IG; effects are its scores"
    return circuit_with(ends, scores, 1, shape=shape, notes=notes, attrs={"metric": "score", "unit": ""})


def load_edges(path: str | os.PathLike[str], model: Model) -> xr.DataArray:
    """The scores of a graph that EAP-IG or MIB wrote, as `uw.edges` gives them: `[edge]`, without prompts.

    Raises:
        InputError: a file that cannot be read or holds no such graph, or one of another model.
    """
    fields, graph = _read(Path(path)), EdgeGraph(model.config)
    totals: dict[tuple[int, int], float] = defaultdict(float)
    for name, entry in _edges(fields):
        totals[number_of(graph, Edge(*_ends(name)))] += _score(name, entry) or 0.0
    edges = sorted(totals)
    ends = [(graph.senders[sender], graph.receivers[receiver]) for sender, receiver in edges]
    says = {"direction": "noise", "sender_at": "all positions", "how": "imported", "quantity": "score", "unit": ""}
    values = torch.tensor([totals[edge] for edge in edges])
    names = {"edge": [edge_name(*one) for one in ends]}
    return weights_to_xarray(model, values, names, SCORES.attrs(**says), end_coords(ends))


def write_graph(circuit: Circuit, path: Path, model: Model, edges: xr.DataArray | None) -> Path:
    """See `Circuit.save_eap_ig`."""
    if circuit.keeps != "edges":
        raise InputError("circuit: it keeps nodes; such a file holds edges: Circuit.from_edges(…), or keeps='edges'")
    circuit.check_model(model.config)
    config, graph = model.config, EdgeGraph(model.config)
    mask, scores = mask_of(graph, circuit), torch.zeros(graph.joined.shape, dtype=torch.float64)
    for edge in circuit.edges:
        scores[number_of(graph, edge)] = edge.effect or 0.0
    scores = scores if edges is None else effect_table(graph, edges)
    written: dict[str, dict[str, object]] = {}
    for sender, receiver in graph.joined.nonzero().tolist():
        reads = graph.receivers[receiver]
        heads = [reads] if reads.part is None else heads_of(reads, config.heads_per_kv)
        for head in heads:
            suffix = "" if reads.part is None else f"<{reads.site}>"
            name = f"{_written(graph.senders[sender])}->{_written(head)}{suffix}"
            score = float(scores[sender, receiver]) / len(heads)
            written[name] = {"score": score, "in_graph": bool(mask[sender, receiver])}
    there = {node for edge in circuit.edges for node in (edge.sender, edge.receiver, *edge.shared)}
    nodes = {_written(node): {"in_graph": node in there} for node in (*graph.senders, Node("logits"))}
    cfg = {"n_layers": config.n_layers, "n_heads": config.n_heads}
    cfg |= {"parallel_attn_mlp": config.block == "parallel", "d_model": config.d_model}
    with placed(path) as spare:
        spare.write_text(json.dumps({"cfg": cfg, "nodes": nodes, "edges": written}), encoding="utf-8")
    return path


def _read(path: Path) -> Mapping[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    if not is_graph(fields):
        raise InputError(f"{path}: expected a graph of EAP-IG or MIB, with cfg, nodes and edges")
    return fields


def _edges(fields: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    edges = fields["edges"]
    wrong = not isinstance(edges, dict) or not isinstance(fields["cfg"], dict)
    if wrong or not all(isinstance(entry, dict) for entry in edges.values()):
        raise InputError('edges: expected an object such as {"a0.h0->m0": {"score": 0.1, "in_graph": true}}')
    return list(edges.items())


def _score(name: str, entry: Mapping[str, Any]) -> float | None:
    """The score of an edge; None if it has none, or none that is finite."""
    score = entry.get("score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, (int, float))):
        raise InputError(f"edges: {name}: score: expected a number, got {score!r}")
    return None if score is None or not math.isfinite(score) else float(score)


def _ends(name: str) -> tuple[Node, Node]:
    """Sender and receiver of `a0.h0->a1.h2<q>`; the receiver is an input of a query head."""
    parts = [_NAME.fullmatch(part) for part in name.split("->")]
    if len(parts) != 2 or None in parts:
        raise InputError(f"edges: {name!r} is no edge; they are written input->a0.h0<q>, a0.h0->m0, m0->logits")
    sender, receiver = (_node(match) for match in parts if match)
    if sender.site in ("q", "k", "v", "logits") or receiver.site in ("z", "embed"):
        raise InputError(f"edges: {name!r} runs from an input, or into an output; expected a0.h0->a1.h2<q>")
    return sender, receiver


def _node(match: re.Match[str]) -> Node:
    whole, mlp, layer, head, site = match.groups()
    if layer is not None:
        return Node(site or "z", int(layer), int(head))
    return Node("mlp", int(mlp)) if mlp is not None else Node("embed" if whole == "input" else "logits")


def _written(node: Node) -> str:
    if node.kind.in_layers:
        return f"m{node.layer}" if node.site == "mlp_out" else f"a{node.layer}.h{node.part}"
    return "input" if node.site == "embed" else node.site
