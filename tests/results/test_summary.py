"""Summaries keep names, leave gaps as gaps, and do not claim what few prompts cannot show."""

import numpy as np
import pytest
import xarray as xr

from tests.results.fake import heads, result, with_tokens
from unweave.errors import InputError
from unweave.results import summary
from unweave.results.summary import summaries


def test_means_and_names() -> None:
    fake = heads()
    table = summary(fake)
    assert set(table.data_vars) == {"mean", "low", "high", "p", "p_holm", "n"}
    assert table["mean"].dims == ("layer", "head")
    np.testing.assert_allclose(table["mean"], fake.mean("prompt"), rtol=1e-5)
    assert (table["low"] <= table["mean"]).all()
    assert (table["mean"] <= table["high"]).all()
    assert table.attrs["metric"] == "logit difference"
    assert table.attrs["n_prompts"] == 8
    assert "prompt" not in table.coords


def test_clear_effects_are_told_from_noise() -> None:
    table = summary(heads(n_prompts=32))
    found = table["p_holm"] < 0.05
    assert set(zip(*map(np.ndarray.tolist, np.nonzero(found.values)), strict=True)) == {(2, 1), (3, 0)}
    assert table["low"].sel(layer=2, head=1) > 0.4


def test_cells_that_cannot_matter_are_not_tests() -> None:
    table = summary(heads())
    dead = table.sel(layer=0)
    assert (dead["mean"] == 0).all()
    assert (dead["low"] == 0).all()
    assert (dead["p"] == 1).all()
    assert (dead["p_holm"] == 1).all()
    assert table.attrs["n_tests"] == 9
    best = table.sel(layer=2, head=1)
    assert best["p_holm"] == pytest.approx(9 * best["p"].item())


def test_eight_prompts_cannot_speak_for_many_cells() -> None:
    table = summary(result({"prompt": 8, "layer": 30, "head": 9}) + 10)
    assert table["p"].max() == 2 / 256
    assert table["p_holm"].min() == 1
    assert table.attrs["p_holm_smallest"] == 1


def test_gaps_are_left_out() -> None:
    fake = heads()
    fake[5:, 1, 2] = np.nan
    fake[:, 3, 2] = np.nan
    fake[1:, 1, 0] = np.nan
    table = summary(fake)
    assert table["n"].sel(layer=1).values.tolist() == [1, 8, 5]
    alone = summary(fake[:5])
    for column in ("mean", "low", "high", "p"):
        assert table[column].sel(layer=1, head=2).item() == pytest.approx(alone[column].sel(layer=1, head=2).item())
    missing = table.sel(layer=3, head=2)
    assert all(np.isnan(missing[column]) for column in ("mean", "low", "p", "p_holm"))
    one = table.sel(layer=1, head=0)
    assert one["mean"] == fake[0, 1, 0]
    assert np.isnan(one["low"])
    assert np.isnan(one["p_holm"])
    assert table.attrs["n_tests"] == 7


def test_one_prompt_has_no_spread() -> None:
    table = summary(heads(n_prompts=1))
    assert np.isfinite(table["mean"]).all()
    for column in ("low", "high", "p", "p_holm"):
        assert np.isnan(table[column]).all()
    assert table.attrs["interval"] == "none: one prompt"
    assert table.attrs["test"] == "none: one prompt"


def test_same_seed_same_bits() -> None:
    fake = heads(n_prompts=20)
    xr.testing.assert_identical(summary(fake, seed=3), summary(fake, seed=3))
    assert not summary(fake, seed=3)["low"].equals(summary(fake, seed=4)["low"])


def test_several_sites_make_a_tree() -> None:
    both = xr.Dataset({"z": heads(), "k": result({"prompt": 8, "layer": 4, "kv_head": 2}, site="k")})
    tree = summary(both)
    assert tree["z"]["mean"].dims == ("layer", "head")
    assert tree["k"]["mean"].dims == ("layer", "kv_head")
    xr.testing.assert_identical(tree["z"].to_dataset(), summary(both["z"]))
    assert list(summaries(both)) == list(summaries(tree)) == ["z", "k"]


def test_tokens_are_those_of_the_first_prompt() -> None:
    fake = result({"prompt": 2, "layer": 3, "pos": 2})
    differ = summary(with_tokens(fake, [["a", " b"], ["a", " c"]]))
    assert differ["token"].values.tolist() == ["a", " b"]
    assert differ.attrs["tokens"] == "prompt 1 of 2"
    assert summary(with_tokens(fake, [["a", " b"], ["a", " b"]])).attrs["tokens"] == "every prompt"


def test_other_coordinates_of_prompts_are_dropped() -> None:
    fake = heads().assign_coords(
        clean=("prompt", np.ones(8)), text=("prompt", ["x"] * 8), depth=("layer", np.arange(4))
    )
    assert set(summary(fake).coords) == {"layer", "head", "depth"}


def test_an_average_has_no_interval() -> None:
    table = summaries(heads().mean("prompt", keep_attrs=True))["z"]
    assert np.isfinite(table["mean"]).all()
    assert np.isnan(table["low"]).all()
    assert (table["n"] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": "batch"}, "no dimension 'batch' .*prompt, layer, head"),
        ({"level": 95.0}, "level: .*0.95, got 95"),
        ({"n_boot": 0}, "n_boot: .*got 0"),
    ],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        summary(heads(), **options)
