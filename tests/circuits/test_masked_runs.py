"""Ablated runs: in small waves, each prompt's own roles, and no score twice. What they give is in `test_evaluate`."""

from collections.abc import Iterable
from functools import partial

import pytest
import torch

from tests.circuits.made import CIRCUIT, made_pair
from unweave.circuits import masked_runs
from unweave.circuits.ablation import NOTHING, ablation_of
from unweave.circuits.circuit import Circuit, Group
from unweave.circuits.masked_runs import MaskedRuns
from unweave.circuits.runs import CircuitRuns
from unweave.engine.memory import Room
from unweave.engine.recording import Recording
from unweave.engine.wavefront import EditInFlight, Wavefront
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


def rest(heads: Iterable[Head]) -> list[Head]:
    gone = set(heads)
    return [head for head in CIRCUIT.heads if head not in gone]


def test_waves_that_hold_little_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = made_pair()
    ablation = ablation_of(CIRCUIT, pair)
    masks = [ablation.only(rest(heads)) for heads in SETS]
    at_once = MaskedRuns(ablation, NOTHING).scores(masks)
    monkeypatch.setattr(masked_runs, "room_within", lambda *_: Room(9, 4))
    close(MaskedRuns(ablation, NOTHING).scores(masks), at_once)


def test_out_of_memory_is_answered_by_smaller_waves(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = made_pair()
    ablation = ablation_of(CIRCUIT, pair)
    masks = [ablation.only(rest(heads)) for heads in SETS]
    runs = MaskedRuns(ablation, NOTHING)
    at_once, asked, most = runs.scores(masks), [], 20

    def scarce(recording: Recording, room: Room, edit: EditInFlight) -> Wavefront:
        asked.append(room.rows)
        if room.rows > most:
            raise MemoryError
        return Wavefront(recording, room, edit=edit)

    monkeypatch.setattr(masked_runs, "Wavefront", scarce)
    close(runs.scores(masks), at_once)
    assert max(asked) > most >= min(asked)
    most = 1
    with pytest.raises(MemoryError):
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
    monkeypatch.setattr(runs.own, "scores", lambda kept, of: asked.append(len(kept)) or scores(kept, of))
    first = runs.circuit_without([[(2, 0)], [(2, 0)], [(1, 3)]])
    again = runs.circuit_without([[(1, 3)], [(2, 0)]])
    assert asked == [2, 0]
    assert torch.equal(first[[2, 0]], again)
