"""The logit lens and direct logit attribution equal the reference model's own weights and activations, in float64."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pytest
from torch import Tensor

import unweave as uw
from tests.oracle.both import Both, both
from tests.oracle.hooks import run
from tests.oracle.models import FAMILIES
from tests.oracle.projection import by_component, by_head, by_neuron, lens
from tests.oracle.sweeps import logit_difference

close = partial(np.testing.assert_allclose, rtol=0, atol=1e-9)


@pytest.fixture(scope="module", params=FAMILIES)
def side(request: pytest.FixtureRequest) -> Both:
    return both(request.param, "unequal", "ABC")


@pytest.fixture(scope="module")
def total(side: Both) -> np.ndarray:
    return logit_difference(side.pair)(run(side.hf, side.pair.clean).logits).numpy()


def same_parts(got: np.ndarray, labels: list[str], expected: Mapping[str, Tensor]) -> None:
    assert set(labels) == set(expected)
    for column, label in enumerate(labels):
        close(got[:, column], expected[label].numpy(), err_msg=label)


@pytest.mark.parametrize("mid", [True, False])
def test_logit_lens(side: Both, total: np.ndarray, mid: bool) -> None:
    expected = dict(lens(side.hf, side.pair))
    last = f"{side.hf.config.num_hidden_layers - 1}_post"
    wanted = {"final" if stage == last else stage: value for stage, value in expected.items()}
    wanted = {k: v for k, v in wanted.items() if not k.endswith("_post") and (mid or not k.endswith("_mid"))}
    result = uw.logit_lens(side.contrast, mid=mid)
    assert result.dims == ("prompt", "stage")
    same_parts(result.values, list(result.stage.values), wanted)
    close(result.sel(stage="final").values, total)


def test_by_component(side: Both, total: np.ndarray) -> None:
    expected = dict(by_component(side.hf, side.pair))
    result = uw.attribute(side.contrast, by="component")
    same_parts(result.values, list(result.component.values), expected)
    close(result.values.sum(1), total)


def test_by_layer(side: Both, total: np.ndarray) -> None:
    expected = by_component(side.hf, side.pair)
    result = uw.attribute(side.contrast, by="layer")
    for layer in range(side.hf.config.num_hidden_layers):
        for part in ("attn", "mlp"):
            close(result.sel(layer=layer, part=part).values, expected[f"{layer}_{part}"].numpy())
    close(result.values.sum((1, 2)) + result.rest.values, total)


def test_by_head(side: Both, total: np.ndarray) -> None:
    result = uw.attribute(side.contrast, by="head")
    assert result.dims == ("prompt", "layer", "head")
    close(result.values, by_head(side.hf, side.pair).numpy())
    close(result.values.sum((1, 2)) + result.rest.values, total)
    close(result.total.values, total)


def test_by_neuron(side: Both, total: np.ndarray) -> None:
    result = uw.attribute(side.contrast, by="neuron")
    assert result.dims == ("prompt", "layer", "neuron")
    close(result.values, by_neuron(side.hf, side.pair).numpy())
    close(result.values.sum((1, 2)) + result.rest.values, total)
