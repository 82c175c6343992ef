"""Faithfulness, completeness and minimality, against the naive runs and by their definitions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.circuits.made import CIRCUIT, made_pair, made_prompts, of_template
from tests.circuits.naive import Naive
from tests.held import most_held
from tests.tiny import D_VOCAB, Kind, tiny_model
from unweave.circuits.ablation import ablation_of, reference_prompts
from unweave.circuits.circuit import Circuit, Group
from unweave.circuits.completeness import gaps, greedy_search, random_subsets
from unweave.circuits.evaluate import TESTS, EvaluationOptions, evaluate
from unweave.circuits.faithfulness import faithfulness, random_circuits
from unweave.circuits.minimality import minimality, without_for
from unweave.circuits.runs import CircuitRuns
from unweave.circuits.tables import ratio_interval
from unweave.errors import InputError
from unweave.methods.replacement import Replacement
from unweave.metrics import LogitDiff
from unweave.metrics.contrast import Contrast
from unweave.nodes import Head, read_node

MEMORY = 750_000
EFFORT = EvaluationOptions(controls=2, subsets=3, searches=2, steps=2, candidates=2, seed=4)


@pytest.fixture(scope="module")
def pair() -> Contrast:
    return made_pair("gpt2")


@pytest.fixture(scope="module")
def naive(pair: Contrast) -> Naive:
    return Naive(pair, pair.corrupted, of_template())


@pytest.fixture(scope="module")
def score(pair: Contrast) -> xr.DataTree:
    return evaluate(CIRCUIT, pair, effort=EFFORT)


def table_of(score: xr.DataTree, name: str) -> xr.Dataset:
    return score[name].to_dataset()


def heads_of(row: xr.Dataset, dim: str) -> list[Head]:
    return [read_node(name).head for name in row.attrs["members"][row[dim].item()]]


def same(values: xr.DataArray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(values.values, expected.numpy(), rtol=0, atol=1e-9)


def test_faithfulness(score: xr.DataTree, pair: Contrast, naive: Naive) -> None:
    table = table_of(score, "faithfulness")
    own = naive.circuit(CIRCUIT)
    same(table["score"].sel(kept="model"), pair.clean_scores)
    same(table["score"].sel(kept="circuit"), own)
    same(table["score"].sel(kept="nothing"), naive.circuit(CIRCUIT, CIRCUIT.heads))
    row = table.sel(kept="circuit")
    assert float(row.difference) == pytest.approx(float(pair.clean_scores.mean() - own.mean()), abs=1e-12)
    assert float(row.ratio) == pytest.approx(float(own.mean() / pair.clean_scores.mean()), abs=1e-12)
    assert float(row.difference_low) < float(row.difference) < float(row.difference_high)
    assert float(row.ratio_low) < float(row.ratio) < float(row.ratio_high)
    whole = table.sel(kept="model")
    assert [float(whole[name]) for name in ("difference", "difference_low", "ratio")] == [0, 0, 1]
    assert [float(whole[name]) for name in ("ratio_low", "ratio_high")] == pytest.approx([1, 1])
    assert table["heads"].values.tolist() == [12, 6, 0, 6, 6]


def test_neither_number_is_clamped() -> None:
    """Some circuit does more than the model, and some the opposite."""
    pair = made_pair("llama")
    ratios = []
    for other in random_circuits(CIRCUIT, pair.model.config, 12, seed=1):
        runs = CircuitRuns(other, ablation_of(other, pair))
        ratios.append(float(faithfulness(runs, controls=0)["ratio"].sel(kept="circuit")))
    assert max(ratios) > 1
    assert min(ratios) < 0


def test_controls_are_random_circuits_of_the_same_shape(score: xr.DataTree, pair: Contrast, naive: Naive) -> None:
    table = table_of(score, "faithfulness")
    controls = random_circuits(CIRCUIT, pair.model.config, 2, EFFORT.seed)
    for number, other in enumerate(controls, start=1):
        assert [len(group.heads) for group in other.groups] == [len(group.heads) for group in CIRCUIT.groups]
        assert [group.roles for group in other.groups] == [group.roles for group in CIRCUIT.groups]
        row = table.sel(kept=f"random {number}")
        assert sorted(heads_of(row, "kept")) == sorted(other.heads)
        same(row["score"], naive.circuit(other))
    assert controls == random_circuits(CIRCUIT, pair.model.config, 2, EFFORT.seed)
    assert controls != random_circuits(CIRCUIT, pair.model.config, 2, EFFORT.seed + 1)


def test_completeness(score: xr.DataTree, naive: Naive) -> None:
    table = table_of(score, "completeness")
    labels = ["none", "mover", "middle", "everywhere", "random 1", "random 2", "random 3", "greedy 1", "greedy 2"]
    assert table["removed"].values.tolist() == labels
    assert table.attrs["members"]["mover"] == ["1.3", "2.0", "2.2"]
    for label in labels:
        row = table.sel(removed=label)
        removed = heads_of(row, "removed")
        assert int(row["size"]) == len(removed)
        circuit, model = naive.circuit(CIRCUIT, removed), naive.model_without(CIRCUIT, removed)
        same(row["circuit"], circuit)
        same(row["model"], model)
        assert float(row["difference"]) == pytest.approx(float((circuit - model).mean()), abs=1e-9)
        assert float(row["gap"]) == abs(float(row["difference"]))
        assert float(row["difference_low"]) < float(row["difference"]) < float(row["difference_high"])


HEADS = [(layer, head) for layer in range(3) for head in range(4)]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_a_complete_circuit_has_no_gap(kind: Kind) -> None:
    """Where the circuit is the whole model, taking K out of either is the same, and out of all nothing is left."""
    pair, full = made_pair(kind), Circuit((Group("all", tuple(HEADS)),))
    score = evaluate(
        full, pair, effort=EvaluationOptions(controls=0, best=0, subsets=4, searches=1, steps=2, candidates=2)
    )
    table, kept = table_of(score, "completeness"), table_of(score, "faithfulness")["score"]
    assert float(table["gap"].max()) < 1e-12
    assert float(table["model"].std()) > 0.1
    np.testing.assert_array_equal(kept.sel(kept="circuit"), pair.clean_scores)
    np.testing.assert_allclose(table["circuit"].sel(removed="all"), kept.sel(kept="nothing"), rtol=0, atol=1e-9)
    assert float(abs(kept.sel(kept="nothing") - pair.clean_scores.numpy()).min()) > 1e-3


def test_in_the_last_layer_only_what_is_read_matters(pair: Contrast) -> None:
    groups = Group("early", tuple(head for head in HEADS if head[0] < 2)), Group("last", tuple(HEADS[8:]), ("end",))
    score = evaluate(Circuit(groups), pair, effort=EvaluationOptions(controls=0, best=0, subsets=0, searches=0))
    np.testing.assert_array_equal(table_of(score, "faithfulness")["score"].sel(kept="circuit"), pair.clean_scores)


def test_random_subsets() -> None:
    drawn = random_subsets(CIRCUIT.heads, 400, seed=3)
    assert drawn == random_subsets(CIRCUIT.heads, 400, seed=3) != random_subsets(CIRCUIT.heads, 400, seed=4)
    share = np.mean([[head in one for head in CIRCUIT.heads] for one in drawn], axis=0)
    assert (abs(share - 0.5) < 0.1).all()


def test_greedy_search_widens_the_gap_step_by_step(pair: Contrast) -> None:
    runs = CircuitRuns(CIRCUIT, ablation_of(CIRCUIT, pair))
    found = [frozenset[Head]()]
    for steps in (1, 2, 3, 6):
        found += greedy_search(runs, 1, steps, candidates=6, seed=2)
    reached = gaps(runs, found).tolist()
    assert reached == sorted(reached)
    assert reached[-1] > reached[0]
    single = gaps(runs, [frozenset({head}) for head in CIRCUIT.heads])
    assert reached[1] == pytest.approx(max(*single.tolist(), reached[0]), abs=1e-12)
    assert greedy_search(runs, 2, 3, 2, seed=2) == greedy_search(runs, 2, 3, 2, seed=2)


def test_minimality(score: xr.DataTree, pair: Contrast, naive: Naive) -> None:
    table = table_of(score, "minimality")
    assert table["address"].values.tolist() == ["2.0", "1.3", "2.2", "0.1", "1.2", "0.3"]
    for head in CIRCUIT.heads:
        row = table.sel(address=f"{head[0]}.{head[1]}")
        removed = heads_of(row, "address")
        assert set(removed) == set(CIRCUIT.group_of(head).heads) - {head}
        without_k, without_both = naive.circuit(CIRCUIT, removed), naive.circuit(CIRCUIT, [*removed, head])
        same(row["without_k"], without_k)
        same(row["without_both"], without_both)
        share = float((without_k - without_both).mean() / pair.clean_scores.mean())
        assert float(row["share"]) == pytest.approx(share, abs=1e-9)
        assert float(row["change"].mean()) == pytest.approx(share, abs=1e-9)
        assert float(row["size"]) == abs(float(row["share"]))
        assert float(row["share_low"]) <= share <= float(row["share_high"])


def test_minimality_with_sets_k_of_the_circuit(pair: Contrast, naive: Naive) -> None:
    named = replace(CIRCUIT, minimality={(2, 0): (), (0, 1): ((2, 0), (0, 3))})
    assert without_for(named, (2, 0)) == frozenset()
    assert without_for(named, (2, 2)) == {(2, 0), (1, 3)}
    table = minimality(CircuitRuns(named, ablation_of(named, pair)))
    row = table.sel(address="0.1")
    assert heads_of(row, "address") == [(0, 3), (2, 0)]
    same(row["without_both"], naive.circuit(CIRCUIT, [(2, 0), (0, 3), (0, 1)]))


def test_the_interval_of_a_ratio_takes_both_means_together(pair: Contrast) -> None:
    tested = CircuitRuns(CIRCUIT, ablation_of(CIRCUIT, pair)).tested
    rng = np.random.default_rng(0)
    below = torch.tensor(rng.normal(3, 1, 5))
    low, high = ratio_interval(tested, torch.stack([below * 0.7, torch.tensor(rng.normal(1, 1, 5))]), below)
    assert low[0] == pytest.approx(0.7)
    assert high[0] == pytest.approx(0.7)
    assert low[1] < high[1]


def test_clusters_of_prompts_count_in_all_three_tests(pair: Contrast) -> None:
    clusters = torch.tensor([3, 1, 3, 1, 7])
    clustered = Contrast(pair.model, replace(pair.prompts, clusters=clusters), pair.corrupted, LogitDiff())
    options = EvaluationOptions(controls=1, subsets=1, searches=0)
    plain, score = (evaluate(CIRCUIT, one, pair.corrupted, effort=options) for one in (pair, clustered))
    for name in ("faithfulness", "completeness", "minimality"):
        assert (table_of(plain, name).attrs["n_clusters"], table_of(score, name).attrs["n_clusters"]) == (5, 3)
        assert "3 clusters" in table_of(score, name).attrs["interval"]
    for name in ("faithfulness", "completeness"):
        alone, table = (table_of(one, name) for one in (plain, score))
        before, after = ((one["difference_high"] - one["difference_low"]).values for one in (alone, table))
        assert (before > 1e-3).sum() > 1
        assert (np.abs(after[before > 1e-3] / before[before > 1e-3] - 1) > 0.01).all()
    above, below = torch.tensor([[1.0, 2.0, 1.2, 2.5, 1.5]]), torch.tensor([4.0, 4.5, 5.0, 5.5, 4.2])
    tested = [CircuitRuns(CIRCUIT, ablation_of(CIRCUIT, one)).tested for one in (pair, clustered)]
    ends = [ratio_interval(one, above, below) for one in tested]
    assert ends[1][1] - ends[1][0] > 1.1 * (ends[0][1] - ends[0][0])
    assert uw.summary(table_of(score, "faithfulness")["score"]).attrs["n_clusters"] == 3


def test_a_result_is_saved_and_read_back(score: xr.DataTree, tmp_path: Path) -> None:
    again = uw.load(uw.save(score, tmp_path / "score.nc"))
    assert isinstance(again, xr.DataTree)
    for name in TESTS:
        assert table_of(again, name).identical(table_of(score, name))


def test_what_a_result_says(score: xr.DataTree) -> None:
    for name in TESTS:
        attrs = table_of(score, name).attrs
        assert attrs["method"].endswith(name)
        assert attrs["how"] == "template"
        assert "corrupted" in attrs["source"]
        assert attrs["positions"] == "each prompt's own"
        assert attrs["model"] == "tiny gpt2"
        assert "F(" in attrs["convention"]


def test_the_same_seed_gives_the_same_result_and_progress_reaches_its_end(score: xr.DataTree, pair: Contrast) -> None:
    seen: list[tuple[float, float]] = []
    again = evaluate(CIRCUIT, pair, effort=EFFORT, progress=lambda done, total: seen.append((done, total)))
    assert all(table_of(again, name).identical(table_of(score, name)) for name in score.children)
    done = [done for done, _ in seen]
    assert done == sorted(done)
    assert len(done) > 20
    assert {total for _, total in seen} == {done[-1]}


def test_other_reference_prompts(pair: Contrast) -> None:
    reference = made_prompts(13)
    score = evaluate(CIRCUIT, pair, reference, effort=EvaluationOptions(controls=0, subsets=0, searches=0))
    other = Naive(pair, reference, of_template())
    same(table_of(score, "faithfulness")["score"].sel(kept="circuit"), other.circuit(CIRCUIT))
    assert table_of(score, "faithfulness").attrs["source"] == "other prompts"
    assert table_of(score, "completeness")["removed"].values.tolist() == ["none", "mover", "middle", "everywhere"]


def test_zero_ablation(pair: Contrast) -> None:
    ablation = ablation_of(CIRCUIT, pair, "zero")
    assert ablation.about["how"] == "zero"
    edits = [uw.Edit("z", layer, torch.zeros(1)) for layer in range(3)]
    nothing = pair.model.run(pair.prompts, edits=edits).logits_at()
    rows = torch.arange(5)
    expected = nothing[rows, pair.prompts.answers] - nothing[rows, pair.prompts.wrong]
    runs = CircuitRuns(CIRCUIT, ablation)
    torch.testing.assert_close(runs.circuit_without([CIRCUIT.heads])[0], expected, rtol=0, atol=1e-9)


def test_prompts_without_templates_say_so() -> None:
    pair = made_pair(templates=False)
    about = ablation_of(CIRCUIT, pair).about
    assert about["how"] == "mean"
    assert "no templates" in str(about["notes"])


def alone(pair: Contrast) -> Contrast:
    """The same pair; the last prompt is the only one of its template."""
    groups = torch.tensor([0, 1, 0, 1, 2])
    prompts = [replace(side, groups=groups) for side in (pair.prompts, pair.corrupted)]
    return Contrast(pair.model, prompts[0], prompts[1], LogitDiff())


def test_a_template_with_one_prompt_is_refused_or_said(pair: Contrast) -> None:
    single = alone(pair)
    with pytest.raises(InputError, match="template 2 has one prompt"):
        evaluate(CIRCUIT, single)
    about = ablation_of(CIRCUIT, single, Replacement("template", lone="keep")).about
    assert "its mean is the prompt itself" in str(about["notes"])


def test_arguments_that_do_not_fit(pair: Contrast) -> None:
    with pytest.raises(InputError, match="how= has its own"):
        evaluate(CIRCUIT, pair, pair.corrupted, how=Replacement("mean"))
    with pytest.raises(InputError, match="subsets: expected 0 or more"):
        EvaluationOptions(subsets=-1)
    with pytest.raises(InputError, match="12 layers x 12 heads"):
        evaluate(Circuit.published("ioi-gpt2-small"), pair)
    with pytest.raises(InputError, match="role 'IO' is not among"):
        evaluate(Circuit((Group("a", ((0, 0),), ("IO",)),)), pair)
    with pytest.raises(InputError, match="templates"):
        reference_prompts(pair)
    with pytest.raises(InputError, match="expected at least 2"):
        reference_prompts(pair, 1)


def test_one_prompt_has_no_interval() -> None:
    pair = made_pair(templates=False)
    one = Contrast(pair.model, pair.prompts.take([0]), pair.corrupted.take([0]), LogitDiff())
    score = evaluate(CIRCUIT, one, pair.corrupted, effort=EvaluationOptions(controls=0, subsets=1, searches=0))
    assert np.isnan(table_of(score, "faithfulness")["ratio_low"].values).all()
    assert np.isnan(table_of(score, "minimality")["share_high"].values).all()
    assert table_of(score, "faithfulness").attrs["interval"] == "none: one prompt"


def test_a_metric_that_is_0_of_the_model_has_no_shares(pair: Contrast) -> None:
    divergence = Contrast(pair.model, pair.prompts, pair.corrupted, uw.KLToClean())
    with pytest.raises(InputError, match="is 0 on average"):
        evaluate(CIRCUIT, divergence)


def test_an_interrupted_evaluation_keeps_what_was_finished(score: xr.DataTree, pair: Contrast) -> None:
    finished = []
    for share in (0.05, 0.3, 0.6):

        def stop(done: float, total: float, share: float = share) -> None:
            if done >= share * total:
                raise KeyboardInterrupt

        with pytest.raises(uw.Interrupted, match="finished: ") as caught:
            evaluate(CIRCUIT, pair, effort=EFFORT, progress=stop)
        partial = caught.value.partial
        assert isinstance(partial, xr.DataTree)
        assert all(table_of(partial, name).identical(table_of(score, name)) for name in partial.children)
        finished.append([*partial.children])
    assert all(names == ["faithfulness", "curve", "minimality"][: len(names)] for names in finished)
    assert len(set(map(len, finished))) > 1


def test_the_share_above_the_floor(score: xr.DataTree) -> None:
    table = table_of(score, "faithfulness")
    mean = table["score"].mean("prompt")
    floor, whole = (float(mean.sel(kept=name)) for name in ("nothing", "model"))
    for name in ("circuit", "random 1"):
        share = (float(mean.sel(kept=name)) - floor) / (whole - floor)
        assert float(table["share"].sel(kept=name)) == pytest.approx(share, abs=1e-9)
    assert [float(table["share"].sel(kept=name)) for name in ("nothing", "model")] == pytest.approx([0, 1])
    own = table.sel(kept="circuit")
    assert float(own.share_low) < float(own.share) < float(own.share_high)


@pytest.mark.parametrize("how", ["mean", "template", "resample"])
def test_whose_values_replace_heads(pair: Contrast, how: str) -> None:
    few = EvaluationOptions(controls=0, subsets=0, searches=0, best=0)
    scores = {}
    for source in (None, "corrupted", "clean"):
        table = table_of(evaluate(CIRCUIT, pair, how=how, source=source, effort=few), "faithfulness")
        assert table.attrs["how"] == how
        assert table.attrs["source"] == (source or "corrupted")
        scores[source] = table["score"].sel(kept="circuit").values
    np.testing.assert_array_equal(scores[None], scores["corrupted"])
    assert np.abs(scores["clean"] - scores["corrupted"]).max() > 1e-3


def test_sources_that_do_not_fit(pair: Contrast) -> None:
    with pytest.raises(InputError, match="source"):
        evaluate(CIRCUIT, pair, source="both")
    with pytest.raises(InputError, match="source"):
        evaluate(CIRCUIT, pair, pair.corrupted, source="clean")
    with pytest.raises(InputError, match="source"):
        evaluate(CIRCUIT, pair, how=Replacement("mean"), source="clean")


@pytest.mark.parametrize("how", ["mean", "template", "resample"])
def test_batches_of_prompts_give_the_same(pair: Contrast, how: str) -> None:
    few = EvaluationOptions(controls=1, subsets=1, searches=0, best=1)
    at_once, batches = (evaluate(CIRCUIT, pair, how=how, effort=few, memory=memory) for memory in (10**9, 1))
    for name in TESTS:
        for column, values in table_of(at_once, name).data_vars.items():
            np.testing.assert_allclose(table_of(batches, name)[column], values, rtol=0, atol=1e-9)


def test_what_is_held_stays_within_the_memory() -> None:
    tokens = torch.randint(0, D_VOCAB, (2, 12, 32), generator=torch.Generator().manual_seed(0))
    clean, corrupted = (uw.Prompts.from_tokens(side, [1] * 12, [2] * 12) for side in tokens)
    pair = Contrast(tiny_model("llama"), clean, corrupted, LogitDiff())
    circuit = Circuit((Group("some", ((2, 0), (1, 3), (0, 1)), ("end",)),))
    few = EvaluationOptions(controls=0, subsets=0, searches=0, best=0)

    def held(memory: int) -> int:
        return most_held(lambda: evaluate(circuit, pair, how="mean", effort=few, memory=memory))

    assert held(10**9) > 3 * MEMORY
    assert held(MEMORY) < 1.5 * MEMORY


def test_roles_at_one_position_are_one_place(pair: Contrast) -> None:
    """A head that counts at two roles counts once where they coincide, in the circuit and in random ones."""
    same = {"T2": pair.prompts.roles["S2"]}
    sides = [replace(side, roles={**side.roles, **same}) for side in (pair.prompts, pair.corrupted)]
    both = Contrast(pair.model, sides[0], sides[1], LogitDiff())
    few = EvaluationOptions(controls=2, subsets=0, searches=0)
    found = [
        table_of(evaluate(Circuit((Group("a", ((0, 1), (1, 2)), roles),)), both, effort=few), "faithfulness")["score"]
        for roles in (("S2",), ("S2", "T2"))
    ]
    np.testing.assert_array_equal(found[0], found[1])
