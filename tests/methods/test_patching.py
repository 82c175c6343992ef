"""Patching: axes, addresses, labels, and what is refused. That the effects are right is tested against the oracle."""

import numpy as np
import pytest
import torch

import unweave as uw
from tests.readers import unchecked
from tests.tiny import N_HEADS, N_LAYERS, tiny_model, tiny_pair
from unweave.nodes import Node, read_node


def test_one_site_is_an_array_and_several_are_a_dataset():
    pair = tiny_pair(tiny_model("gpt2"))
    assert uw.patch(pair, "z", ("layer", "head")).dims == ("prompt", "layer", "head")
    both = uw.patch(pair, ["z", "pattern"], ("layer", "head"))
    assert list(both) == ["z", "pattern"]
    assert both["pattern"].attrs["site"] == "pattern"


def test_grouped_keys_and_values_are_patched_by_kv_head_and_say_so():
    grouped = uw.patch(tiny_pair(tiny_model("llama")), ["q", "k"], ("layer", "head"))
    assert grouped["k"].dims == ("prompt", "layer", "kv_head")
    assert grouped["q"].dims == ("prompt", "layer", "head")
    assert "shared by 2 query heads" in grouped["k"].attrs["notes"]
    plain = uw.patch(tiny_pair(tiny_model("gpt2")), "k", ("layer", "head"))
    assert plain.dims == ("prompt", "layer", "head")
    assert plain.attrs["notes"] == ""


def test_axes_come_out_in_the_order_asked_for():
    pair = tiny_pair(tiny_model("gpt2"))
    by_pos, by_head = (uw.patch(pair, "z", over) for over in (("pos", "layer", "head"), ("layer", "head", "pos")))
    assert by_pos.dims == ("prompt", "pos", "layer", "head")
    np.testing.assert_array_equal(by_pos.transpose(*by_head.dims), by_head)


def test_a_mapping_chooses_coordinates():
    pair = tiny_pair(tiny_model("gpt2"))
    whole = uw.patch(pair, "z", ("layer", "head", "role"))
    some = uw.patch(pair, "z", {"layer": [2, 0], "head": [3], "role": ["end", "S2"]})
    np.testing.assert_allclose(some, whole.sel(layer=[2, 0], head=[3], role=["end", "S2"]), atol=1e-12)


def test_a_role_is_its_position_in_each_prompt():
    pair = tiny_pair(tiny_model("gpt2"))
    roles = uw.patch(pair, "resid_pre", ("layer", "role"))
    places = uw.patch(pair, "resid_pre", ("layer", "pos"))
    for prompt in range(3):
        end = int(roles.role_pos.sel(prompt=prompt, role="end"))
        np.testing.assert_allclose(roles.sel(prompt=prompt, role="end"), places.sel(prompt=prompt, pos=end), atol=1e-12)


def test_a_list_of_addresses_is_what_the_tables_say():
    pair = tiny_pair(tiny_model("llama"))
    listed = uw.patch_at(pair, ["z 1.2", "resid_pre 1 @S2", Node("k", 2, 1), "mlp_post 0.7", "resid_pre 2 @3"])
    assert listed.address.values.tolist() == [
        "z 1.2",
        "resid_pre 1 @S2",
        "k 2.kv1",
        "mlp_post 0.n7",
        "resid_pre 2 @3",
    ]
    tables = [
        uw.patch(pair, "z", ("layer", "head")).sel(layer=1, head=2),
        uw.patch(pair, "resid_pre", ("layer", "role")).sel(layer=1, role="S2"),
        uw.patch(pair, "k", ("layer", "head")).sel(layer=2, kv_head=1),
        uw.patch(pair, "mlp_post", ("layer", "neuron")).sel(layer=0, neuron=7),
        uw.patch(pair, "resid_pre", ("layer", "pos")).sel(layer=2, pos=3),
    ]
    for column, table in zip(listed.T, tables, strict=True):
        np.testing.assert_allclose(column, table, atol=1e-12)


def test_several_addresses_at_once_are_one_patch():
    pair = tiny_pair(tiny_model("gpt2"))
    heads = [f"z 1.{head}" for head in range(N_HEADS)]
    together = uw.patch_at(pair, [heads, *heads], direction="noise")
    assert together.address.values[0] == "z 1.0 + z 1.1 + z 1.2 + z 1.3"
    assert uw.patch_at(pair, [" + ".join(heads), *heads], direction="noise").identical(together)  # as results call it
    layer = uw.patch(pair, "attn_out", ("layer",), "noise").sel(layer=1)
    np.testing.assert_allclose(together[:, 0], layer, atol=1e-12)
    assert float(abs(together[:, 1:].sum("address") - together[:, 0]).max()) > 1e-6  # effects do not add up


def test_the_result_says_what_was_done():
    result = uw.patch(tiny_pair(tiny_model("gpt2")), "z", ("layer", "head", "pos"), "noise")
    attrs = result.attrs
    assert attrs["direction"] == "noise"
    assert attrs["one"] == "as bad as the corrupted prompt (at -1)"
    assert attrs["model"] == "tiny gpt2"
    assert attrs["n_prompts"] == 3
    assert result.token.shape == (3, 7)
    assert result.token.values[1, 5] == ""  # beyond the second prompt's end
    assert result.clean.shape == (3,)


@pytest.mark.parametrize(
    ("sites", "over", "message"),
    [
        ("zz", ("layer", "head"), "'zz' is not a site"),
        ("scores", ("layer", "head"), "scores cannot be patched"),
        ("z", ("layer", "token"), "'token' is not an axis"),
        ("z", ("head",), "a sweep runs over layers"),
        ("resid_pre", ("layer", "head"), "resid_pre has no heads"),
        ("z", ("layer", "neuron"), "use the site mlp_post"),
        ("z", ("layer", "pos", "role"), "choose one"),
        ("z", ("layer", "head", "q_pos"), "a pattern's axes"),
        ("pattern", ("layer", "head", "k_pos"), "k_pos needs q_pos"),
        ("z", {"layer": [3]}, "layers 0 to 2, got 3"),
        ("z", {"layer": None, "head": [4]}, "heads 0 to 3 at z, got 4"),
        ("z", {"layer": None, "role": ["IO"]}, "role 'IO' is not among this task's roles: S1, S2, end"),
        ("z", {"layer": None, "pos": [7]}, "positions 0 to 6, got 7"),
        ("z", {"layer": []}, "layer was given no coordinate"),
        ("mlp_post", {"layer": None, "neuron": [20]}, "neurons 0 to 19"),
        ([], ("layer",), "none was given"),
        ("blocks.1.attn.hook_z", ("layer",), "names one layer"),
        ("z", "head", "a sweep runs over layers"),
        ("z", {"layer": "1"}, "layer: expected a whole number, got '1'"),
    ],
)
def test_what_does_not_exist_is_one_clear_error(sites, over, message):
    with pytest.raises(uw.InputError, match=message):
        uw.patch(tiny_pair(tiny_model("gpt2")), sites, over)


@pytest.mark.parametrize("text", ["z 23.3", "resid_pre 5 @S2", "q 9.6 @12", "attn_out 0"])
def test_addresses_are_read_as_they_are_written(text):
    assert str(read_node(text)) == text


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("z", "'z' is not a place in a model; write"),
        ("z 1.9", "heads 0 to 3"),
        ("z 1.1 @IO", "role 'IO'"),
        ("z 1.1 @9", "positions 0 to 6"),
        ((), "none was given"),
    ],
)
def test_an_address_that_does_not_exist_is_one_clear_error(address, message):
    with pytest.raises(uw.InputError, match=message):
        uw.patch_at(tiny_pair(tiny_model("gpt2")), [address])


def test_a_layer_count_that_is_patched_everywhere_is_every_layer():
    assert uw.patch(tiny_pair(tiny_model("gpt2")), "mlp_out", ("layer",)).sizes["layer"] == N_LAYERS


def test_axes_may_be_one_text_and_a_single_coordinate_needs_no_list():
    pair = tiny_pair(tiny_model("llama"))
    assert uw.patch(pair, "z", "layer, head").identical(uw.patch(pair, "z", ("layer", "head")))
    several = uw.patch(pair, "z", {"layer": [1], "head": [2], "role": ["S2"]})
    assert uw.patch(pair, "z", {"layer": 1, "head": 2, "role": "S2"}).identical(several)


@pytest.mark.parametrize(
    "layers", [np.array([0, -1]), torch.tensor([0, 2]), [np.int64(0), np.int64(2)], range(0, 3, 2)]
)
def test_coordinates_may_come_from_other_libraries(layers):
    pair = tiny_pair(tiny_model("gpt2"))
    with unchecked():
        found = uw.patch(pair, "z", {"layer": layers, "head": None})
    assert found.identical(uw.patch(pair, "z", {"layer": [0, 2], "head": None}))


def test_a_layer_that_is_no_whole_number_is_refused():
    with unchecked(), pytest.raises(uw.InputError, match=r"layer: expected a whole number, got 1\.5"):
        uw.patch(tiny_pair(tiny_model("gpt2")), "z", {"layer": [1.5]})  # type: ignore[dict-item]


def test_a_single_address_needs_no_list():
    pair = tiny_pair(tiny_model("gpt2"))
    assert uw.patch_at(pair, "z 1.2").identical(uw.patch_at(pair, ["z 1.2"]))
