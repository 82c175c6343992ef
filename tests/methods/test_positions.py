"""Positions that a prompt does not have have no values, in any result; and a position counts from 0, everywhere."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.readers import unchecked
from tests.small import small_model, small_pair
from tests.tiny import tiny_model, tiny_pair
from unweave.nodes import Node

LENGTHS = (7, 5, 7)
RESULTS: dict[str, Callable[[uw.Contrast], Any]] = {
    "stream": lambda pair: uw.patch(pair, "resid_pre", ("layer", "pos")),
    "chosen": lambda pair: uw.patch(pair, "attn_out", {"pos": [6, 2, 5], "layer": [2, 0]}),
    "values": lambda pair: uw.patch(pair, "v", ("pos", "head", "layer"), "noise"),
    "destinations": lambda pair: uw.patch(pair, "pattern", ("layer", "head", "q_pos")),
    "entries": lambda pair: uw.patch(pair, "pattern", ("layer", "head", "q_pos", "k_pos")),
    "neurons": lambda pair: uw.patch(pair, "mlp_post", {"layer": [1], "neuron": [3], "pos": None}),
    "attention": lambda pair: uw.attention(pair, ["0.1", "2.3"]),
    "corrupted attention": lambda pair: uw.attention(pair, (1, 1), prompts="corrupted"),
    "norm scales": lambda pair: uw.weights.norm_scales(pair.model, pair.prompts),
    "through a head": lambda pair: uw.classifier.attribution_through(pair.model, pair.prompts, "0.1", "1.1"),
    "models": lambda pair: uw.over_models(
        {"one": pair.model, "two": pair.model}, lambda _: uw.patch(pair, "z", ("layer", "pos"))
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_there_is_no_value_where_a_prompt_has_no_token(name: str) -> None:
    found = RESULTS[name](tiny_pair(tiny_model("llama"), LENGTHS))
    exists = xr.ones_like(found, dtype=bool)
    for axis in {"pos", "q_pos", "k_pos"} & set(map(str, found.dims)):
        exists = exists & (found[axis] < xr.DataArray(list(LENGTHS), dims="prompt"))
    assert found.where(exists, 1.0).notnull().all()
    assert found.where(~exists).isnull().all()
    assert not bool(exists.all())
    table = uw.summary(found)
    assert (table["n"] == exists.sum("prompt")).all()
    expected = found.where(exists).mean("prompt").transpose(*table["mean"].dims)
    np.testing.assert_allclose(table["mean"].values, expected.values, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", ["stream", "destinations", "attention"])
def test_pictures_of_one_prompt_hold_nothing_beyond_its_end(name: str) -> None:
    short = RESULTS[name](tiny_pair(tiny_model("llama"), LENGTHS)).isel(prompt=[1])
    assert uw.show(short) is not None
    assert all(np.isfinite(row.mean) for row in uw.top(short, 5).rows)


def test_addresses_at_a_position_that_some_prompts_lack() -> None:
    pair = tiny_pair(tiny_model("gpt2"), LENGTHS)
    found = uw.patch_at(pair, ["resid_pre 1 @6", "resid_pre 1 @4", ["z 0.1", "resid_pre 1 @5"]])
    assert found.isnull().values.tolist() == [[False] * 3, [True, False, True], [False] * 3]
    assert "NaN" not in found.attrs["notes"]
    by_pos = uw.patch(pair, "resid_pre", ("layer", "pos"))
    np.testing.assert_allclose(found[:, 0], by_pos.sel(layer=1, pos=6), atol=1e-12)


def test_padding_of_either_side_makes_no_positions() -> None:
    """However far the sides are padded, and with whatever, the longest prompt says which positions there are."""
    pair = tiny_pair(tiny_model("gpt2"), LENGTHS)
    clean, corrupted = (
        replace(prompts, tokens=torch.cat([prompts.tokens, torch.full((3, width), token)], 1))
        for prompts, width, token in ((pair.prompts, 4, 9), (pair.corrupted, 9, 2))
    )
    wide = uw.Contrast(pair.model, clean, corrupted, pair.metric)
    for over in (("layer", "pos"), ("layer", "head")):
        np.testing.assert_array_equal(uw.patch(wide, "z", over), uw.patch(pair, "z", over))
    for how, reference in (("resample", corrupted), ("mean", corrupted)):
        found, plain = (uw.knockout(one, how=uw.Replacement(how, reference)) for one in (wide, pair))
        np.testing.assert_allclose(found, plain, atol=1e-12)
    with pytest.raises(uw.InputError, match="0 to 6, got 7"):
        uw.patch(wide, "z", {"layer": None, "pos": [7]})


def test_an_edit_at_one_position_spares_the_prompts_that_lack_it() -> None:
    pair = small_pair(small_model("layer"))  # attention sees both ways; lengths are 5, 6 and 4
    edited = pair.model.run(pair.prompts, edits=[uw.Edit("resid_pre", 0, 3.0, pos=5)]).logits_at("start")
    changed = (edited != pair.clean_run.logits_at("start")).any(1)
    assert changed.tolist() == [False, True, False]


COUNTED_FROM_THE_END: dict[str, Callable[[uw.Contrast], object]] = {
    "axis": lambda pair: uw.patch(pair, "z", {"layer": None, "pos": [-1]}),
    "destination": lambda pair: uw.patch(pair, "pattern", {"layer": None, "q_pos": -1}),
    "source": lambda pair: uw.patch(pair, "pattern", {"layer": None, "q_pos": [1], "k_pos": [-2]}),
    "written address": lambda pair: uw.patch_at(pair, ["z 1.1 @-1"]),
    "address": lambda pair: uw.patch_at(pair, [Node("z", 1, 1, -1)]),
    "address in a list": lambda pair: uw.patch_at(pair, [["z 1.1", "z 1.2 @-1"]]),
    "knockout": lambda pair: uw.knockout(pair, [(1, 1)], at=-1),  # type: ignore[arg-type]
    "written knockout": lambda pair: uw.knockout(pair, [(1, 1)], at="-1"),
    "path": lambda pair: uw.path_patch(pair, at="-1"),
    "attribution with a head out": lambda pair: uw.heads.knockout_attribution(pair, [(1, 1)], at=["-1"]),
    "edit": lambda pair: pair.model.run(pair.prompts, edits=[uw.Edit("z", 1, 0.0, pos=-1)]),
    "edit of each": lambda pair: pair.model.run(
        pair.prompts, edits=[uw.Edit("z", 1, 0.0, pos=torch.tensor([-1, -1, 2]))]
    ),
    "metric": lambda pair: uw.Contrast(pair.model, pair.prompts, pair.corrupted, uw.LogitDiff("-1")),
    "logits": lambda pair: pair.clean_run.logits_at(-1),  # type: ignore[arg-type]
    "role": lambda pair: uw.Prompts.from_tokens(pair.prompts.tokens, roles={"last": [-1, -1, -1]}),
}


@pytest.mark.parametrize("ask", COUNTED_FROM_THE_END)
def test_no_position_counts_from_the_end(ask: str) -> None:
    with unchecked(), pytest.raises(uw.InputError) as error:
        COUNTED_FROM_THE_END[ask](tiny_pair(tiny_model("gpt2"), LENGTHS))
    assert "end" in str(error.value)
    assert "-1" in str(error.value) or "-2" in str(error.value)


@pytest.mark.parametrize(
    "pos", [7, torch.tensor([6, 5, 6]), torch.tensor([1, 2]), torch.tensor([1.0, 2.0, 3.0]), [1, 2, 3]]
)
def test_an_edit_where_there_is_nothing_to_edit_is_refused(pos: object) -> None:
    pair = tiny_pair(tiny_model("gpt2"), LENGTHS)
    with unchecked(), pytest.raises(uw.InputError, match="pos"):
        pair.model.run(pair.prompts, edits=[uw.Edit("z", 1, 0.0, pos=pos)])  # type: ignore[arg-type]


def test_an_edit_at_each_prompts_end() -> None:
    pair = tiny_pair(tiny_model("gpt2"), LENGTHS)
    z = pair.model.run(pair.prompts, keep="z", edits=[uw.Edit("z", 1, 0.0, pos=pair.prompts.role("end"))])["z", 1]
    silent = (z == 0).flatten(2).all(2)
    assert silent.nonzero().tolist() == [[row, length - 1] for row, length in enumerate(LENGTHS)]
