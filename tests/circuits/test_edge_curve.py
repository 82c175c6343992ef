"""Circuits of edges: against another implementation's figures, and against single edges."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unweave as uw
from tests.oracle.both import both
from tests.oracle.edges_reference import edges_reference
from tests.oracle.models import FAMILIES
from tests.small import small_model, small_pair
from unweave.circuits.edge_runs import edge_ablation, masked_scores
from unweave.engine.edge_graph import EdgeGraph


@pytest.mark.parametrize(("theirs", "how"), [("EAP-IG-inputs curve", "integrated"), ("exact curve", "exact")])
@pytest.mark.parametrize(("name", "by"), [("topn", "size"), ("greedy", "greedy")])
def test_circuits_of_another_implementation(shared_data: Path, theirs: str, how: str, name: str, by: str) -> None:
    file, pair = edges_reference(shared_data)
    rows = {float(key.split()[1]): row for key, row in file["edges"][theirs].items() if key.startswith(name)}
    found = uw.curve(pair, uw.edges(pair, how, progress=False), list(rows), by=by, progress=False)
    assert found["asked"].values.tolist() == [row["asked"] for row in rows.values()]
    assert found["kept"].values.tolist() == [row["kept_after_prune"] for row in rows.values()]
    np.testing.assert_allclose(found.mean("prompt"), [row["logit_diff"] for row in rows.values()], atol=1e-9)


@pytest.mark.parametrize("kind", [*FAMILIES, "layer", "none", "rotary"])
def test_a_circuit_without_one_edge_is_the_model_with_that_edge_noised(kind: str) -> None:
    pair = both(kind, "unequal", "ABC").contrast if kind in FAMILIES else small_pair(small_model(kind))
    graph, exact = EdgeGraph(pair.model.config), uw.edges(pair, "exact", progress=False)
    edges = graph.joined.nonzero()[::9]
    masks = graph.joined.repeat(len(edges) + 2, 1, 1)
    masks[torch.arange(len(edges)), *edges.T] = False
    masks[-1] = False
    scores = masked_scores(edge_ablation(pair, graph), list(masks))
    effects = (scores - pair.clean_scores) / pair.gap
    assert float(effects[:-2].abs().max()) > 0.05
    np.testing.assert_allclose(effects[:-2], exact.values.T[::9], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(scores[-2], pair.clean_scores, rtol=1e-9)
    np.testing.assert_allclose(scores[-1], pair.corrupted_scores, rtol=1e-9)


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_other_ablations(how: str) -> None:
    pair = both("gpt2", "equal", "swap").contrast
    found = uw.curve(pair, uw.edges(pair, "gradient", progress=False), [0.1, 1.0], how=how, progress=False)
    np.testing.assert_allclose(found.sel(share=1.0), pair.clean_scores, rtol=1e-9)
    np.testing.assert_allclose(found["whole"], pair.clean_scores, rtol=1e-9)
    assert float(abs(found["none"] - pair.corrupted_scores.numpy()).max()) > 0.1


def test_areas_are_those_of_the_trapezoids() -> None:
    pair = both("gpt2", "equal", "swap").contrast
    found = uw.curve(pair, uw.edges(pair, "gradient", progress=False), [0.5, 0.1, 1.0], progress=False)
    gap = float(found["whole"].mean() - found["none"].mean())
    f = (found.mean("prompt") - found["none"].mean()) / gap
    x, y = np.array([0.1, 0.5, 1.0]), f.sel(share=[0.1, 0.5, 1.0]).values
    assert found.attrs["cpr"] == pytest.approx(np.trapezoid(y, x))
    assert found.attrs["cpr_low"] < found.attrs["cpr"] < found.attrs["cpr_high"]


def test_what_is_no_edge_is_refused() -> None:
    pair = both("gpt2", "equal", "swap").contrast
    edges = uw.edges(pair, "gradient", progress=False)
    with pytest.raises(uw.InputError, match=r"uw\.edges"):
        uw.curve(pair, uw.patch(pair, "z", ("layer", "head"), progress=False))
    with pytest.raises(uw.InputError, match="no edge"):
        uw.curve(
            pair,
            edges.assign_coords(sender=("edge", [name.replace("mlp 0", "mlp 9") for name in edges["sender"].values])),
        )
    strange: list[Any] = [[0.0], ["half"], []]
    for shares in strange:
        with pytest.raises(uw.InputError, match="shares"):
            uw.curve(pair, edges, shares)
    others: list[Any] = [[], None, [edges]]
    for circuits in others:
        with pytest.raises(uw.InputError, match="edges: expected"):
            uw.curve(pair, circuits)
    with pytest.raises(uw.InputError, match="by"):
        uw.curve(pair, edges, by="rank")
