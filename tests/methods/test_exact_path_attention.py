"""Path patching with attention frozen by `q k v` outside the receivers equals the naive passes with hooks, in float64.

Receivers stand in several layers, so that earlier ones act on later ones.
"""

from itertools import product

import numpy as np
import pytest

import unweave as uw
from tests.oracle.both import both
from tests.oracle.models import FAMILIES
from tests.oracle.paths import Path, effect

TOLERANCE = 1e-9
DEEP = ("llama-grouped", "gpt2", "neox-parallel")
RUNS = (("unequal", "ABC", "noise", "live"), ("equal", "swap", "denoise", "frozen"))
CASES = [(name, *RUNS[number % 2]) for number, name in enumerate(DEEP)]
# Heads of layer 0 send, or the embedding; receivers of layer 1 act on those of layer 2.
RECEIVERS = {
    "values": (((1, 0, "v"), (1, 1, "v"), (2, 1, "v")), (("v", 1, 0), ("v", 1, 1), ("v", 2, 1))),
    "all inputs": (
        ((0, 1, "k"), (1, 0, "q"), (1, 0, "k"), (1, 1, "v"), (2, 0, "q"), (2, 1, "k")),
        (("k", 0, 1), ("q", 1, 0), ("k", 1, 0), ("v", 1, 1), ("q", 2, 0), ("k", 2, 1)),
    ),
    "with MLPs": (((1, 1, "v"), "mlp 1", "mlp 2"), (("v", 1, 1), ("mlp_in", 1, None), ("mlp_in", 2, None))),
}
PLACES = [("S2", "end"), ("S1", "S2"), ("S2", "S2"), ("S2", None), (None, "end")]
SENDERS = {
    "embed": (("embed", 0, None),),
    "0.1": (("z", 0, 1),),
    "mlp 0": (("mlp_out", 0, None),),
    "embed + 0.1": (("embed", 0, None), ("z", 0, 1)),
    "0.0 + 1.0 + mlp 1": (("z", 0, 0), ("z", 1, 0), ("mlp_out", 1, None)),  # 1.0 is a receiver, and held
}


def each(cases):
    return pytest.mark.parametrize("case", cases, ids="-".join)


def assert_as_naive(side, got, senders, path, direction):
    for label, sent in senders.items():
        expected = effect(side.hf, side.pair, Path(sent, **path), direction)
        np.testing.assert_allclose(got(label), expected, rtol=0, atol=TOLERANCE, err_msg=label)


@each(CASES)
@pytest.mark.parametrize("receivers", RECEIVERS)
def test_senders_to_receivers_that_act_on_each_other(case, receivers):
    name, lengths, corruption, direction, mlps = case
    side, (ours, theirs) = both(name, lengths, corruption), RECEIVERS[receivers]
    senders = [label.split(" + ") for label in SENDERS]
    got = uw.path_patch(side.contrast, ours, senders, direction=direction, mlps=mlps, attention="qkv")
    path = {"receivers": theirs, "live_mlps": mlps == "live", "attention": "qkv"}
    assert_as_naive(side, lambda label: got.sel(sender=label), SENDERS, path, direction)
    by_z = uw.path_patch(side.contrast, ours, senders, direction=direction, mlps=mlps)
    assert float(abs(got - by_z).max()) > 1e-4


@each(CASES[:2])
@pytest.mark.parametrize("at", PLACES)
def test_at_roles(case, at):
    name, lengths, corruption, direction, mlps = case
    side, (ours, theirs) = both(name, lengths, corruption), RECEIVERS["all inputs"]
    some = {label: SENDERS[label] for label in ("0.1", "embed + 0.1", "0.0 + 1.0 + mlp 1")}
    got = uw.path_patch(
        side.contrast, ours, [label.split(" + ") for label in some], at, direction=direction, mlps=mlps, attention="qkv"
    )
    path = {"receivers": theirs, "sends_at": at[0], "receives_at": at[1], "live_mlps": mlps == "live"}
    assert_as_naive(side, lambda label: got.sel(sender=label), some, {**path, "attention": "qkv"}, direction)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("receivers", ["logits", "heads"])
def test_every_head_in_turn(name, receivers):
    lengths, corruption, direction, _ = RUNS[0]
    side = both(name, lengths, corruption)
    ours, theirs = (
        ("logits", None) if receivers == "logits" else (((0, 1, "v"), (1, 0, "q")), (("v", 0, 1), ("q", 1, 0)))
    )
    got = uw.path_patch(side.contrast, ours, direction=direction, attention="qkv")
    heads = {
        (layer, head): (("z", layer, head),)
        for layer, head in product(got["layer"].values, got["head"].values[[0, -1]])
    }
    path = {"receivers": theirs, "attention": "qkv"}
    assert_as_naive(side, lambda at: got.sel(layer=at[0], head=at[1]), heads, path, direction)


def test_receivers_of_one_layer_do_not_see_each_other_whatever_is_frozen():
    side = both("gpt2", "unequal", "ABC")
    receivers = [(1, 0, "v"), (1, 2, "q"), "mlp 0"]
    by_z, by_qkv = (uw.path_patch(side.contrast, receivers, attention=how) for how in ("z", "qkv"))
    assert (by_z == by_qkv).all()


def test_what_cannot_reach_a_receiver_does_exactly_nothing():
    side = both("llama-grouped", "equal", "swap")
    receivers = [(1, 0, "v"), (2, 1, "q")]
    got = uw.path_patch(side.contrast, receivers, attention="qkv")
    assert (got.sel(layer=2) == 0).all()
    assert (got.sel(layer=1) != 0).any()
    before = uw.path_patch(side.contrast, receivers, at=("end", "S2"), attention="qkv")  # S2 never looks ahead
    late = side.pair.roles["end"] > side.pair.roles["S2"]
    assert (before.values[late] == 0).all()


@pytest.mark.parametrize("receivers", ["all inputs", "with MLPs"])
def test_a_small_budget_gives_the_same_numbers(receivers):
    side = both("llama-grouped", "unequal", "ABC")
    given = {"senders": ["embed", "0.1", ["mlp 0", "1.0"]], "attention": "qkv"}
    free, tight = (uw.path_patch(side.contrast, RECEIVERS[receivers][0], memory=size, **given) for size in (None, 2000))
    np.testing.assert_allclose(free, tight, rtol=0, atol=1e-12)
