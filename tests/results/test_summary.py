"""Summaries keep names, leave gaps as gaps, and do not claim what few prompts cannot show."""

import numpy as np
import pytest
import xarray as xr

from tests.results.fake import heads, result, with_tokens
from unweave.errors import InputError
from unweave.results import summary
from unweave.results.statistics import mean_interval, ratio_interval
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
    assert not summary(fake, seed=3)["p"].equals(summary(fake, seed=4)["p"])
    assert summary(fake, seed=3)["low"].equals(summary(fake, seed=4)["low"])


def effects(n_prompts: int = 8, **attrs: str | float) -> xr.DataArray:
    """Effects of two heads on prompts whose gap varies much: a head's change is a fixed part of it, or a fixed sum."""
    gap = np.random.default_rng(4).normal(3, 1, size=n_prompts)
    clean = gap + np.random.default_rng(5).normal(size=n_prompts)
    noise = 0.02 * np.random.default_rng(6).normal(size=(n_prompts, 2))
    change = np.stack([0.8 * gap, 0.8 * np.full(n_prompts, gap.mean())], axis=1) + noise
    return xr.DataArray(
        change / gap.mean(),
        dims=("prompt", "head"),
        coords={"clean": ("prompt", clean), "corrupted": ("prompt", clean - gap)},
        attrs={"measure": "effect", "gap": gap.mean(), "n_prompts": n_prompts, **attrs},
    )


def widths(result: xr.DataArray) -> list[float]:
    table = summary(result)
    return (table["high"] - table["low"]).values.tolist()


def test_an_effect_is_a_ratio_to_the_gap_of_its_prompts() -> None:
    fake = effects()
    table = summary(fake)
    change, gap = fake.values * fake.attrs["gap"], (fake["clean"] - fake["corrupted"]).values
    ends = ratio_interval(change.T, gap, 0.95)
    np.testing.assert_allclose((table["low"], table["high"]), ends)
    part, fixed = widths(fake)
    assert part < 0.1 < fixed
    turned = fake.assign_coords(clean=fake["corrupted"], corrupted=fake["clean"]).assign_attrs(gap=-fake.attrs["gap"])
    assert widths(-turned) == pytest.approx([part, fixed])


def test_a_drop_and_a_growth_are_ratios_too() -> None:
    fake = effects(measure="drop").drop_vars("corrupted")
    size = fake["clean"].mean().item()
    shares = (0.5 * fake["clean"] / size).values + 0.01 * np.random.default_rng(0).normal(size=8)
    drop = fake.isel(head=0).copy(data=-shares)
    assert widths(drop) == pytest.approx(widths(drop.rename(clean="total").assign_attrs(measure="", share_of="total")))
    assert 3 * np.ravel(widths(drop))[0] < np.ravel(widths(drop.assign_attrs(measure="change")))[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda fake: fake.isel(prompt=slice(0, 7)),
        lambda fake: fake.isel(prompt=[0, 1, 2, 3, 4, 5, 6, 6]),
        lambda fake: xr.concat([fake, fake], "prompt", coords="minimal", compat="override"),
        lambda fake: fake.drop_vars("corrupted"),
        lambda fake: fake.assign_coords(clean=fake["clean"] + np.nan),
    ],
)
def test_the_gap_is_known_where_its_prompts_are_not_those(change) -> None:
    fake = change(effects())
    known = summary(fake)
    assert known.attrs["interval"] != summary(effects()).attrs["interval"]
    low, high = mean_interval(fake.transpose(..., "prompt").values, 0.95)
    np.testing.assert_allclose((known["low"], known["high"]), (low, high))


def test_a_cell_that_lacks_a_prompt_takes_the_gap_as_known() -> None:
    fake = effects()
    fake[0, 0] = np.nan
    low, high = mean_interval(fake.values.T, 0.95)
    table = summary(fake)
    assert (table["low"][0], table["high"][0]) == (pytest.approx(low[0]), pytest.approx(high[0]))
    assert table["high"][1] != pytest.approx(high[1])


def test_effects_of_several_models_have_their_own_gaps() -> None:
    one, other = effects(), effects() * 1
    other = other.assign_coords(clean=other["corrupted"] + 2 * (other["clean"] - other["corrupted"]) ** 2)
    other = other.assign_attrs(gap=float((other["clean"] - other["corrupted"]).mean()))
    models = [array.assign_coords(gap=array.attrs["gap"]) for array in (one, other)]
    both = xr.concat(models, "model", combine_attrs="drop_conflicts")
    table = summary(both)
    for place, array in enumerate((one, other)):
        alone = summary(array)
        np.testing.assert_allclose(table["low"].isel(model=place), alone["low"])


def test_prompts_of_one_cluster_count_once() -> None:
    fake = heads()
    twice = xr.concat([fake, fake], "prompt").assign_coords(cluster=("prompt", [*"abcdefgh"] * 2))
    once, table = summary(fake), summary(twice)
    for column in ("mean", "low", "high", "p", "p_holm"):
        np.testing.assert_allclose(table[column], once[column], rtol=1e-6)
    assert (table.attrs["n_prompts"], table.attrs["n_clusters"], once.attrs["n_clusters"]) == (16, 8, 8)
    assert table.attrs["p_holm_smallest"] == once.attrs["p_holm_smallest"] > 0.05
    assert "8 clusters" in table.attrs["interval"]
    assert "8 clusters" in table.attrs["test"]
    assert summary(fake.assign_coords(cluster=("prompt", range(8)))).identical(once)
    apart = summary(twice.drop_vars("cluster"))
    assert (apart["high"] - apart["low"] < 0.8 * (table["high"] - table["low"])).sel(layer=[1, 2, 3]).all()


def test_a_cell_of_one_cluster_has_neither_interval_nor_p() -> None:
    fake = heads().assign_coords(cluster=("prompt", [0, 0, 0, 1, 1, 2, 2, 3]))
    fake[3:, 1, 2] = np.nan
    cell = summary(fake).sel(layer=1, head=2)
    assert cell["n"] == 3
    assert np.isfinite(cell["mean"])
    assert all(np.isnan(cell[column]) for column in ("low", "high", "p", "p_holm"))
    assert summary(fake).attrs["n_tests"] == 8
    alone = summary(fake.isel(prompt=slice(0, 3)))
    assert np.isnan(alone["low"]).all()
    assert alone.attrs["interval"] == "none: one cluster"


def test_a_share_has_wilsons_interval() -> None:
    right = xr.DataArray([1, 1, 1, 0], dims="prompt", name="accuracy")
    for values in (right, right.astype(bool), right.astype(np.float32)):
        table = summary(values)
        assert (table["low"].item(), table["high"].item()) == pytest.approx((0.300642, 0.954413), abs=1e-5)
    assert summary(right * 0 + 1)["low"] == pytest.approx(0.510109, abs=1e-5)
    assert summary(right * 0)["high"] == pytest.approx(0.489891, abs=1e-5)
    change = summary((right - 1).assign_attrs(measure="change"))
    assert change["low"] < -0.6
    assert change["high"] > 0


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


def test_what_has_no_prompts_any_more_has_a_mean_alone() -> None:
    fake = heads()
    table = summary(fake.mean("prompt"))
    np.testing.assert_allclose(table["mean"], fake.mean("prompt"))
    assert np.isnan(table["high"]).all()
    assert (table["n"] == 0).all()
    assert summary(fake.mean())["mean"] == pytest.approx(float(fake.mean()))
    assert summary(xr.Dataset({"z": fake.mean("prompt")}))["z"]["mean"].dims == ("layer", "head")


def test_a_summary_is_one_already() -> None:
    table, tree = summary(heads()), summary(xr.Dataset({"z": heads()}))
    assert summary(table) is table
    assert summary(tree) is tree
    assert list(summaries(tree)) == ["z"]
    assert summaries(table)["z"] is table


@pytest.mark.parametrize(
    "chosen",
    [{"layer": 2}, {"layer": 2, "head": 1}, {"layer": [1, 2]}, {"prompt": [0, 3, 5]}, {"layer": slice(0, 0)}],
)
def test_slices_are_summarised(chosen: dict) -> None:
    fake = heads()
    part = fake.isel(chosen)
    np.testing.assert_allclose(summary(part)["mean"], part.mean("prompt"), rtol=1e-6)
    assert summary(part)["mean"].dims == part.mean("prompt").dims
    averaged = fake.mean("head")
    np.testing.assert_allclose(summary(averaged)["mean"], averaged.mean("prompt"), rtol=1e-6)


def test_one_prompt_that_was_selected_is_one_prompt() -> None:
    fake = with_tokens(result({"prompt": 3, "layer": 2, "pos": 2}), [["a", " b"], ["a", " c"], ["a", " d"]])
    table = summary(fake.isel(prompt=1))
    assert (table["n"] == 1).all()
    assert table.attrs["n_prompts"] == 1
    assert table["token"].values.tolist() == ["a", " c"]
    assert table.attrs["tokens"] == "every prompt"


def test_what_is_no_number_is_named() -> None:
    with pytest.raises(InputError, match="<U1"):
        summary(xr.DataArray(["a", "b"], dims="prompt"))
    with pytest.raises(InputError, match="a list"):
        summary([1.0])  # type: ignore[call-overload]
    with pytest.raises(InputError, match="'prompt' is empty"):
        summary(heads().isel(prompt=[]))


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
    ],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        summary(heads(), **options)
