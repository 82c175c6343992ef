"""Models in half precision: every method answers, in float32, near the answer of the same weights in float64."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.tiny import tiny_model, tiny_pair
from unweave.circuits.circuit import Group

HALVES = (torch.bfloat16, torch.float16)
CIRCUIT = uw.Circuit(groups=(Group("movers", ((0, 1), (2, 3)), "all"),))


def circuit_scores(pair: uw.Contrast) -> xr.DataArray:
    score = uw.evaluate(CIRCUIT, pair, how="zero", progress=False)
    return score["faithfulness"].to_dataset()["score"]


METHODS: dict[str, Callable[[uw.Contrast], xr.DataArray]] = {
    "patch": lambda pair: uw.patch(pair, "v", ("layer", "pos"), progress=False),
    "several at once": lambda pair: uw.patch_at(pair, [["z 0.1", "mlp_out 1"]], progress=False),
    "path patching": lambda pair: uw.path_patch(pair, [(2, 1, "q"), "mlp 2"], at="S2", progress=False),
    "mean knockout": lambda pair: uw.knockout(pair, "z", "mean", at="S2", progress=False),
    "Gaussian knockout": lambda pair: uw.knockout(pair, "z", "gaussian", progress=False),
    "backup heads": lambda pair: uw.backup_heads(pair, [(1, 2)]),
    "attribution": lambda pair: uw.attribute(pair, by="head"),
    "lens": lambda pair: uw.logit_lens(pair),
    "attention": lambda pair: uw.attention(pair, [(1, 2)]),
    "circuit": circuit_scores,
}


@pytest.fixture(scope="module", params=HALVES, ids=str)
def pairs(request: pytest.FixtureRequest) -> tuple[uw.Contrast, uw.Contrast]:
    """The same weights in half precision and in float64."""
    half = tiny_pair(tiny_model("llama", request.param))
    return half, replace(half, model=half.model.to(dtype=torch.float64))


@pytest.mark.parametrize("name", METHODS)
def test_a_method(pairs: tuple[uw.Contrast, uw.Contrast], name: str) -> None:
    found, expected = (METHODS[name](pair) for pair in pairs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=0.2 * float(abs(expected).max()))


def test_scores_are_not_rounded_to_half_precision(pairs: tuple[uw.Contrast, uw.Contrast]) -> None:
    half, _ = pairs
    assert half.clean.dtype == torch.float32
    assert not torch.equal(half.clean.to(half.model.dtype).float(), half.clean)
