"""Pictures of classifiers: histograms by class, changes that are missed, rebuilt attention."""

import re
from typing import Any

import numpy as np
import xarray as xr

import unweave as uw
from tests.views.drawn import traces
from unweave.views.blocks import Figure
from unweave.views.pictures import blocks_of
from unweave.views.theme import PALETTE

ABOUT: dict[str, Any] = {"zero": "none", "one": "one logit", "unit": "logits", "quantity": "logit difference"}


def text(result: xr.DataArray) -> str:
    """The page of a result, with plain spaces."""
    return uw.show(result).html.replace("\u00a0", " ")


def parts() -> xr.DataArray:
    """Part `1.0` tells the classes apart by 10, `0.0` by 1, `embed` not at all."""
    answer = np.array([0, 1] * 10)
    values = np.stack([np.full(20, -0.5), answer * 1.0, 10.0 * (1 - answer)], axis=1)
    values += np.random.default_rng(0).normal(scale=0.01, size=values.shape)
    coords = {"component": ["embed", "0.0", "1.0"], "answer": ("prompt", answer)}
    about = {**ABOUT, "method": "class attribution", "n_prompts": 20}
    return xr.DataArray(values, dims=("prompt", "component"), coords=coords, attrs=about)


def missed(share: list[float]) -> xr.DataArray:
    values = np.stack([(np.arange(20) < 20 * part).astype(float) for part in share], axis=1)
    about = {**ABOUT, "method": "single changes", "quantity": "share of changes missed", "unit": "share", "label": 1}
    coords = {
        "pos": range(len(share)),
        "unchanged": ("prompt", np.ones(20)),
        "token": (("prompt", "pos"), values.astype(str)),
    }
    return xr.DataArray(values, dims=("prompt", "pos"), coords=coords, attrs=about)


def test_the_part_that_tells_the_classes_apart_comes_first() -> None:
    first, second, rest, table = blocks_of(parts())
    assert isinstance(first, Figure)
    assert first.title.index("1.0 (10.0") < first.title.index("0.0 (")
    assert isinstance(second, Figure)
    assert second.title.startswith("0.0.")
    assert "embed" in rest.html()
    assert "class 0" in table.html()


def test_classes_share_bins_and_have_their_colours() -> None:
    (figure, *_) = blocks_of(parts())
    assert isinstance(figure, Figure)
    bars = {trace.name: trace for trace in traces(figure.figure)}
    assert {name: bar.marker.color for name, bar in bars.items()} == {"class 0": PALETTE[4], "class 1": PALETTE[0]}
    np.testing.assert_array_equal(bars["class 0"].x, bars["class 1"].x)
    assert len(bars["class 0"].x) == 50
    assert sum(bars["class 0"].y) == sum(bars["class 1"].y) == 10


def test_without_answers_parts_are_ranked() -> None:
    (block,) = blocks_of(parts().drop_vars("answer"))
    assert isinstance(block, Figure)


def test_blind_spots_are_named() -> None:
    html = text(missed([0.1, 1.0, 0.0, 0.75]))
    assert re.search(r"at positions 1 \(100 %\) and 3 \(75 %\); elsewhere at most 10 %", html)
    assert "Unchanged, 100 % of 20 prompts are given class 1." in html
    assert "No position is blind: at most 10 % of single changes are missed at any" in text(missed([0.1, 0.05]))
    assert "missed at position 0 (100 %)" in text(missed([1.0]))


def test_rebuilt_attention_is_compared_with_the_models_own() -> None:
    own = np.eye(3)
    tables = np.stack([np.full((3, 3), 1 / 3), own, own])[None]
    coords = {"address": [f"0.1 {kind}" for kind in ("tokens alone", "tokens and positions", "the model")]}
    coords |= {"q_token": (("prompt", "q_pos"), [list("abc")]), "k_token": (("prompt", "k_pos"), [list("abc")])}
    about = {**ABOUT, "method": "rebuilt attention", "quantity": "attention", "notes": "biases are left out"}
    result = xr.DataArray(tables, dims=("prompt", "address", "q_pos", "k_pos"), coords=coords, attrs=about)
    html = uw.show(result).html
    assert re.search(r"tokens alone 33\s% and tokens and positions 100\s%", html)


def test_norm_scales_are_lines_by_layer() -> None:
    values = np.stack([np.full((4, 5), 0.5), np.full((4, 5), 2.0)], axis=1)
    coords = {"layer": [0, 1], "pos": range(5)}
    about = {**ABOUT, "method": "norm scales", "quantity": "norm scale", "unit": ""}
    result = xr.DataArray(values, dims=("prompt", "layer", "pos"), coords=coords, attrs=about)
    (block,) = blocks_of(result)
    assert isinstance(block, Figure)
    assert re.findall(r"by ([\d.]+) in layer (\d)", block.title) == [("0.50", "0"), ("2.00", "1")]
    assert [trace.name for trace in traces(block.figure) if trace.showlegend is not False] == ["layer 0", "layer 1"]
