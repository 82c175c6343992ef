"""Path patching equals three naive passes of the reference model with hooks, in float64; and its sum rules hold."""

from itertools import product

import numpy as np
import pytest

import unweave as uw
from tests.oracle.both import both
from tests.oracle.models import FAMILIES
from tests.oracle.paths import Path, effect

TOLERANCE = 1e-9
RUNS = (("unequal", "ABC", "noise"), ("equal", "swap", "denoise"))
CASES = [(name, *RUNS[number % 2]) for number, name in enumerate(FAMILIES)]
RECEIVERS = {
    "logits": ("logits", None),
    "values": ([(1, 0, "v"), (1, 1, "v")], (("v", 1, 0), ("v", 1, 1))),
    "mixed": ([(1, 0, "q"), (1, 1, "k"), (0, 1, "v")], (("q", 1, 0), ("k", 1, 1), ("v", 0, 1))),
    "mlp": (["mlp 1"], (("mlp_in", 1, None),)),
    "both": (["mlp 0", (1, 1, "q")], (("mlp_in", 0, None), ("q", 1, 1))),
    "in a row": ([(0, 1, "v"), "mlp 0", (1, 0, "v")], (("v", 0, 1), ("mlp_in", 0, None), ("v", 1, 0))),
}
PLACES = [(None, None), ("S2", "end"), ("end", "end"), ("S2", None), (None, "end"), ("S2", "S2"), (None, "S1")]


def each(cases):
    return pytest.mark.parametrize("case", cases, ids="-".join)


@each(CASES)
@pytest.mark.parametrize(
    ("receivers", "mlps"),
    [
        ("logits", "live"),
        ("logits", "frozen"),
        ("values", "live"),
        ("mixed", "frozen"),
        ("mlp", "live"),
        ("both", "live"),
    ],
)
def test_every_head_to_receivers(case, receivers, mlps):
    name, lengths, corruption, direction = case
    side = both(name, lengths, corruption)
    ours, theirs = RECEIVERS[receivers]
    got = uw.path_patch(side.contrast, ours, direction=direction, mlps=mlps)
    for layer, head in product(range(got.sizes["layer"]), (0, got.sizes["head"] - 1)):
        path = Path((("z", layer, head),), theirs, live_mlps=mlps == "live")
        expected = effect(side.hf, side.pair, path, direction)
        np.testing.assert_allclose(got.sel(layer=layer, head=head), expected, rtol=0, atol=TOLERANCE)
    assert float(abs(got).max()) > 1e-3


@pytest.mark.parametrize(("case", "receivers"), [(CASES[0], "in a row"), (CASES[3], "mixed")], ids=["grouped", "neox"])
@pytest.mark.parametrize(("sends", "receives"), PLACES)
def test_at_roles(case, receivers, sends, receives):
    name, lengths, corruption, direction = case
    side = both(name, lengths, corruption)
    ours, theirs = RECEIVERS[receivers]
    senders = {"embed": ("embed", 0, None), "0.0": ("z", 0, 0), "0.1": ("z", 0, 1), "1.0": ("z", 1, 0)}
    got = uw.path_patch(side.contrast, ours, list(senders), (sends, receives), direction=direction)
    for label, sender in senders.items():
        expected = effect(side.hf, side.pair, Path((sender,), theirs, sends, receives), direction)
        np.testing.assert_allclose(got.sel(sender=label), expected, rtol=0, atol=TOLERANCE, err_msg=label)


SENDERS = {
    "embed": (("embed", 0, None),),
    "mlp 0": (("mlp_out", 0, None),),
    "0.1": (("z", 0, 1),),
    "0.1 + 0.2": (("z", 0, 1), ("z", 0, 2)),
    "0.1 + mlp 0": (("z", 0, 1), ("mlp_out", 0, None)),
    "embed + mlp 0 + 0.0": (("embed", 0, None), ("mlp_out", 0, None), ("z", 0, 0)),
}


@each(CASES)
@pytest.mark.parametrize(
    ("receivers", "mlps"), [("logits", "live"), ("logits", "frozen"), ("mixed", "live"), ("both", "frozen")]
)
def test_other_senders_and_several_at_once(case, receivers, mlps):
    name, lengths, corruption, direction = case
    side = both(name, lengths, corruption)
    ours, theirs = RECEIVERS[receivers]
    several = [label.split(" + ") for label in SENDERS]
    got = uw.path_patch(side.contrast, ours, several, direction=direction, mlps=mlps)
    assert got.sender.values.tolist() == list(SENDERS)
    for label, senders in SENDERS.items():
        path = Path(senders, theirs, live_mlps=mlps == "live")
        expected = effect(side.hf, side.pair, path, direction)
        np.testing.assert_allclose(got.sel(sender=label), expected, rtol=0, atol=TOLERANCE, err_msg=label)


@each(CASES[:2])
@pytest.mark.parametrize("mlps", ["live", "frozen"])
def test_mlps_in_turn(case, mlps):
    name, lengths, corruption, direction = case
    side = both(name, lengths, corruption)
    got = uw.path_patch(side.contrast, senders="mlps", direction=direction, mlps=mlps)
    for layer in range(got.sizes["layer"]):
        path = Path((("mlp_out", layer, None),), None, live_mlps=mlps == "live")
        np.testing.assert_allclose(
            got.sel(layer=layer), effect(side.hf, side.pair, path, direction), rtol=0, atol=TOLERANCE
        )


@each(CASES)
def test_everything_at_once_on_all_direct_edges_is_the_whole_change(case):
    """Every part of the stream sent at once, nothing recomputed: the sum of all changes is the donor's stream."""
    name, lengths, corruption, direction = case
    side = both(name, lengths, corruption)
    config = side.contrast.model.config
    heads = list(product(range(config.n_layers), range(config.n_heads)))
    all_parts = [["embed", *heads, *(f"mlp {layer}" for layer in range(config.n_layers))]]
    end = 1 if direction == "denoise" else -1
    for mlps in ("live", "frozen"):
        whole = uw.path_patch(side.contrast, senders=all_parts, direction=direction, mlps=mlps)
        assert whole.mean().item() == pytest.approx(end, abs=1e-9)


@each(CASES)
def test_a_sender_after_all_receivers_does_exactly_nothing(case):
    name, lengths, corruption, direction = case
    side = both(name, lengths, corruption)
    got = uw.path_patch(side.contrast, [(1, 0, "v"), (1, 2, "q")], direction=direction)
    assert (got.sel(layer=slice(1, None)) == 0).all()
    assert (got.sel(layer=0) != 0).any()


@pytest.mark.parametrize("receivers", ["logits", "both", "in a row"])
def test_a_small_budget_gives_the_same_numbers(receivers):
    side = both("llama-grouped", "unequal", "ABC")
    free, tight = (uw.path_patch(side.contrast, RECEIVERS[receivers][0], memory=size) for size in (None, 2000))
    np.testing.assert_allclose(free, tight, rtol=0, atol=1e-12)


@each(CASES)
@pytest.mark.parametrize("attention", ["z", "qkv"])
def test_everything_before_a_layer_sent_to_all_its_inputs_is_its_whole_attention(case, attention):
    """What a layer's heads read is then the donor's, and so is what they write."""
    name, lengths, corruption, direction = case
    side = both(name, lengths, corruption)
    n_heads = side.contrast.model.config.n_heads
    receivers = [(1, head, "q") for head in range(n_heads)]
    receivers += [(1, head, kind) for head, kind in product(range(side.contrast.model.config.n_kv_heads), "kv")]
    everything = [["embed", *product([0], range(n_heads)), "mlp 0"]]
    got = uw.path_patch(side.contrast, receivers, everything, direction=direction, attention=attention)
    whole = uw.patch_at(side.contrast, [[f"z 1.{head}" for head in range(n_heads)]], direction)
    np.testing.assert_allclose(got.values, whole.values, rtol=0, atol=TOLERANCE)
    assert float(abs(got).max()) > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", "qkv")
def test_a_head_of_a_site_is_the_same_head_in_every_method(name, kind):
    """All that comes before a layer, sent to one of its heads' inputs, is that input of the donor: with shared keys and
    values, the number is a key/value head's in each method.
    """
    side = both(name, "equal", "ABC")
    config = side.contrast.model.config
    last = (config.n_heads if kind == "q" else config.n_kv_heads) - 1
    for head in (0, last):
        everything = [["embed", *product([0], range(config.n_heads)), "mlp 0"]]
        by_path = uw.path_patch(side.contrast, [(1, head, kind)], everything)
        patched = uw.patch_at(side.contrast, [f"{kind} 1.{head}"], "noise")
        knocked = uw.knockout(side.contrast, [f"{kind} 1.{head}"], "resample")
        by_layer = uw.patch(side.contrast, kind, ("layer", "head"), "noise").sel(layer=1)[:, head : head + 1]
        for other in (patched, knocked, by_layer):
            np.testing.assert_allclose(by_path.values, other.values, rtol=0, atol=TOLERANCE)
        assert float(abs(patched).max()) > 1e-3
    with pytest.raises(uw.InputError, match="heads 0 to"):
        uw.path_patch(side.contrast, [(1, last + 1, kind)])


def test_shared_heads_are_called_and_written_as_such():
    side = both("llama-grouped", "equal", "ABC")
    named = uw.path_patch(side.contrast, [(1, 1, "v"), (2, 3, "q")])
    assert named.attrs["receivers"] == ["v 1.kv1", "q 2.3"]
    for written in ("1.kv1 v", "v 1.kv1", "1.1 v", "v 1.1"):
        assert uw.path_patch(side.contrast, [written, "2.3 q"]).identical(named)
    assert uw.knockout(side.contrast, ["v 1.kv1", "k 1.0"]).address.values.tolist() == ["v 1.kv1", "k 1.kv0"]
    notes = [named, uw.patch_at(side.contrast, ["v 1.1"]), uw.knockout(side.contrast, ["v 1.1"])]
    assert len({result.attrs["notes"] for result in notes}) == 1
    np.testing.assert_array_equal(uw.patch_at(side.contrast, ["v 1.kv1"]), uw.patch_at(side.contrast, ["v 1.1"]))
    for query in (lambda: uw.path_patch(side.contrast, ["1.kv1 q"]), lambda: uw.patch_at(side.contrast, ["q 1.kv1"])):
        with pytest.raises(uw.InputError, match="key/value head"):
            query()
    apart = uw.path_patch(both("gpt2", "equal", "ABC").contrast, [(1, 1, "v")])
    assert (apart.attrs["receivers"], apart.attrs["notes"]) == (["v 1.1"], "")
