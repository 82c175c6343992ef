"""What a study is about: which prompts and roles, what replaces a head, which heads tell position from token."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import unweave as uw
from tests.tiny_folder import write_tiny_folder
from unweave.circuits.circuit import Group
from unweave.models.prompts import Prompts
from unweave.nodes import Edge
from unweave.studies.ioi import IOI, by_order, s_inhibiting
from unweave.studies.plan import Settings
from unweave.studies.subject import Kind, Subject, ask, changed_roles


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(model=str(write_tiny_folder(tmp_path_factory.mktemp("model"))), prompts=4, dtype="float64")


@pytest.fixture(scope="module")
def ioi(settings: Settings) -> Subject:
    return ask(settings, IOI)


def test_a_tasks_own_kind_says_what_is_usual(settings: Settings, ioi: Subject) -> None:
    assert ioi.checked.corrupted.source["corruption"] == "swap"
    assert ioi.paths.corrupted.source["corruption"] == "ABC"
    assert (ioi.checked.prompts.bos, len(ioi.checked.prompts)) == (True, 100)
    other = ask(replace(settings, corruption="random_token", bos=False, seed=3), IOI)
    assert other.pair.corrupted.source["corruption"] == "random_token"
    assert other.paths.corrupted.source["corruption"] == "ABC"
    assert not other.pair.prompts.bos
    assert other.task.prompts.source["seed"] == 3
    plain = ask(settings, Kind())
    assert (plain.checked.corrupted.source["corruption"], len(plain.checked.prompts)) == ("ABC", 4)


def test_means_are_by_template_only_where_there_are_enough_prompts(
    settings: Settings, ioi: Subject, tmp_path: Path
) -> None:
    fill = ioi.replacement
    assert fill.how == "template"
    assert isinstance(fill.reference, Prompts)
    assert len(fill.reference) > len(ioi.paths.prompts)
    assert fill.reference.source["corruption"] == "ABC"
    line = {"clean": "The capital of France is", "corrupted": "The capital of Italy is", "answer": " Paris"}
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(line | {"wrong": " Rome"}), encoding="utf-8")
    pairs = ask(replace(settings, task=str(file)), Kind())
    assert (pairs.replacement.how, pairs.replacement.reference) == ("mean", "corrupted")
    for size, how in ((4, "mean"), (5, "template")):
        alike = replace(pairs.pair.prompts.take([0] * size), groups=torch.zeros(size, dtype=torch.long))
        many = uw.Contrast(pairs.model, alike, pairs.pair.corrupted.take([0] * size), uw.LogitDiff())
        subject = replace(pairs)
        subject.__dict__["paths"] = many
        assert subject.replacement.how == how


def test_roles_before_the_first_change_are_left_aside(ioi: Subject) -> None:
    assert changed_roles(ioi.pair, ("IO", "S1", "S2", "end")) == ["S2", "end"]
    assert changed_roles(ioi.paths, ("start", "IO", "S1", "S2", "end")) == ["IO", "S1", "S2", "end"]


def test_prompts_by_the_order_of_their_names(ioi: Subject) -> None:
    prompts = ioi.checked.prompts
    rows = by_order(prompts)
    assert sorted(row for part in rows.values() for row in part) == list(range(100))
    for row in rows["ABBA: the indirect object named first"]:
        assert prompts.roles["IO"][row] < prompts.roles["S1"][row]


def test_heads_that_act_through_queries_at_the_end_stand_for_s_inhibition() -> None:
    edges = (
        Edge("3.0", "9.0", "q", 0.1, role="end"),
        Edge("4.0", "9.0", "q", 0.3, role="end"),
        Edge("5.0", "9.0", "q", -0.9, role="end"),
        Edge("6.0", "9.0", "v", 0.9, role="end"),
        Edge("7.0", "9.0", "q", 0.9, role="S2"),
    )
    heads = tuple((layer, 0) for layer in (3, 4, 5, 6, 7, 9))
    circuit = uw.Circuit((Group("level 1", heads),), edges)
    assert s_inhibiting(circuit, None, "end") == ["4.0", "3.0"]
    with pytest.raises(uw.InputError, match="none acts through the queries"):
        s_inhibiting(replace(circuit, edges=()), None, "end")
