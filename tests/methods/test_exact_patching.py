"""Every patching sweep equals the naive oracle: one whole forward pass of the reference model a patch, in float64."""

from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.oracle.both import both, contrast, table, tables
from tests.oracle.models import FAMILIES
from tests.oracle.sweeps import Patch, effects, index_of, sweep
from unweave.nodes import read_nodes

TOLERANCE = 1e-9
STREAM = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
HEADS = ("z", "q", "k", "v", "pattern")
NEURONS = (2, 3, 17)

Case = tuple[str, str, str, str]
RUNS = (("unequal", "ABC", "denoise"), ("equal", "swap", "noise"))
# Two runs a family for the cheap sweeps; for the large ones, the two in turn.
ALL: list[Case] = [(name, *run) for name in FAMILIES for run in RUNS]
FEW: list[Case] = [(name, *RUNS[number % 2]) for number, name in enumerate(FAMILIES)]


def each(cases: Sequence[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids="-".join)


def sites_in(case: Case, sites: tuple[str, ...]) -> list[str]:
    return [site for site in sites if not (site == "resid_mid" and case[0] == "neox-parallel")]


def compare(case: Case, sites: tuple[str, ...], over: tuple[str, ...]) -> None:
    """Patches `sites` over `over` on both sides, and holds each table against the oracle's."""
    name, lengths, corruption, direction = case
    side = both(name, lengths, corruption)
    names = sites_in(case, sites)
    chosen = dict.fromkeys(over) | ({"neuron": NEURONS} if "neuron" in over else {})
    results = tables(side.contrast, names, chosen, direction)
    for site in names:
        expected = sweep(side.hf, side.pair, site, over, direction, NEURONS)
        same_table(results[site], expected.numpy(), over_of(name, site, over))
        assert np.nanmax(np.abs(expected.numpy())) > 1e-3, f"{site}: an effect that is never there shows nothing"


def over_of(name: str, site: str, over: tuple[str, ...]) -> tuple[str, ...]:
    grouped = name == "llama-grouped" and site in ("k", "v")
    return tuple("kv_head" if axis == "head" and grouped else axis for axis in over)


def same_table(got: xr.DataArray, expected: np.ndarray, over: tuple[str, ...]) -> None:
    assert got.dims == ("prompt", *over)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got.values, expected, rtol=0, atol=TOLERANCE, err_msg=str(got.name))


@each(ALL)
def test_residual_stream_by_position(case: Case) -> None:
    compare(case, STREAM, ("layer", "pos"))


@each(FEW)
def test_residual_stream_by_role(case: Case) -> None:
    compare(case, STREAM, ("layer", "role"))


@each(ALL)
def test_heads(case: Case) -> None:
    compare(case, HEADS, ("layer", "head"))


@each(FEW)
@pytest.mark.parametrize("place", ["pos", "role"])
def test_heads_by_place(case: Case, place: str) -> None:
    compare(case, ("z", "q", "k", "v"), ("layer", "head", place))


@each(FEW)
@pytest.mark.parametrize("over", [("layer", "head", "q_pos"), ("layer", "head", "role")], ids="-".join)
def test_patterns_by_destination(case: Case, over: tuple[str, ...]) -> None:
    compare(case, ("pattern",), over)


@each(FEW)
def test_patterns_by_destination_and_source(case: Case) -> None:
    compare(case, ("pattern",), ("layer", "head", "q_pos", "k_pos"))


@each(FEW)
@pytest.mark.parametrize("over", [("layer", "neuron"), ("layer", "neuron", "pos")], ids="-".join)
def test_neurons(case: Case, over: tuple[str, ...]) -> None:
    compare(case, ("mlp_post",), over)


@each(FEW)
@pytest.mark.parametrize("over", [("layer",), ("layer", "pos")], ids="-".join)
def test_all_heads_or_neurons_at_once(case: Case, over: tuple[str, ...]) -> None:
    compare(case, ("z", "q", "k", "v", "mlp_post"), over)


@each(ALL)
def test_addresses(case: Case) -> None:
    """Single places, and several in one run: of one layer, of several, upstream of one another."""
    name, lengths, corruption, direction = case
    side = both(name, lengths, corruption)
    s2, end = side.pair.roles["S2"], side.pair.roles["end"]
    patches = {
        "resid_pre 1": Patch("resid_pre", 1, index_of("resid_pre")),
        "attn_out 0 @S2": Patch("attn_out", 0, index_of("attn_out", role=s2)),
        "mlp 1 @2": Patch("mlp_out", 1, index_of("mlp_out", pos=2)),
        "z 1.2": Patch("z", 1, index_of("z", head=2)),
        "q 1.0 @end": Patch("q", 1, index_of("q", head=0, role=end)),
        "k 0.1 @S2": Patch("k", 0, index_of("k", head=1, role=s2)),
        "v 1.0": Patch("v", 1, index_of("v", head=0)),
        "pattern 1.2 @end": Patch("pattern", 1, index_of("pattern", head=2, role=end)),
        "mlp_post 0.n3": Patch("mlp_post", 0, index_of("mlp_post", neuron=3)),
    }
    together = [
        ["z 1.2", "mlp_post 0.n3"],
        ["attn_out 0 @S2", "mlp 1 @2"],
        ["q 1.0 @end", "k 0.1 @S2", "v 1.0", "pattern 1.2 @end"],
        ["resid_pre 1", "k 0.1 @S2"],
    ]
    expected = effects(
        side.hf,
        side.pair,
        [*patches.values(), *(tuple(patches[address] for address in group) for group in together)],
        direction,
    )
    result = uw.patch_at(side.contrast, [*patches, *together], direction=direction, progress=False)
    same_table(result, expected.numpy(), ("address",))
    asked = [*patches, *(" + ".join(group) for group in together)]
    assert [read_nodes(str(name)) for name in result.address.values] == [read_nodes(name) for name in asked]


def test_axes_come_in_the_order_asked_for() -> None:
    side = both("llama-grouped", "unequal", "ABC")
    expected = sweep(side.hf, side.pair, "z", ("layer", "head", "pos")).numpy()
    result = table(side.contrast, "z", ("pos", "head", "layer"))
    same_table(result, expected.transpose(0, 3, 2, 1), ("pos", "head", "layer"))


def test_chosen_coordinates_are_those_of_the_whole_table() -> None:
    side = both("gpt2", "unequal", "ABC")
    expected = sweep(side.hf, side.pair, "k", ("layer", "head", "pos")).numpy()
    over = {"layer": [2, 0], "head": [3], "pos": [1, 4]}
    result = table(side.contrast, "k", over)
    same_table(result, expected[:, [2, 0]][:, :, [3]][..., [1, 4]], tuple(over))
    assert result.layer.values.tolist() == [2, 0]


@pytest.mark.parametrize("name", FAMILIES)
def test_processed_weights_have_the_effects_of_the_plain_ones(name: str) -> None:
    side = both(name, "unequal", "ABC")
    model = side.contrast.model.process("all")
    assert "fold_norm" in model.config.processing
    processed = contrast(model, side.pair, side.contrast.metric)
    for site, over in (("resid_pre", ("layer", "pos")), ("z", ("layer", "head")), ("pattern", ("layer", "head"))):
        same_table(table(processed, site, over), sweep(side.hf, side.pair, site, over).numpy(), over)


def test_the_comparison_can_fail() -> None:
    """The tolerance tells one head from its neighbour, one layer from the next, and one direction from the other."""
    side = both("llama-grouped", "equal", "swap")
    right = sweep(side.hf, side.pair, "z", ("layer", "head")).numpy()
    result = table(side.contrast, "z", ("layer", "head"))
    for wrong in (np.roll(right, 1, axis=2), np.roll(right, 1, axis=1), -right, right[[1, 0, 2]]):
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            same_table(result, wrong, ("layer", "head"))
