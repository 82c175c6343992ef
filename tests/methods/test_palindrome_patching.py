"""Patching, paths and attribution on the palindrome classifier: the class is read at END, and classes are answers."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.methods import palindromes
from tests.methods.by_edits import Paths, sweep


@cache
def pair(folder: Path, size: int) -> uw.Contrast:
    """Palindromes against the same with one value changed."""
    inputs = palindromes.reference(folder)["inputs"]
    clean, other = (torch.tensor(inputs[f"pairs.{side}"])[:size] for side in ("clean", "corrupted"))
    changed = inputs["pairs.changed_position"][:size]
    prompts = uw.Prompts.from_tokens(clean, answers=[1] * size, wrong=[0] * size, roles={"changed": changed})
    return uw.Contrast(palindromes.classifier(folder), prompts, uw.Prompts.from_tokens(other), uw.LogitDiff())


def same(got: xr.DataArray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(got.values, expected.numpy(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize(
    ("site", "over"),
    [("z", ("layer", "head")), ("k", ("layer", "head", "role")), ("resid_pre", ("layer", "pos"))],
)
def test_patching(shared_data: Path, site: str, over: tuple[str, ...], direction: str) -> None:
    three = pair(shared_data, 3)
    same(uw.patch(three, site, over, direction), sweep(three, site, over, direction))


def test_the_answer_goes_from_the_changed_value_to_the_end_through_two_heads(shared_data: Path) -> None:
    """Head 0.0 compares at the second half, and head 1.0 carries it to END."""
    heads = uw.patch(pair(shared_data, 64), "z", ("layer", "head")).mean("prompt")
    assert float(heads.sel(layer=1, head=0)) > 0.5
    assert abs(float(heads.sel(layer=1, head=1))) < 0.2
    stream = uw.patch(pair(shared_data, 64), "resid_pre", {"layer": [0, 1], "role": ["changed", "end"]})
    assert (stream.sel(layer=0, role="end") == 0).all()
    assert float(uw.patch(pair(shared_data, 64), "resid_post", {"layer": [1], "role": ["end"]}).mean()) == (
        pytest.approx(1.0, abs=1e-12)
    )


def test_paths(shared_data: Path) -> None:
    three = pair(shared_data, 3)
    naive = Paths(three, "noise", "live")
    direct, through = uw.path_patch(three), uw.path_patch(three, [(1, 0, "k"), (1, 0, "v")])
    for head in (0, 1):
        same(direct.sel(layer=0, head=head), naive.to_logits((0, head)))
        same(through.sel(layer=0, head=head), naive.to_inputs((0, head), [(1, 0, "k"), (1, 0, "v")]))


def test_attribution_and_lens(shared_data: Path) -> None:
    all_of_them = pair(shared_data, 64)
    parts = uw.attribute(all_of_them)
    np.testing.assert_allclose(parts.sum("component"), all_of_them.clean_scores, rtol=0, atol=1e-9)
    assert list(parts.component.values) == ["embed", "pos_embed", "0_attn", "1_attn", "bias"]
    np.testing.assert_allclose(
        uw.logit_lens(all_of_them).sel(stage="final"), all_of_them.clean_scores, rtol=0, atol=1e-9
    )


def test_a_sketch_and_its_evaluation(shared_data: Path) -> None:
    sixteen = pair(shared_data, 16)
    circuit = uw.sketch(sixteen)
    assert (1, 0) in circuit.heads
    found = uw.evaluate(circuit, sixteen, how="mean", effort=uw.EvaluationOptions(controls=0, subsets=0, searches=0))
    table = found["faithfulness"].to_dataset()
    np.testing.assert_allclose(table["score"].sel(kept="model"), sixteen.clean_scores, rtol=0, atol=1e-12)
    assert np.isfinite(table["score"]).all()
