"""Circuits that keep edges: made of effects, pruned, tested, and in files; beside runs that compute every receiver."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unweave as uw
from tests.oracle.both import both
from tests.oracle.edge_masks import EdgeMaskRuns
from tests.oracle.edges_reference import edges_reference
from tests.oracle.models import FAMILIES
from tests.small import small_model, small_pair
from unweave.circuits.edge_circuits import mask_of
from unweave.circuits.edge_runs import edge_ablation, masked_scores
from unweave.engine.context import context_of
from unweave.engine.edge_graph import EdgeGraph, Mask, without_dead_ends
from unweave.metrics.contrast import Contrast
from unweave.models.forward import AttentionInputs

SMALL = ("layer", "none", "rotary", "causal none")


def pair_of(kind: str) -> Contrast:
    if kind in FAMILIES:
        return both(kind, "unequal", "ABC").contrast
    return small_pair(small_model(kind), uw.LogitDiff("turn") if kind.startswith("causal") else None)


def naive(pair: Contrast, how: str, metric: uw.metrics.Metric | None = None) -> Callable[[Mask], float]:
    """The mean score of a circuit, from runs that compute every receiver of every layer."""
    pair = pair if metric is None else Contrast(pair.model, pair.prompts, pair.corrupted, metric)
    graph, context = EdgeGraph(pair.model.config), context_of(pair, "noise")
    config, every = pair.model.config, range(len(pair.prompts))
    tokens, lengths = context.recipient.tokens, context.recipient.lengths
    embedded = context.own.values(config, context.weights, [("resid_pre", 0)], every)["resid_pre", 0]
    inputs = AttentionInputs.of(config, context.weights, tokens, lengths)
    runs = EdgeMaskRuns(graph, context.weights, inputs, embedded, edge_ablation(pair, graph, how).values(every))
    rows, read = torch.arange(len(pair.prompts)), pair.prompts.role(pair.metric.role)

    def score(mask: Mask) -> float:
        return float(context.score(runs.streams(mask[None])[0][rows, read], rows).mean())

    return score


@pytest.mark.parametrize("how", ["donor", "zero", "mean"])
@pytest.mark.parametrize("kind", [*FAMILIES, *SMALL])
def test_runs_that_compute_what_edges_bring_are_those_that_compute_everything(kind: str, how: str) -> None:
    pair = pair_of(kind)
    graph, draw = EdgeGraph(pair.model.config), torch.Generator().manual_seed(0)
    masks = [graph.joined & (torch.rand(graph.joined.shape, generator=draw) < share) for share in (0.2, 0.5, 0.9, 1.0)]
    scores = masked_scores(edge_ablation(pair, graph, how), masks).mean(1)
    oracle = naive(pair, how)
    assert float(scores.std()) > 0.01
    np.testing.assert_allclose(scores, [oracle(mask) for mask in masks], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("memory", [1, None])
def test_memory_changes_no_score(memory: int | None) -> None:
    pair = pair_of("llama-grouped")
    graph = EdgeGraph(pair.model.config)
    ablation = edge_ablation(pair, graph)
    mask = mask_of(graph, uw.Circuit.from_edges(uw.edges(pair, "gradient", progress=False), 60))
    scores = masked_scores(ablation, [mask], memory)
    np.testing.assert_allclose(scores.mean(), naive(pair, "donor")(mask), rtol=1e-9)


@pytest.mark.parametrize(
    ("by", "how", "threshold"), [("metric", "donor", 0.03), ("kl", "donor", 1e-3), ("metric", "zero", 0.03)]
)
@pytest.mark.parametrize("kind", [*FAMILIES, "layer"])
def test_pruning_is_one_run_an_edge_from_the_logits_backwards(kind: str, by: str, how: str, threshold: float) -> None:
    pair = pair_of(kind)
    graph = EdgeGraph(pair.model.config)
    score = naive(pair, how, uw.KLToClean(pair.metric.role) if by == "kl" else None)
    scale = 1.0 if by == "kl" else -abs(pair.gap)
    mask, costs = graph.joined.clone(), {}
    now = score(mask) / scale
    for receiver in reversed(range(len(graph.receivers))):
        for sender in mask[:, receiver].nonzero()[:, 0].flip(0).tolist():
            mask[sender, receiver] = False
            loss = score(mask) / scale
            if loss - now < threshold:
                now = loss
            else:
                mask[sender, receiver], costs[sender, receiver] = True, loss - now
    wanted = without_dead_ends(mask, graph.feeds) if how == "donor" else mask
    assert 0 < int(wanted.sum()) < int(graph.joined.sum())
    found = uw.prune(pair, threshold, by, how=how, progress=False)
    assert torch.equal(mask_of(graph, found), wanted)
    expected = [costs[tuple(edge)] for edge in wanted.nonzero().tolist()]
    np.testing.assert_allclose([edge.effect or 0.0 for edge in found.edges], expected, rtol=1e-6, atol=1e-9)


def test_pruning_goes_on_from_a_circuit() -> None:
    pair = pair_of("llama-grouped")
    graph = EdgeGraph(pair.model.config)
    start = uw.Circuit.from_edges(uw.edges(pair, "exact", progress=False), 80, prune=False)
    found = uw.prune(pair, 0.03, "metric", start=start, progress=False)
    left, before = mask_of(graph, found), mask_of(graph, start)
    assert 0 < int(left.sum()) < int(before.sum())
    assert not (left & ~before).any()


def test_what_cannot_be_pruned_is_refused() -> None:
    pair = pair_of("gpt2")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"threshold": 0.0}, "above 0"),
        ({"threshold": "small"}, "threshold: expected a number"),
        ({"threshold": 0.1, "by": "acdc"}, "kl, metric"),
        ({"threshold": 0.1, "start": "pruned.json"}, "start: expected a Circuit"),
        ({"threshold": 1e3, "by": "metric"}, "lower it"),
        ({"threshold": 0.1, "memory": 1}, "fewer or shorter prompts"),
    ]
    for options, says in cases:
        with pytest.raises(uw.InputError, match=says):
            uw.prune(pair, progress=False, **options)


def test_a_circuit_of_the_first_edges() -> None:
    file_pair = pair_of("llama-grouped")
    graph, edges = EdgeGraph(file_pair.model.config), uw.edges(file_pair, "exact", progress=False)
    means = edges.mean("prompt")
    names = means["edge"].values[np.argsort(-np.abs(means.values), kind="stable")]
    whole = uw.Circuit.from_edges(edges, 40, prune=False)
    mask, numbers = mask_of(graph, whole), graph.joined.nonzero().tolist()
    assert whole.keeps == "edges"
    kept = {str(name) for name, edge in zip(edges["edge"].values, numbers, strict=True) if mask[tuple(edge)]}
    assert kept == set(names[:40])
    threshold = float(abs(means.sel(edge=names[39])))
    same = uw.Circuit.from_edges(edges, threshold=threshold, prune=False)
    assert torch.equal(mask_of(graph, same), mask)
    shared = uw.Circuit.from_edges(edges, share=40 / len(names), prune=False)
    assert torch.equal(mask_of(graph, shared), mask)
    pruned = mask_of(graph, uw.Circuit.from_edges(edges, 40))
    assert torch.equal(pruned, without_dead_ends(mask, graph.feeds))
    # signed effects carry the answer: noise takes it away
    best = uw.Circuit.from_edges(edges, 10, by="signed", prune=False)
    assert min(edge.effect or 0.0 for edge in best.edges) > 0
    assert sum(edge.effect or 0.0 for edge in best.edges) == pytest.approx(-float(np.sort(means.values)[:10].sum()))


def test_a_shared_key_is_one_edge_of_the_heads_that_write() -> None:
    pair = pair_of("llama-grouped")
    circuit = uw.Circuit.from_edges(uw.edges(pair, "exact", progress=False), 40)
    writes = {edge.sender for edge in circuit.edges}
    both_read = [edge for edge in circuit.edges if edge.shared]
    assert both_read
    for edge in both_read:
        assert {edge.receiver, *edge.shared} <= writes
        assert edge.input in ("k", "v")
    assert {*circuit.heads} == {node.head for node in writes if node.site == "z"}


def test_the_circuits_of_another_implementation(shared_data: Path) -> None:
    file, pair = edges_reference(shared_data)
    rows = {key: row for key, row in file["edges"]["exact curve"].items() if key.startswith(("topn", "greedy"))}
    edges, graph = uw.edges(pair, "exact", progress=False), EdgeGraph(pair.model.config)
    assert len(rows) == 14
    for key, row in rows.items():
        if not row["kept_after_prune"]:
            continue
        by = {"topn": "size", "greedy": "greedy"}[key.split()[0]]
        circuit = uw.Circuit.from_edges(edges, row["asked"], by=by)
        assert len(circuit.edges) == row["kept_after_prune"]
        score = masked_scores(edge_ablation(pair, graph), [mask_of(graph, circuit)])
        assert float(score.mean()) == pytest.approx(row["logit_diff"], abs=1e-9)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "one of n="),
        ({"n": 10, "share": 0.1}, "one of n="),
        ({"n": 0}, "give 1 to"),
        ({"n": 10**6}, "give 1 to"),
        ({"share": 1.5}, "up to 1"),
        ({"threshold": 50.0}, "the largest has"),
        ({"n": 5, "by": "rank"}, "greedy"),
        ({"n": 2.5}, "give 1 to"),
        ({"threshold": "large"}, "threshold: expected a number"),
        ({"share": "half"}, "share: expected a number"),
    ],
)
def test_circuits_that_cannot_be_made(options: dict, says: str) -> None:
    with pytest.raises(uw.InputError, match=says):
        uw.Circuit.from_edges(uw.edges(pair_of("gpt2"), "gradient", progress=False), **options)


def test_results_that_make_no_circuit_are_refused() -> None:
    pair = pair_of("gpt2")
    results: list[tuple[Any, str]] = [
        (uw.patch(pair, "z", ("layer", "head"), progress=False), "uw.edges"),
        (uw.summary(uw.edges(pair, "gradient", progress=False)), "uw.edges"),
        (uw.edges(pair, "gradient", progress=False).isel(edge=[]), "has none"),
        (uw.edges(pair, "gradient", at="end", progress=False), "all positions"),
        (uw.edges(pair, "gradient", senders=["0.1"], progress=False), "embeddings"),
    ]
    for edges, says in results:
        with pytest.raises(uw.InputError, match=says):
            uw.Circuit.from_edges(edges, 5)


def test_edges_that_the_model_does_not_have_are_refused() -> None:
    pair = pair_of("gpt2")
    group = uw.Group("heads", ((0, 1), (1, 0)), mlps=(0, 1))
    backwards = uw.Edge("1.0", "0.1", "q")
    with pytest.raises(uw.InputError, match="backwards"):
        uw.Circuit((group,), (backwards,))
    for edge, says in ((uw.Edge("0.1", "1.0"), "no input"), (uw.Edge("0.1", "1.0", "q", role="end"), "role")):
        circuit = uw.Circuit((group,), (edge,), keeps="edges")
        with pytest.raises(uw.InputError, match=says):
            uw.evaluate(circuit, pair, progress=False)
    parallel = uw.Circuit((group,), (uw.Edge("0.1", "mlp 0"),), keeps="edges")
    with pytest.raises(uw.InputError, match="backwards"):
        uw.evaluate(parallel, pair_of("neox-parallel"), progress=False)


def test_the_tests_of_a_circuit_of_edges() -> None:
    pair = pair_of("llama-grouped")
    graph = EdgeGraph(pair.model.config)
    circuit = uw.Circuit.from_edges(uw.edges(pair, "exact", progress=False), 60)
    mask, score = mask_of(graph, circuit), naive(pair, "donor")
    found = uw.evaluate(circuit, pair, effort=uw.EvaluationOptions(controls=3, subsets=2), progress=False)
    assert list(found.children) == ["faithfulness", "curve", "completeness"]
    faithful = found["faithfulness"].to_dataset()
    means = faithful["score"].mean("prompt")
    assert float(means.sel(kept="circuit")) == pytest.approx(score(mask))
    assert float(means.sel(kept="nothing")) == pytest.approx(float(pair.corrupted_scores.mean()))
    assert faithful["edges"].values.tolist()[:3] == [int(graph.joined.sum()), len(circuit.edges), 0]
    assert faithful["share"].sel(kept="circuit") == pytest.approx(
        (score(mask) - float(pair.corrupted_scores.mean()))
        / (float(pair.clean_scores.mean() - pair.corrupted_scores.mean()))
    )
    curve = found["curve"].to_dataset()
    assert float(curve["score"].isel(size=-1).mean()) == pytest.approx(score(mask))
    assert float(curve["rest"].isel(size=0).mean()) == pytest.approx(score(mask))
    rest = found["completeness"].to_dataset().sel(removed="the circuit")
    assert float(rest["model"].mean()) == pytest.approx(score(graph.joined & ~mask))


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_every_ablation_of_heads_is_one_of_edges(how: str) -> None:
    pair = pair_of("gpt2")
    graph, circuit = EdgeGraph(pair.model.config), uw.Circuit.from_edges(uw.edges(pair, "exact", progress=False), 50)
    found = uw.evaluate(circuit, pair, how=how, effort=uw.EvaluationOptions(controls=1, subsets=1), progress=False)
    score = float(found["faithfulness"].to_dataset()["score"].sel(kept="circuit").mean())
    assert score == pytest.approx(naive(pair, how)(mask_of(graph, circuit)))
    assert found["faithfulness"].attrs["how"] == how


def test_a_file_gives_the_same_circuit(tmp_path: Path) -> None:
    circuit = uw.Circuit.from_edges(uw.edges(pair_of("llama-grouped"), "exact", progress=False), 40)
    assert uw.Circuit.load(circuit.save(tmp_path / "circuit.json")) == circuit


@pytest.mark.parametrize("kind", ["llama-grouped", "neox-parallel", "causal none"])
def test_graphs_of_eap_ig_are_written_and_read(tmp_path: Path, kind: str) -> None:
    pair = pair_of(kind)
    model, graph = pair.model, EdgeGraph(pair.model.config)
    edges = uw.edges(pair, "gradient", progress=False)
    circuit = uw.Circuit.from_edges(edges, 30)
    path = circuit.save_eap_ig(tmp_path / "graph.json", model, edges)
    fields = json.loads(path.read_text())
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    parallel = model.config.block == "parallel"
    sends = 1
    expected = 0
    for _ in range(n_layers):
        expected += 3 * n_heads * sends + sends + (0 if parallel else n_heads)
        sends += n_heads + 1
    assert len(fields["edges"]) == expected + sends
    assert len(fields["nodes"]) == sends + 1
    assert torch.equal(mask_of(graph, uw.Circuit.load(path)), mask_of(graph, circuit))
    scores = uw.load_edges(path, model)
    np.testing.assert_allclose(scores, edges.mean("prompt").sel(edge=scores["edge"].values), rtol=1e-6)
    again = uw.Circuit.from_edges(scores, 30)
    assert torch.equal(mask_of(graph, again), mask_of(graph, circuit))


@pytest.mark.parametrize(
    ("edges", "says"),
    [
        ({"a0.h0->m9": {"score": 1.0, "in_graph": True}}, "no MLP"),
        ({"m1->a0.h0<q>": {"score": 1.0, "in_graph": True}}, "backwards"),
        ({"a0.h0=>m0": {"score": 1.0, "in_graph": True}}, "is no edge"),
        ({"a0.h0->m0": {"score": 1.0, "in_graph": False}}, "load_edges"),
        ({"a0.h0->m0": True}, "an object"),
        ({"a0.h0->m0": {"score": "high", "in_graph": True}}, "a number"),
    ],
)
def test_graphs_that_are_refused(tmp_path: Path, edges: dict, says: str) -> None:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({"cfg": {"n_layers": 3, "n_heads": 4}, "nodes": {}, "edges": edges}))
    with pytest.raises(uw.InputError, match=says):
        uw.evaluate(uw.Circuit.load(path), pair_of("gpt2"), progress=False)


@pytest.mark.parametrize("direction", ["noise", "denoise"])
@pytest.mark.parametrize("kind", [*FAMILIES, "layer"])
def test_all_edges_of_a_sender_are_its_patch_and_all_into_a_receiver_that_of_its_input(
    kind: str, direction: str
) -> None:
    pair = pair_of(kind)
    graph = EdgeGraph(pair.model.config)
    recipient, donor = (pair.prompts, pair.corrupted) if direction == "noise" else (pair.corrupted, pair.prompts)
    answered = replace(recipient, answers=pair.prompts.answers, wrong=pair.prompts.wrong, roles=pair.prompts.roles)
    turned = Contrast(pair.model, answered, donor, pair.metric)
    senders = [node for node in graph.senders if node.site != "embed"]
    receivers = [node for node in graph.receivers if node.site in ("q", "k", "v")]
    masks = []
    for axis, nodes, numbers in ((0, senders, graph.sender_number), (1, receivers, graph.receiver_number)):
        for node in nodes:
            mask = graph.joined.clone()
            mask.select(axis, numbers[node])[:] = False
            masks.append(mask)
    scores = masked_scores(edge_ablation(turned, graph), masks)
    patched = uw.patch_at(pair, [*senders, *receivers], direction=direction, progress=False)
    assert float(abs(patched).max()) > 0.1
    np.testing.assert_allclose(pair.effect(scores, direction).T, patched, rtol=1e-9, atol=1e-9)
