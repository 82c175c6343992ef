"""On small models every method equals whole runs with edits, in float64, also where attention sees both ways.

The prompts have unequal lengths, and padding inside. The metric reads a class at the start, within, or at the end.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.circuits.naive import Naive
from tests.methods.by_edits import Paths, effect, sweep
from tests.small import random_model, small_model, small_pair
from unweave.circuits.ablation import ablation_of
from unweave.circuits.circuit import Circuit, Group
from unweave.circuits.evaluate import EvaluationOptions
from unweave.circuits.runs import CircuitRuns
from unweave.circuits.sketch import SketchOptions

KINDS = ["layer", "none", "rotary", "causal", "causal none"]
STREAM = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
HEADS = ("z", "q", "k", "v", "pattern")
CASES = [
    ("layer", "denoise", "start"),
    ("none", "noise", "turn"),
    ("rotary", "noise", "start"),
]
each = pytest.mark.parametrize(("kind", "direction", "role"), CASES, ids=lambda value: value)


def of_key_value_heads(pair: uw.Contrast, receiver: str | tuple[int, int, str]) -> str | tuple[int, int, str]:
    """A receiver whose key or value is named by the head that holds it, which query heads may share."""
    if isinstance(receiver, str) or receiver[2] == "q":
        return receiver
    return receiver[0], receiver[1] // pair.model.config.heads_per_kv, receiver[2]


def pair_of(kind: str, role: str | None = None) -> uw.Contrast:
    """Where attention sees both ways, what differs later can be read at the start."""
    return small_pair(small_model(kind), uw.LogitDiff(role or ("end" if kind.startswith("causal") else "start")))


def has(pair: uw.Contrast, site: str) -> bool:
    config = pair.model.config
    return not (site.startswith("mlp") and not config.d_mlp) and not (site == "resid_mid" and config.block != "serial")


def same(got: xr.DataArray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(got.values, expected.numpy(), rtol=0, atol=1e-9, err_msg=str(got.name))
    assert expected.nan_to_num().abs().max() > 1e-3, "an effect that is never there shows nothing"


@each
@pytest.mark.parametrize("place", ["pos", "role"])
def test_the_residual_stream(kind: str, direction: str, role: str, place: str) -> None:
    pair = pair_of(kind, role)
    for site in (site for site in STREAM if has(pair, site) and (place == "role" or site in ("resid_pre", "attn_out"))):
        same(uw.patch(pair, site, ("layer", place), direction), sweep(pair, site, ("layer", place), direction))


@each
@pytest.mark.parametrize("over", [("layer",), ("layer", "head"), ("layer", "head", "pos"), ("layer", "head", "role")])
def test_heads(kind: str, direction: str, role: str, over: tuple[str, ...]) -> None:
    pair = pair_of(kind, role)
    sites = {"pos": ("z", "k"), "role": ("q", "v")}.get(over[-1], HEADS)
    for site in sites:
        same(uw.patch(pair, site, over, direction), sweep(pair, site, over, direction))


@pytest.mark.parametrize("kind", ["none", "causal"])
@pytest.mark.parametrize("over", [("layer", "head", "q_pos"), ("layer", "head", "q_pos", "k_pos")])
def test_patterns(kind: str, over: tuple[str, ...]) -> None:
    pair = pair_of(kind)
    same(uw.patch(pair, "pattern", over), sweep(pair, "pattern", over, "denoise"))


def test_neurons() -> None:
    pair = pair_of("layer")
    same(uw.patch(pair, "mlp_post", ("layer", "neuron")), sweep(pair, "mlp_post", ("layer", "neuron"), "denoise"))


@each
def test_several_places_at_once(kind: str, direction: str, role: str) -> None:
    pair = pair_of(kind, role)
    theirs = pair.model.run(pair.prompts if direction == "denoise" else pair.corrupted, keep=["z", "k"])
    rows, at = torch.arange(3), pair.prompts.role("turn")
    edits = [
        uw.Edit("k", 0, theirs["k", 0][rows, at, 0], head=0, pos=at),
        uw.Edit("z", 1, theirs["z", 1][:, :, 1], head=1),
    ]
    got = uw.patch_at(pair, [["k 0.0 @turn", "z 1.1"]], direction)
    same(got[:, 0], effect(pair, direction, edits))


def test_a_small_budget_gives_the_same_numbers() -> None:
    pair = pair_of("layer")
    for over in (("layer", "head", "pos"), ("layer", "head")):
        free, tight = (uw.patch(pair, ["z", "k"], over, memory=size) for size in (None, 1000))
        assert abs(free - tight).to_array().max() < 1e-12


def test_prompts_that_are_alike_up_to_their_end_are_refused() -> None:
    pair = pair_of("layer")
    tokens = pair.corrupted.tokens.clone()
    tokens[0, :5] = pair.prompts.tokens[0, :5]
    tokens[0, 5] = 4  # after its end
    corrupted = uw.Prompts.from_tokens(tokens, lengths=pair.prompts.lengths)
    with pytest.raises(uw.InputError, match="prompt 1"):
        uw.Contrast(pair.model, pair.prompts, corrupted, uw.LogitDiff("start"))


@each
@pytest.mark.parametrize("mlps", ["live", "frozen"])
def test_paths_to_the_logits(kind: str, direction: str, role: str, mlps: str) -> None:
    pair = pair_of(kind, role)
    naive, at = Paths(pair, direction, mlps if pair.model.config.d_mlp else "live"), pair.prompts.role(role)
    everywhere, there = (uw.path_patch(pair, at=place, direction=direction, mlps=mlps) for place in (None, role))
    for layer, head in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cell = {"layer": layer, "head": head}
        same(everywhere.sel(cell), naive.to_logits((layer, head)))
        same(there.sel(cell), naive.to_logits((layer, head), at))


@each
@pytest.mark.parametrize(
    "receivers", [[(1, 0, "q")], [(1, 1, "k")], [(1, 0, "v"), (1, 1, "q")], ["mlp 0", (1, 0, "q")]]
)
def test_paths_to_inputs(kind: str, direction: str, role: str, receivers: list) -> None:
    pair = pair_of(kind, role)
    if not pair.model.config.d_mlp:
        receivers = [receiver for receiver in receivers if not isinstance(receiver, str)]
    if pair.model.config.block == "parallel":  # an MLP reads what a head of its layer does not write to
        receivers = [receiver if receiver != "mlp 0" else "mlp 1" for receiver in receivers]
    receivers = [of_key_value_heads(pair, receiver) for receiver in receivers]
    naive, at = Paths(pair, direction, "live"), pair.prompts.role("turn")
    everywhere, there = (uw.path_patch(pair, receivers, at=place, direction=direction) for place in (None, "turn"))
    for head in (0, 1):
        cell = {"layer": 0, "head": head}
        same(everywhere.sel(cell), naive.to_inputs((0, head), receivers))
        np.testing.assert_allclose(there.sel(cell), naive.to_inputs((0, head), receivers, at), rtol=0, atol=1e-9)
    assert (everywhere.sel(layer=1) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("how", "site"), [("zero", "k"), ("mean", "z"), ("mean", "pattern"), ("resample", "v"), ("gaussian", "pattern")]
)
def test_knockouts(kind: str, how: str, site: str) -> None:
    from unweave.methods.replacement import Replacement, replacing

    pair = pair_of(kind, "turn")
    layers = range(pair.model.config.n_layers)
    given = replacing(pair, [(site, layer) for layer in layers], Replacement(how))[0](range(len(pair.prompts)))
    table = uw.knockout(pair, site, how, measure="change")
    for layer in layers:
        value = given[site, layer]
        heads = value.shape[1 if site == "pattern" else 2]
        for head in range(heads):
            part = value[:, head] if site == "pattern" else value[:, :, head]
            edits = [uw.Edit(site, layer, part, head=head)]
            got = table[:, layer, head].values / pair.gap
            np.testing.assert_allclose(got, effect(pair, "noise", edits).numpy(), rtol=0, atol=1e-9)
    assert abs(table).max() > 1e-3


def test_replaced_patterns_read_no_padding() -> None:
    from unweave.methods.replacement import Replacement, replacing

    pair = pair_of("layer")
    for how in ("mean", "gaussian"):
        pattern = replacing(pair, [("pattern", 0)], Replacement(how))[0](range(len(pair.prompts)))["pattern", 0]
        assert (pattern[0, :, :, 5] == 0).all()
        assert (pattern[1, :, :, 2] == 0).all()
        assert (pattern[0, :, 0, 4] != 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_paths_with_attention_frozen_by_its_inputs(kind: str) -> None:
    """Receivers of layer 1 act on those of layer 2."""
    model = random_model(replace(small_model(kind).config, n_layers=3))
    pair = small_pair(model, pair_of(kind).metric)
    receivers = [(1, 0, "v"), (1, 1, "k"), (2, 0, "q"), (2, 1, "v")]
    receivers = [of_key_value_heads(pair, receiver) for receiver in receivers]
    found = uw.path_patch(pair, receivers, attention="qkv")
    sent = uw.path_patch(pair, receivers, at=("turn", None), attention="qkv")
    for head in ((0, 0), (0, 1)):
        cell = {"layer": 0, "head": head[1]}
        same(found.sel(cell), Paths(pair, "noise").to_live_inputs(head, receivers))  # pyright: ignore[reportArgumentType]
        expected = Paths(pair, "noise").to_live_inputs(head, receivers, pair.prompts.role("turn"))  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(sent.sel(cell), expected, rtol=0, atol=1e-9)
    frozen = uw.path_patch(pair, receivers)
    assert abs(found - frozen).sel(layer=0).max() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_knockouts_at_roles(kind: str) -> None:
    """In turn, and jointly: a head and a layer's attention at two roles."""
    from unweave.methods.replacement import Replacement, replacing

    pair, at, rows = pair_of(kind), ("turn", "end"), torch.arange(3)
    given = replacing(pair, [("z", 0), ("attn_out", 1)], Replacement("mean", "corrupted"))[0](range(len(pair.prompts)))
    edits = []
    for place in (pair.prompts.role(role) for role in at):
        edits.append(uw.Edit("z", 0, given["z", 0][rows, place, 1], head=1, pos=place))
        edits.append(uw.Edit("attn_out", 1, given["attn_out", 1][rows, place], pos=place))
    how = Replacement("mean", "corrupted")
    same(uw.knockout(pair, [(0, 1), "attn_out 1"], how, at=at, joint=True)[:, 0], effect(pair, "noise", edits))
    in_turn = uw.knockout(pair, "z", how, at=at)
    same(in_turn[:, 0, 1], effect(pair, "noise", edits[::2]))


@pytest.mark.parametrize("kind", KINDS)
def test_circuits_with_heads_left_out(kind: str) -> None:
    pair = pair_of(kind)
    circuit = Circuit((Group("first", ((0, 0),), ("turn",)), Group("last", ((1, 1), (1, 0)), ("start", "end"))))
    naive = Naive(pair, pair.corrupted, {row: [0, 1, 2] for row in range(3)})
    runs = CircuitRuns(circuit, ablation_of(circuit, pair, how="mean"))
    sets = [[(0, 0)], [(1, 1)], [(0, 0), (1, 0)]]
    for got, expected in (
        (runs.circuit_without(sets), [naive.circuit(circuit, one) for one in sets]),
        (runs.model_without(sets), [naive.model_without(circuit, one) for one in sets]),
    ):
        torch.testing.assert_close(got, torch.stack(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [("turn",), "all"])
def test_circuits(kind: str, at: Any) -> None:
    pair = pair_of(kind)
    circuit = Circuit((Group("first", ((0, 0),), at), Group("last", ((1, 1), (1, 0)), ("start", "end"))))
    naive = Naive(pair, pair.corrupted, {row: [0, 1, 2] for row in range(3)})
    effort = EvaluationOptions(controls=0, subsets=0, searches=0)
    found = uw.evaluate(circuit, pair, pair.corrupted, how="mean", effort=effort)["faithfulness"].to_dataset()
    same(found["score"].sel(kept="circuit"), naive.circuit(circuit))
    np.testing.assert_allclose(found["score"].sel(kept="model"), pair.clean_scores, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_sum_to_the_logit_difference(kind: str) -> None:
    pair = pair_of(kind, "turn")
    for by in ("component", "layer", "head"):
        parts = uw.attribute(pair, by)
        dims = [name for name in parts.dims if name != "prompt"]
        np.testing.assert_allclose(parts.sum(dims) + parts["rest"], pair.clean_scores, rtol=0, atol=1e-9)
    np.testing.assert_allclose(uw.logit_lens(pair).sel(stage="final"), pair.clean_scores, rtol=0, atol=1e-9)


def test_a_sketch_also_looks_before_the_first_difference() -> None:
    """`start` stands before anything differs, and still reads what differs later."""
    pair = pair_of("layer")
    circuit = uw.sketch(pair, SketchOptions(threshold=1e-6, alpha=1.0))
    assert circuit.heads
    assert {role for group in circuit.groups for role in group.roles} >= {"start"}
