"""Pictures of results over several models."""

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from unweave.views.blocks import Figure
from unweave.views.pictures import blocks_of


def made(*others: str, size: int = 3, prompts: int = 5, models: tuple = (0, 1, 2)) -> xr.DataArray:
    """A result over three models; what model 2 does is the largest."""
    dims = ("model", *(["prompt"] if prompts else []), *others)
    shape = [len(models), *([prompts] if prompts else []), *[size for _ in others]]
    values = np.random.default_rng(0).normal(size=shape)
    values[-1] += 10
    coords = {"model": list(models)} | {dim: range(size) for dim in others}
    attrs = {"quantity": "effect", "n_prompts": prompts, "method": "activation patching"}
    return xr.DataArray(values, dims=dims, coords=coords, attrs=attrs)


def figures(result: xr.DataArray, n: int = 0) -> list:
    return [block.figure for block in blocks_of(result, n=n) if isinstance(block, Figure)]


def curves(figure) -> list:
    return [trace for trace in figure.data if trace.type == "scatter" and trace.mode != "lines"]


@pytest.mark.parametrize("prompts", [0, 5])
def test_a_number_a_model_is_one_curve(prompts):
    (figure,) = figures(made(prompts=prompts))
    (curve,) = curves(figure)
    assert list(curve.x) == ["0", "1", "2"]
    assert np.argmax(curve.y) == 2
    assert figure.layout.meta["title"].startswith("Effect rises most at model 2, by ")


def test_models_without_an_order_have_no_rise():
    (figure,) = figures(made(models=("before", "after", "other")))
    assert "rises" not in figure.layout.meta["title"]
    assert "model other" in figure.layout.meta["title"]


def test_few_values_are_curves_and_many_a_heat_map():
    (few,), (many,) = figures(made("layer")), figures(made("layer", size=12))
    assert [curve.name for curve in curves(few)] == ["layer 0", "layer 1", "layer 2"]
    assert len(curves(many)) == 1, "the dots on cells that are not significant"
    (cells,) = (trace for trace in many.data if trace.type == "heatmap")
    assert np.shape(cells.z) == (3, 12)


def test_heads_are_curves_and_a_map_for_each_model():
    lines, maps = figures(made("layer", "head"), n=4)
    assert len(curves(lines)) == 4
    assert all("." in curve.name for curve in curves(lines))
    assert sum(trace.type == "heatmap" for trace in maps.data) == 3


def test_any_two_others_are_a_map_for_each_model():
    (maps,) = figures(made("layer", "pos"))
    assert sum(trace.type == "heatmap" for trace in maps.data) == 3


def test_more_is_refused_with_what_to_choose():
    with pytest.raises(uw.InputError, match=r"result\.sel\(model=…\)"):
        blocks_of(made("layer", "head", "pos"))
    assert len(uw.show(made("layer", "head", "pos").sel(model=1)).blocks) >= 1


def test_several_sites_follow_each_other():
    result = xr.Dataset({"z": made("layer"), "v": made("layer", "head")})
    assert len(uw.show(result).blocks) == 3
