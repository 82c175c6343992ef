"""The curve of faithfulness: the best heads first, chosen on one half of the prompts and measured on the other."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.circuits.naive import Naive
from tests.circuits.test_sketch import pair as sketch_pair
from unweave.circuits.ablation import ablation_of
from unweave.circuits.circuit import Circuit, Group
from unweave.circuits.evaluate import EvaluationOptions, evaluate
from unweave.circuits.faithfulness import EVERY_SIZE, ordered, sizes_of
from unweave.circuits.halves import halves
from unweave.circuits.runs import CircuitRuns
from unweave.nodes import Head, read_node

N = 12
CIRCUIT = Circuit(
    (Group("last", ((2, 0), (2, 3), (1, 3), (1, 0)), ("end",)), Group("early", ((0, 2), (0, 3)), ("S2",)))
)
EVERY = {row: list(range(N)) for row in range(N)}


@pytest.fixture(scope="module")
def pair() -> uw.Contrast:
    return sketch_pair("gpt2", N)


@pytest.fixture(scope="module")
def naive(pair: uw.Contrast) -> Naive:
    return Naive(pair, pair.corrupted, EVERY)


def curve_of(pair: uw.Contrast, circuit: Circuit = CIRCUIT, best: int = 3) -> xr.Dataset:
    effort = EvaluationOptions(controls=0, subsets=0, searches=0, best=best)
    return evaluate(circuit, pair, effort=effort, progress=False)["curve"].to_dataset()


def test_scores_are_those_of_the_first_heads_and_of_the_others(pair: uw.Contrast, naive: Naive) -> None:
    table, measured = curve_of(pair), halves(pair.prompts)[1]
    assert table["size"].values.tolist() == list(range(7))
    for size in range(7):
        row = table.sel(size=size)
        first = [read_node(name).head for name in table.attrs["members"][str(size)]]
        assert len(first) == size
        rest = [head for head in CIRCUIT.heads if head not in first]
        only, without = naive.circuit(CIRCUIT, rest)[measured], naive.circuit(CIRCUIT, first)[measured]
        np.testing.assert_allclose(row["score"][measured], only, rtol=0, atol=1e-9)
        np.testing.assert_allclose(row["rest"][measured], without, rtol=0, atol=1e-9)
        whole = pair.clean_scores[measured].mean()
        assert float(row["ratio"]) == pytest.approx(float(only.mean() / whole), abs=1e-9)
        assert float(row["rest_ratio"]) == pytest.approx(float(without.mean() / whole), abs=1e-9)
    assert float(table["share"].sel(size=0)) == pytest.approx(0, abs=1e-12)


def test_what_chose_the_order_is_not_measured(pair: uw.Contrast) -> None:
    table = curve_of(pair)
    chosen, measured = halves(pair.prompts)
    assert np.isnan(table["score"].values[chosen]).all()
    assert np.isfinite(table["score"].values[measured]).all()
    assert (table.attrs["chosen_on"], table.attrs["measured_on"]) == (len(chosen), len(measured))


@pytest.mark.parametrize("metric", [uw.LogitDiff(), uw.CrossEntropy()], ids=["higher", "lower"])
def test_the_head_that_helps_most_joins_first(pair: uw.Contrast, metric: object) -> None:
    asked = uw.Contrast(pair.model, pair.prompts, pair.corrupted, metric)  # type: ignore[arg-type]
    good = 1 if metric.higher_is_better else -1  # type: ignore[attr-defined]
    runs = CircuitRuns(CIRCUIT, ablation_of(CIRCUIT, asked))
    order, chosen = ordered(runs, len(CIRCUIT.heads)), list(runs.chosen)
    for size in range(len(order)):
        tried = [[*order[:size], head] for head in order[size:]]
        score = good * runs.only(tried)[:, chosen].mean(1)
        assert int(score.argmax()) == 0
    assert set(order) == set(CIRCUIT.heads)


def test_sizes_go_from_none_to_all() -> None:
    assert sizes_of(3) == [0, 1, 2, 3]
    many = sizes_of(270)
    assert many[: EVERY_SIZE + 1] == list(range(EVERY_SIZE + 1))
    assert many[-1] == 270
    assert all(one < other for one, other in pairwise(many))
    assert len(many) <= 2 * EVERY_SIZE + 1


@pytest.mark.parametrize("heads", [((2, 0),), tuple((layer, head) for layer in range(3) for head in range(4))])
def test_circuits_of_one_head_and_of_all(pair: uw.Contrast, heads: tuple[Head, ...]) -> None:
    table = curve_of(pair, Circuit((Group("a", heads, "all" if len(heads) > 1 else ("end",)),)))
    assert int(table["size"][-1]) == len(heads)
    assert float(table["rest_share"][0]) == pytest.approx(float(table["share"][-1]), abs=1e-9)
    if len(heads) > 1:
        assert float(table["ratio"][-1]) == pytest.approx(1, abs=1e-9)


def test_few_prompts_choose_and_measure_and_the_result_says_so() -> None:
    few = sketch_pair("gpt2", 5)
    table = curve_of(few)
    assert np.isfinite(table["score"].values).all()
    assert table.attrs["halves"] == "the same prompts"
