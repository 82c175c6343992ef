"""Any method over several models: the same numbers as one by one, along a first dimension `model`."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.tiny import tiny_model, tiny_pair

# Attributes that every model has of its own.
SCORES = {"gap", "clean_mean"}


def patched(model: uw.Model) -> xr.DataArray:
    return uw.patch(tiny_pair(model), "z", over=("layer", "head"))


@pytest.fixture(scope="module")
def models() -> dict[int, uw.Model]:
    return {epoch: tiny_model("gpt2", seed=epoch) for epoch in (0, 5, 10)}


@pytest.fixture(scope="module")
def heads(models) -> xr.DataArray:
    result = uw.over_models(models, patched)
    assert isinstance(result, xr.DataArray)
    return result


def test_each_model_has_its_own_result(models, heads):
    assert heads.dims == ("model", "prompt", "layer", "head")
    assert heads["model"].values.tolist() == [0, 5, 10]
    for epoch, model in models.items():
        alone = patched(model)
        np.testing.assert_array_equal(heads.sel(model=epoch).values, alone.values)
        np.testing.assert_array_equal(heads["clean"].sel(model=epoch).values, alone["clean"].values)
    assert not np.array_equal(heads.sel(model=0).values, heads.sel(model=5).values)


def shared_attrs(alone: xr.DataArray) -> dict:
    """What a result says besides its values and scores, which every model has of its own."""
    return {name: value for name, value in alone.attrs.items() if name not in (*SCORES, "digest")}


def test_what_agrees_stays_and_what_differs_stands_along_the_models(models, heads):
    assert heads["text"].dims == ("prompt",)
    assert heads["clean"].dims == heads["corrupted"].dims == ("model", "prompt")
    assert shared_attrs(heads) == shared_attrs(patched(models[0]))
    assert all(heads[name].dims == ("model",) for name in SCORES)
    named = [
        replace(model, config=replace(model.config, name=f"m{n}", revision=f"r{n}")) for n, model in models.items()
    ]
    result = uw.over_models(named, patched)
    assert result["model"].values.tolist() == ["m0", "m5", "m10"]
    assert result["model_revision"].values.tolist() == ["r0", "r5", "r10"]
    assert "model_revision" not in result.attrs
    assert result["model_name"].values.tolist() == ["m0", "m5", "m10"]
    assert result.attrs["model"] == "3 models"
    assert result.attrs["method"] == "activation patching"


def test_models_are_asked_one_at_a_time(models):
    class Lazy(dict):
        def __getitem__(self, name):
            asked.append(("read", name))
            return super().__getitem__(name)

    asked: list[tuple[str, int]] = []
    gaps = uw.over_models(Lazy(models), lambda model: asked.append(("used", 0)) or tiny_pair(model).gap)
    assert isinstance(gaps, xr.DataArray)
    assert asked == [step for epoch in models for step in (("read", epoch), ("used", 0))]
    assert gaps.dims == ("model",)
    assert gaps.values.tolist() == [tiny_pair(model).gap for model in models.values()]


def test_several_sites_give_a_dataset(models):
    result = uw.over_models(models, lambda model: uw.patch(tiny_pair(model), ["z", "resid_pre"], over=("layer",)))
    assert isinstance(result, xr.Dataset)
    assert set(result.data_vars) == {"z", "resid_pre"}
    for name, site in result.data_vars.items():
        assert site.dims == ("model", "prompt", "layer")
        alone = uw.patch(tiny_pair(models[5]), ["z", "resid_pre"], over=("layer",))[name]
        np.testing.assert_array_equal(site.sel(model=5).values, alone.values)
        assert shared_attrs(site) == shared_attrs(alone)


def test_it_is_summarised_saved_and_read_back(heads, tmp_path):
    table = uw.summary(heads)
    assert table["mean"].dims == ("model", "layer", "head")
    np.testing.assert_allclose(table["mean"].sel(model=5), uw.summary(heads.sel(model=5))["mean"])
    for value in (heads, table):
        assert uw.load(uw.save(value, tmp_path / "result.nc")).identical(value)
    best = uw.top(heads, 1).rows[0]
    assert best.label == f"{best.where['layer']}.{best.where['head']} of model {best.where['model']}"


def test_models_of_another_shape_are_refused(models):
    def first_layers(model: uw.Model) -> xr.DataArray:
        return patched(model).isel(layer=slice(2 if model is models[5] else 3))

    with pytest.raises(uw.InputError, match=r"models: layer of 5 is not that of 0 .*layer 2.* against .*layer 3"):
        uw.over_models(models, first_layers)


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (lambda model: "a text", "expected a DataArray, a Dataset or a number of each model, got str"),
        (lambda model: xr.DataArray([1.0], dims="model"), "has a dimension 'model' already"),
    ],
)
def test_what_a_method_may_not_give(models, method, says):
    with pytest.raises(uw.InputError, match=says):
        uw.over_models(models, method)


def test_a_method_gives_one_kind_of_result(models):
    def mixed(model: uw.Model) -> xr.DataArray | float:
        return 1.0 if model is models[5] else patched(model)

    with pytest.raises(uw.InputError, match=r"of model 5 it gives DataArray \(a number\), of 0 DataArray \(prompt 3"):
        uw.over_models(models, mixed)


def test_models_must_have_names_of_their_own(models):
    with pytest.raises(uw.InputError, match="3 of them are called 'tiny gpt2'; give them by name"):
        uw.over_models(models.values(), patched)
    with pytest.raises(uw.InputError, match="there are none"):
        uw.over_models([], patched)


def test_ctrl_c_keeps_the_models_that_were_finished(models):
    def stopped(model: uw.Model) -> float:
        if model is models[10]:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(uw.Interrupted, match="after 2 of 3 models") as caught:
        uw.over_models(models, stopped)
    partial = caught.value.partial
    assert isinstance(partial, xr.DataArray)
    assert partial["model"].values.tolist() == [0, 5]
