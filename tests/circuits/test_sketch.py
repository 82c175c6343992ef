"""Sketches: what is kept is what path patching says, level by level."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import unweave as uw
from tests.tiny import D_VOCAB, N_HEADS, N_LAYERS, Kind, tiny_model
from unweave.circuits.halves import halves
from unweave.circuits.senders import Senders
from unweave.circuits.sketch import SketchOptions, own_roles, sketch
from unweave.nodes import Node

LOOSE = SketchOptions(threshold=0.001, edge_threshold=0.0, attends=0.0, levels=3)


# Seeds of models, and tokens before and after, with which heads matter in the same direction in most random prompts.
TELLING = {"llama": (2, 2, 9), "gpt2": (1, 13, 6), "gpt_neox": (2, 2, 9)}


def pair(kind: Kind = "llama", n: int = 24) -> uw.Contrast:
    """Random prompts with one token in the third place, and another one there in the corrupted ones."""
    seed, before, after = TELLING[kind]
    clean = torch.randint(0, D_VOCAB, (n, 6), generator=torch.Generator().manual_seed(3))
    clean[:, 2] = before
    other = clean.clone()
    other[:, 2] = after
    roles = {"S1": [0] * n, "S2": [2] * n, "S2+0": [2] * n}
    prompts = uw.Prompts.from_tokens(clean, answers=[1] * n, wrong=[5] * n, roles=roles)
    return uw.Contrast(tiny_model(kind, seed=seed), prompts, uw.Prompts.from_tokens(other, roles=roles), uw.LogitDiff())


def half(asked: uw.Contrast, which: int) -> uw.Contrast:
    """The prompts that choose (0), or those that effects are measured on (1)."""
    at = halves(asked.prompts)[which]
    return uw.Contrast(asked.model, asked.prompts.take(at), asked.corrupted.take(at), asked.metric)


@pytest.fixture(scope="module")
def loose() -> uw.Circuit:
    """The sketch of `pair()` that keeps nearly everything."""
    return sketch(pair(), LOOSE)


def kept(table, threshold):
    rows = uw.summary(table)
    told = (rows["p"] <= 0.05) & (abs(rows["mean"]) >= threshold)
    return {(layer, head) for layer in range(N_LAYERS) for head in range(N_HEADS) if told.sel(layer=layer, head=head)}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_level_1_are_the_heads_with_a_direct_effect(kind):
    asked = pair(kind)
    circuit = sketch(asked, SketchOptions(threshold=0.01, levels=1))
    direct = kept(uw.path_patch(half(asked, 0), at="end"), 0.01)
    assert direct
    assert set(circuit.heads) == direct
    assert {edge.receiver.short for edge in circuit.edges} == {"logits"}


def test_the_next_level_acts_through_the_last():
    asked = pair("gpt2", 24)
    one, two = (sketch(asked, SketchOptions(0.001, 0.0, 0.05, 0.0, levels)) for levels in (1, 2))
    assert set(one.heads) < set(two.heads)
    last = {kind: [(layer, head, kind) for layer, head in one.heads] for kind in ("k", "v")}
    chosen = half(asked, 0)
    through = set().union(*(kept(uw.path_patch(chosen, receivers, at="S2"), 0.001) for receivers in last.values()))
    assert through
    assert through <= set(two.heads)


def test_an_edge_is_the_share_that_its_path_alone_carries(loose):
    edge = next(edge for edge in loose.edges if edge.receiver.site != "logits")
    layer, head = edge.receiver.head
    number = head if edge.input == "q" else head // 2  # two heads share a key/value head
    alone = uw.path_patch(half(pair(), 1), [(layer, number, edge.input)], [edge.sender], edge.role)
    # Of prompts that score better when they are corrupted, the path that is for the answer has the other sign.
    assert edge.effect == pytest.approx(-np.sign(half(pair(), 1).gap) * float(alone.mean()), abs=1e-12)
    assert edge.effect is not None
    assert (edge.low is None) == (edge.high is None)
    bounded = [one for one in loose.edges if one.low is not None]
    assert all(one.low <= one.effect <= one.high for one in bounded)


def test_edges_run_from_earlier_layers_to_later_ones_within_the_circuit(loose):
    layers = {f"{layer}.{head}": layer for layer, head in loose.heads} | {"logits": N_LAYERS}
    assert {edge.receiver.short for edge in loose.edges} > {"logits"}
    assert all(layers[edge.sender.short] < layers[edge.receiver.short] for edge in loose.edges)


def test_a_head_stands_in_one_group_with_all_its_roles(loose):
    roles = {role for group in loose.groups for role in group.roles}
    assert "end" in roles
    assert "S2" in roles
    assert "S2+0" not in roles  # the same positions as S2
    assert "S1" not in roles  # before anything differs


def test_the_same_prompts_give_the_same_sketch():
    rules = replace(LOOSE, levels=1)
    assert sketch(pair(), rules) == sketch(pair(), rules)


def test_a_threshold_that_nothing_reaches_says_what_was_there():
    with pytest.raises(uw.InputError, match=r"900\.0%.*largest"):
        sketch(pair(), SketchOptions(threshold=9.0))


def test_one_prompt_tells_nothing_from_0():
    with pytest.raises(uw.InputError, match="1 prompt is too few"):
        sketch(pair(n=1))


def test_a_role_that_the_task_lacks():
    with pytest.raises(uw.InputError, match="role 'IO' is not among"):
        sketch(pair(), roles=["IO"])


def test_an_interrupt_keeps_the_levels_found(loose, monkeypatch):
    calls, likely = [], Senders.likely

    def stopped(self, *args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return likely(self, *args)

    monkeypatch.setattr(Senders, "likely", stopped)
    with pytest.raises(uw.Interrupted) as caught:
        sketch(pair(), LOOSE)
    partial = caught.value.partial
    assert isinstance(partial, uw.Circuit)
    assert set(partial.heads) < set(loose.heads)


def test_what_supports_the_answer_and_what_speaks_against_it_are_followed_apart(monkeypatch):
    asked, followed = pair("gpt2"), []

    likely = Senders.likely

    def kept(self, receivers, role):
        followed.append({node.head for node in receivers})
        return likely(self, receivers, role)

    monkeypatch.setattr(Senders, "likely", kept)
    circuit = sketch(asked, SketchOptions(0.001, 0.0, 0.05, 0.0, levels=2))
    direct = {edge.sender.short: (edge.effect or 0.0) > 0 for edge in circuit.edges if edge.receiver.site == "logits"}
    signs = [{direct[f"{layer}.{head}"] for layer, head in receivers} for receivers in followed]
    assert {True} in signs
    assert {False} in signs
    assert {True, False} not in signs


BEFORE = [(layer, head) for layer in range(2) for head in range(N_HEADS)]


def test_all_heads_before_the_receivers_are_likely_without_a_screen():
    receivers = [Node("k", 2, 0), Node("k", 1, 1)]
    assert Senders(pair(n=6)).likely(receivers, "S2") == BEFORE


@pytest.mark.parametrize("metric", [uw.KLToClean(), uw.Rank()])
def test_a_gradient_that_says_nothing_screens_nothing(metric):
    asked = pair("gpt2", n=6)
    asked = uw.Contrast(asked.model, asked.prompts, asked.corrupted, metric)
    assert Senders(asked, 0.5).likely([Node("k", 2, 0)], "S2") == BEFORE


def test_prompts_without_a_gradient_screen_nothing():
    asked = pair(n=6)
    part = uw.Custom(lambda logits, prompts: (logits[:, 0] - logits[:, 1]) * (prompts.groups == 0), "part")
    clean = replace(asked.prompts, groups=torch.tensor([1, 0, 0, 0, 0, 0]))
    asked = uw.Contrast(asked.model, clean, asked.corrupted, part)
    assert Senders(asked, 0.5).likely([Node("k", 2, 0)], "S2") == BEFORE
    counts = {"S2": clean.groups == 0}
    assert len(Senders(asked, 0.5, own=counts).likely([Node("k", 2, 0)], "S2")) < len(BEFORE)


@pytest.mark.parametrize(("kind", "threshold"), [("llama", 0.1), ("gpt2", 0.02), ("gpt_neox", 0.02)])
def test_a_screen_leaves_the_sketch_as_it_is(kind, threshold, monkeypatch):
    tried, likely = [], Senders.likely

    def counted(self, *args):
        tried.append(likely(self, *args))
        return tried[-1]

    monkeypatch.setattr(Senders, "likely", counted)
    screened = sketch(pair(kind), SketchOptions(threshold, attends=0.0))
    few = sum(map(len, tried))
    tried.clear()
    whole = sketch(pair(kind), SketchOptions(threshold, attends=0.0, screen=0))
    assert 0 < few < 0.8 * sum(map(len, tried))
    assert len(whole.heads) > 3
    assert screened.groups == whole.groups
    assert [edge.effect for edge in screened.edges] == pytest.approx([edge.effect for edge in whole.edges], abs=1e-12)


def with_role(asked: uw.Contrast, role: str, at: list[int]) -> uw.Contrast:
    """The pair with another role."""
    sides = [replace(side, roles={**side.roles, role: torch.tensor(at)}) for side in (asked.prompts, asked.corrupted)]
    return uw.Contrast(asked.model, sides[0], sides[1], asked.metric)


def test_roles_at_one_position_are_counted_once():
    asked = pair("gpt2", 16)
    even = torch.arange(16) % 2 == 0
    other = with_role(asked, "S2-1", torch.where(even, 2, 0).tolist())  # S2 itself, or before anything differs
    assert set(own_roles(other)) == {"S2", "end"}
    assert sketch(other, LOOSE).groups == sketch(asked, LOOSE).groups
    mixed = with_role(asked, "X", torch.where(even, 2, 3).tolist())
    own = own_roles(mixed)
    assert own["S2"].all()
    assert torch.equal(own["X"], ~even)
    assert set(own_roles(with_role(asked, "last", [5] * 16))) == {"S2", "end"}  # where the metric reads


def test_an_edge_at_a_role_is_of_the_prompts_where_it_stands_alone():
    even = torch.arange(8) % 2 == 0
    asked = with_role(pair("gpt2", 8), "X", torch.where(even, 2, 3).tolist())
    everything = SketchOptions(0.0, 0.0, 1.0, 0.0, levels=2, screen=0)
    found = [edge for edge in sketch(asked, everything).edges if edge.role == "X" and edge.input == "v"]
    assert found
    measured = halves(asked.prompts)[1]
    for edge in found[:2]:
        layer, head = edge.receiver.head
        alone = uw.path_patch(half(asked, 1), [(layer, head, "v")], [edge.sender], "X").values[:, 0]
        counts = ~even[measured].numpy()
        assert abs(alone[~counts]).max() > 0
        assert edge.effect == pytest.approx(-float(np.where(counts, alone, 0).mean()), abs=1e-12)


def test_shared_keys_and_values_receive_once(loose):
    circuit = loose
    share = N_HEADS // 2
    inputs = [(edge, *edge.receiver.head) for edge in circuit.edges if edge.input in ("k", "v")]
    assert inputs
    paths = [(edge.sender, layer, head // share, edge.input, edge.role) for edge, layer, head in inputs]
    assert len(paths) == len(set(paths))
    assert any(edge.shared for edge, *_ in inputs)
    for edge, layer, head in inputs:
        for other in edge.shared:
            there, number = other.head
            assert (there, number // share) == (layer, head // share)
    assert all(not edge.shared for edge in circuit.edges if edge.input in ("", "q"))


def test_levels_are_split_by_sign():
    asked = pair("gpt2", 24)
    circuit = sketch(asked, SketchOptions(0.001, 0.0, 0.05, 0.0, levels=1))
    direct = uw.path_patch(half(asked, 0), at="end").mean("prompt")
    signs = {}
    for group in circuit.groups:
        against = " against" in group.name
        signs[against] = [float(direct.sel(layer=layer, head=head)) for layer, head in group.heads]
    assert max(signs[False]) < 0 < min(signs[True])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_good_direction_of_the_metric_says_what_supports_the_answer(kind):
    asked = pair(kind)
    lower = uw.Contrast(asked.model, asked.prompts, asked.corrupted, uw.CrossEntropy())
    higher = uw.Contrast(asked.model, asked.prompts, asked.corrupted, uw.LogProb())
    one, other = (sketch(each, SketchOptions(0.01, levels=1)) for each in (lower, higher))
    assert one.groups == other.groups
    assert float(one.attrs["gap"]) == pytest.approx(-float(other.attrs["gap"]))
    assert [edge.effect for edge in one.edges] == pytest.approx([edge.effect for edge in other.edges])


def test_a_circuit_says_where_it_was_chosen_and_where_measured(loose):
    attrs = loose.attrs
    assert (attrs["chosen_on"], attrs["measured_on"]) == (12, 12)
    assert attrs["gap"] == pytest.approx(half(pair(), 1).gap)
    few = sketch(pair("gpt2", n=6), SketchOptions(0.0, 0.0, 1.0, levels=1))
    assert (few.attrs["chosen_on"], few.attrs["measured_on"]) == (6, 6)
    assert few.attrs["halves"] == "the same prompts"
