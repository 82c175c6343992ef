"""A patch that cannot matter has effect exactly 0.0, and one that replaces everything has the whole effect."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import unweave as uw
from tests.oracle.both import Both, both, contrast, models, table, tables
from tests.oracle.models import FAMILIES
from tests.oracle.pairs import Pair, pair
from tests.small import random_model


@pytest.fixture(scope="module", params=FAMILIES)
def side(request: pytest.FixtureRequest) -> Both:
    return both(request.param, "unequal", "ABC")


def stream_sites(side: Both) -> list[str]:
    parallel = getattr(side.hf.config, "use_parallel_residual", False)
    return ["resid_pre", "resid_post", "attn_out", "mlp_out"] if parallel else [
        "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"
    ]  # fmt: skip


def out_of_reach(asked: Pair) -> tuple[np.ndarray, np.ndarray]:
    """`[prompt, pos]`: before the first token that differs; and after the end, where there is nothing to patch."""
    differ = (asked.clean != asked.corrupted).numpy()
    positions = np.arange(differ.shape[1])
    return positions < differ.argmax(1)[:, None], positions > asked.roles["end"].numpy()[:, None]


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_positions_out_of_reach(side: Both, direction: str) -> None:
    outside, beyond = out_of_reach(side.pair)
    assert outside.any()
    assert beyond.any()
    stream = tables(side.contrast, stream_sites(side), ("layer", "pos"), direction)
    heads = tables(side.contrast, ["z", "q", "k", "v"], ("layer", "head", "pos"), direction)
    for array in (*stream.data_vars.values(), *heads.data_vars.values()):
        by_place = array.transpose("prompt", "pos", ...).values
        assert (by_place[outside] == 0.0).all(), array.name
        assert (by_place[~outside & ~beyond] != 0.0).any(), array.name
        assert np.isnan(by_place[beyond]).all(), array.name
        assert not np.isnan(by_place[~beyond]).any(), array.name


def test_patches_together_of_which_none_can_matter(side: Both) -> None:
    last = side.contrast.model.config.n_layers - 1
    before, never_read = ["z 0.1 @0", "resid_pre 1 @0", "k 1.0 @0"], [f"z {last}.1 @S1", f"mlp_out {last} @S1"]
    found = uw.patch_at(side.contrast, [before, never_read, [*before, "z 0.1"]], memory=1, progress=False).values
    assert (found[:, :2] == 0.0).all()
    assert (found[:, 2] != 0.0).all()


@pytest.mark.parametrize("memory", [None, 1])
def test_tokens_that_stay_have_the_same_inputs_in_the_first_layer(memory: int | None) -> None:
    """Where prompts are taken one by one, what a contrast's runs lend was computed in another batch."""
    model = random_model(uw.small_config(n_layers=1, n_heads=3, d_model=16, d_head=16))
    tokens = torch.tensor([[3, 1, 4], [1, 5, 9], [2, 6, 5]])
    clean = uw.Prompts.from_tokens(tokens, answers=[1, 2, 3], wrong=[4, 5, 6])
    asked = uw.Contrast(model, clean, uw.Prompts.from_tokens(tokens + torch.tensor([[7, 0, 0]])), uw.LogitDiff())
    for site in ("q", "k", "v"):
        by_pos = uw.patch(asked, site, ("layer", "pos"), memory=memory, progress=False).values[:, 0]
        assert (by_pos[:, 1:] == 0.0).all(), site
        assert site == "q" or (by_pos[:, 0] != 0.0).all(), site


def test_in_the_last_layer_only_the_end_is_read(side: Both) -> None:
    end, positions = side.pair.roles["end"].numpy()[:, None], np.arange(side.pair.clean.shape[1])
    before, at_end = positions < end, positions == end
    stream = tables(side.contrast, [site for site in stream_sites(side) if site != "resid_pre"], ("layer", "pos"))
    heads = tables(side.contrast, ["z", "q"], ("layer", "head", "pos"))
    for array in (*stream.data_vars.values(), *heads.data_vars.values()):
        by_place = array.isel(layer=-1).transpose("prompt", "pos", ...).values
        assert (by_place[before] == 0.0).all(), array.name
        assert (by_place[at_end] != 0.0).any(), array.name


@pytest.mark.parametrize("kind", ["q", "mlp"])
def test_paths_to_what_no_other_position_reads(side: Both, kind: str) -> None:
    """In the last layer queries and what the MLP reads matter only at the end; values matter anywhere."""
    last = side.contrast.model.config.n_layers - 1
    elsewhere = (side.pair.roles["S2"] != side.pair.roles["end"]).numpy()
    receiver = f"mlp {last}" if kind == "mlp" else f"{last}.1 q"
    found = uw.path_patch(side.contrast, [receiver], ["mlp 0"], at="S2", progress=False).values[:, 0]
    assert (found[elsewhere] == 0.0).all()
    assert (found[~elsewhere] != 0.0).all()
    value = f"{last}.{'kv1' if side.contrast.model.config.grouped else '1'} v"
    found = uw.path_patch(side.contrast, [receiver, value], ["mlp 0"], at="S2", progress=False).values[:, 0]
    assert (found != 0.0).all()


def test_a_pattern_has_no_sources_ahead_of_its_destination(side: Both) -> None:
    array = tables(side.contrast, ["pattern"], ("layer", "head", "q_pos", "k_pos"))["pattern"].values
    ahead = np.triu(np.ones(array.shape[-2:], dtype=bool), 1)
    assert (np.nan_to_num(array[..., ahead]) == 0.0).all()
    assert (array[..., ~ahead] != 0.0).any()


def test_the_whole_stream_has_the_whole_effect(side: Both) -> None:
    asked = side.contrast
    whole = ((asked.clean_scores - asked.corrupted_scores) / asked.gap).numpy()
    for direction, sign in (("denoise", 1), ("noise", -1)):
        result = uw.patch_at(asked, ["resid_pre 0"], direction=direction, progress=False)
        np.testing.assert_allclose(result.values[:, 0], sign * whole, rtol=0, atol=1e-12)
        np.testing.assert_allclose(result.values.mean(), sign, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_values_that_differ_by_rounding_errors_have_effects_of_that_size(dtype: torch.dtype, most: float) -> None:
    """The first prompt's corrupted token has the embedding of the clean one, but for the last bit of each number."""
    model = random_model(uw.small_config(n_layers=2, n_heads=2, d_model=16, d_head=8, d_mlp=8)).to(dtype=dtype)
    w_e = model.weights.w_e.clone()
    w_e[1] = torch.nextafter(w_e[0], torch.full_like(w_e[0], 9.0))
    model = replace(model, weights=replace(model.weights, w_e=w_e))
    clean = uw.Prompts.from_tokens(torch.tensor([[2, 0, 3], [2, 0, 4]]), [5, 6], [7, 8], {"S2": [1, 1]})
    asked = uw.Contrast(model, clean, uw.Prompts.from_tokens(torch.tensor([[2, 1, 3], [2, 9, 4]])), uw.LogitDiff())
    for direction in ("denoise", "noise"):
        stream = uw.patch(asked, "resid_pre", ("layer",), direction, progress=False)
        heads = uw.patch(asked, "v", ("layer", "head"), direction, progress=False)
        paths = uw.path_patch(
            asked, ["1.0 v", "1.1 k", "mlp 1"], [["embed", "mlp 0"]], direction=direction, progress=False
        )
        for effects in (stream, heads, paths):
            rounded, real = abs(effects.values).reshape(2, -1)
            assert rounded.max() < most
            assert real.max() > 0.1


def test_a_head_that_writes_nothing_has_no_effects() -> None:
    hf, model = models("gpt2")
    silent, d_head, layers = 1, model.config.d_head, []
    for layer in model.weights.layers:
        w_o = layer.w_o.clone()
        w_o[:, silent * d_head : (silent + 1) * d_head] = 0
        layers.append(replace(layer, w_o=w_o))
    model = replace(model, weights=replace(model.weights, layers=tuple(layers)))
    heads = table(contrast(model, pair(hf, "equal", "ABC"), uw.LogitDiff()), "z", ("layer", "head"))
    assert (heads.sel(head=silent).values == 0.0).all()
    assert (heads.drop_sel(head=silent).values != 0.0).all()
