"""What results show, in words computed from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.tiny import tiny_model, tiny_pair
from unweave.studies.controls import control_finding
from unweave.studies.findings import agreement
from unweave.studies.scores import scores
from unweave.studies.standard import strongest
from unweave.studies.standard_pictures import both_ways


def heads(values: np.ndarray, corruption: str = "swap") -> xr.DataArray:
    attrs = {"method": "activation patching", "quantity": "effect", "site": "z", "corruption": corruption}
    coords = {"layer": range(values.shape[1]), "head": range(values.shape[2])}
    return xr.DataArray(values, dims=("prompt", "layer", "head"), coords=coords, attrs=attrs)


def noised(values: np.ndarray) -> xr.DataArray:
    return heads(values).assign_attrs(measure="effect", direction="noise")


def test_the_strongest_head_is_one_that_is_told_from_zero() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(0, 0.01, (16, 2, 3))
    values[:, 1, 2] -= 0.3
    values[:, 1, 1] += 0.9  # works against the answer
    values[0, 0, 0] = -16.0  # a larger mean, of one prompt alone
    assert strongest({"paths": noised(values)}) == [(1, 2)]
    assert strongest({"paths": noised(values[:1])}) == [(0, 0)]
    with pytest.raises(uw.InputError, match="needs the result `paths`"):
        strongest({})


def test_agreement_of_two_corruptions() -> None:
    values = np.arange(12.0).reshape(1, 3, 4).repeat(2, 0)
    assert "swap and ABC the effects correlate at 1.00; 6 of the first 6" in agreement(
        heads(values), heads(2 * values, "ABC")
    )
    assert "correlate at −1.00" in agreement(heads(values), heads(-values, "ABC"))


def test_controls_say_what_should_be() -> None:
    values = xr.DataArray(np.array([[0.0, 0.0, 0.0, 1.0]]), dims=("prompt", "address"))
    assert control_finding({"controls": values}, "it").startswith("3 patches before it have an effect of exactly 0")
    assert "where it should be 0" in control_finding({"controls": values + 0.01}, "it")


@pytest.mark.parametrize(("better", "gap"), [("higher", 1.0), ("lower", -1.0), ("lower", 1.0), ("higher", -1.0)])
def test_the_sign_that_carries_the_answer_is_the_metrics(better: str, gap: float) -> None:
    """Effects are shares of the gap; only if the corrupted prompts score better does the other sign carry."""
    sign = 1 if (better == "higher") == (gap > 0) else -1
    values = np.array([[[0.5, -0.3, 0.1]]]) * sign
    about = {"measure": "effect", "metric": "it", "better": better, "gap": gap}
    z = heads(values).assign_attrs(direction="denoise", **about)
    noise = heads(-values).assign_attrs(direction="noise", **about)
    assert strongest({"paths": noise}) == [(0, 0)]
    assert "bring back 0.30 together; noised one at a time, they take away 0.30" in both_ways(z, noise)


def test_scores_are_those_of_the_chosen_prompts() -> None:
    pair = tiny_pair(tiny_model("llama"))
    table = scores(pair, [2, 0])
    assert np.array_equal(table, pair.clean_scores[[2, 0]])
    assert np.array_equal(table["corrupted"], pair.corrupted_scores[[2, 0]])
    assert table.attrs["metric"] == "logit difference"


def test_scores_count_clusters_also_once_they_were_saved(tmp_path: Path) -> None:
    three = tiny_pair(tiny_model("llama"))
    alike = replace(three.prompts, clusters=torch.tensor([0, 1, 0]))
    pair = uw.Contrast(three.model, alike, three.corrupted, three.metric)
    uw.save(scores(pair), tmp_path / "scores.nc")
    again = uw.load(tmp_path / "scores.nc")
    assert again["cluster"].to_numpy().tolist() == [0, 1, 0]
    for table in (scores(pair), again):
        assert uw.summary(table).attrs["n_clusters"] == 2  # pyright: ignore[reportArgumentType]
