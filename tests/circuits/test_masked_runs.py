"""Ablated runs equal one plain run a prompt with an edit for each head and position, in float64."""

from collections.abc import Iterable
from functools import partial

import pytest
import torch

from tests.circuits.made import CIRCUIT, made_pair, of_template
from tests.circuits.naive import Naive
from tests.scarce import Products
from tests.tiny import Kind
from unweave.circuits import runs as masked_runs
from unweave.circuits.ablation import NOTHING, Kept, ablation_of
from unweave.circuits.circuit import Circuit, Group
from unweave.circuits.runs import CircuitRuns, MaskedRuns
from unweave.engine.memory import RowBudget
from unweave.nodes import Head

close = partial(torch.testing.assert_close, rtol=0, atol=1e-9)
SETS: list[tuple[Head, ...]] = [
    (),
    ((2, 0),),
    ((0, 1),),
    ((0, 3),),
    ((1, 3), (1, 2), (2, 2)),
    CIRCUIT.heads,
]
FULL = Circuit((Group("all", tuple((layer, head) for layer in range(3) for head in range(4))),))


def rest(heads: Iterable[Head]) -> list[Head]:
    gone = set(heads)
    return [head for head in CIRCUIT.heads if head not in gone]


@pytest.mark.parametrize("templates", [True, False])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_every_subset_equals_naive_edits(kind: Kind, templates: bool) -> None:
    pair = made_pair(kind, templates)
    runs = CircuitRuns(CIRCUIT, ablation_of(CIRCUIT, pair))
    naive = Naive(pair, pair.corrupted, of_template(templates))
    circuit, model = runs.circuit_without(SETS), runs.model_without(SETS)
    for number, heads in enumerate(SETS):
        close(circuit[number], naive.circuit(CIRCUIT, heads))
        close(model[number], naive.model_without(CIRCUIT, heads))
    assert len({round(value, 6) for value in [*circuit.mean(1).tolist(), *model.mean(1).tolist()]}) == 2 * len(SETS)


def test_the_full_circuit_is_the_model() -> None:
    pair = made_pair()
    runs = CircuitRuns(FULL, ablation_of(FULL, pair))
    assert torch.equal(runs.own.values, pair.clean_scores)
    assert torch.equal(runs.whole.values, pair.clean_scores)


def test_the_model_without_every_head_is_the_empty_circuit() -> None:
    pair = made_pair()
    ablation = ablation_of(FULL, pair)
    runs = CircuitRuns(FULL, ablation)
    nothing = MaskedRuns(ablation, NOTHING).values
    close(runs.model_without([FULL.heads])[0], nothing)
    close(runs.circuit_without([FULL.heads])[0], nothing)
    assert (nothing - pair.clean_scores).abs().min() > 1e-3


def test_a_set_is_the_same_from_whichever_base() -> None:
    pair = made_pair("gpt_neox")
    ablation = ablation_of(CIRCUIT, pair)
    masks = [ablation.only(rest(heads)) for heads in SETS]
    for base in (NOTHING, ablation.all_but(()), ablation.only(CIRCUIT.heads)):
        close(MaskedRuns(ablation, base).scores(masks), MaskedRuns(ablation, masks[0]).scores(masks))


def test_what_nothing_leads_from_is_exactly_the_base() -> None:
    """In the last layer only the position that is read matters, and nothing behind it does."""
    pair = made_pair()
    ablation = ablation_of(CIRCUIT, pair)
    runs = MaskedRuns(ablation, ablation.all_but(()))
    before, beyond = torch.zeros(2, *pair.prompts.tokens.shape, dtype=torch.bool)
    before[:, :4] = True
    beyond[1, 5:] = True  # behind the end of a prompt of five tokens
    heads = [(layer, head) for layer in range(3) for head in range(4)]
    early = Kept({head: before for head in heads if head[0] == 2}, inverted=True)
    late = Kept(dict.fromkeys(heads, beyond), inverted=True)
    scores = runs.scores([early, late])
    assert torch.equal(scores[1], pair.clean_scores)
    assert torch.equal(scores[0], pair.clean_scores)


def test_waves_that_hold_little_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = made_pair()
    ablation = ablation_of(CIRCUIT, pair)
    masks = [ablation.only(rest(heads)) for heads in SETS]
    at_once = MaskedRuns(ablation, NOTHING).scores(masks)
    monkeypatch.setattr(masked_runs, "row_budget", lambda *_: RowBudget(9, 4))
    close(MaskedRuns(ablation, NOTHING).scores(masks), at_once)


def test_out_of_memory_is_answered_by_smaller_waves(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = made_pair()
    ablation = ablation_of(CIRCUIT, pair)
    masks = [ablation.only(rest(heads)) for heads in SETS]
    runs = MaskedRuns(ablation, NOTHING)
    at_once = runs.scores(masks)
    with monkeypatch.context() as patched:
        products = Products(patched, rows=20)
        close(runs.scores(masks), at_once)
        assert products.refused
    Products(monkeypatch, rows=0)
    with pytest.raises(torch.OutOfMemoryError):
        runs.scores(masks)


def test_roles_are_each_prompts_own() -> None:
    """The union over prompts keeps more, as the published code that does so."""
    circuit = Circuit((Group("S2", ((0, 1), (1, 1)), ("S2",)),))
    pair = made_pair()
    own, union = ablation_of(circuit, pair), ablation_of(circuit, pair, union=True)
    kept = own.only(circuit.heads).mask(pair, range(5))[0, :, :, 1]
    assert kept.int().argmax(1).tolist() == [4, 2, 3, 3, 5]
    assert kept.sum(1).tolist() == [1] * 5
    assert union.only(circuit.heads).mask(pair, range(5))[0, :, :, 1].sum(1).tolist() == [4] * 5
    assert not torch.allclose(CircuitRuns(circuit, own).own.values, CircuitRuns(circuit, union).own.values, atol=1e-3)


def test_scores_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = made_pair()
    runs = CircuitRuns(CIRCUIT, ablation_of(CIRCUIT, pair))
    asked: list[int] = []
    scores = runs.own.scores
    monkeypatch.setattr(runs.own, "scores", lambda kept, *more: asked.append(len(kept)) or scores(kept, *more))
    first = runs.circuit_without([[(2, 0)], [(2, 0)], [(1, 3)]])
    again = runs.circuit_without([[(1, 3)], [(2, 0)]])
    assert asked == [2, 0]
    assert torch.equal(first[[2, 0]], again)
