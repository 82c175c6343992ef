"""What all results that need no contrast have in common: they say what they are, are saved and read back, and shown."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import xarray as xr

import unweave as uw
from tests.tiny import D_VOCAB, tiny_model

TOKENS = torch.arange(24).reshape(4, 6) % D_VOCAB
PROMPTS = uw.Prompts.from_tokens(TOKENS, answers=[0, 1, 0, 1])
RESULTS: dict[str, Callable[[uw.Model], xr.DataArray]] = {
    "QK circuit": lambda m: uw.weights.qk_circuit(m, ["0.1", "1.2"], "both"),
    "QK circuit over positions": lambda m: uw.weights.qk_circuit(m, ["0.1"], "positions", softmax=True),
    "OV circuit": lambda m: uw.weights.ov_circuit(m, ["0.1"]),
    "composition scores": lambda m: uw.weights.composition_scores(m, pairs=3),
    "K-composition": lambda m: uw.weights.k_composition(m, "0.1", "1.2"),
    "V-composition": lambda m: uw.weights.v_composition(m, "0.1", "1.2", "tokens"),
    "attribution through a head": lambda m: uw.classifier.attribution_through(m, PROMPTS, "0.1", "1.2"),
    "class attribution": lambda m: uw.classifier.class_attribution(m, PROMPTS),
    "copying eigenvalues": uw.weights.copying_eigenvalues,
    "norm scales": lambda m: uw.weights.norm_scales(m, PROMPTS),
    "rebuilt attention": lambda m: uw.classifier.rebuilt_attention(m, PROMPTS, "0.1"),
    "single changes": lambda m: uw.classifier.blind_spots(
        m, PROMPTS, 3, uw.classifier.other_tokens(TOKENS, D_VOCAB), progress=False
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_it_says_what_it_is_and_survives_a_file(name: str, tmp_path: Path) -> None:
    result = RESULTS[name](tiny_model("gpt2"))
    assert name.startswith(result.attrs["method"])
    for attr in ("quantity", "zero", "one", "model", "dtype", "version"):
        assert result.attrs[attr], attr
    uw.save(result, tmp_path / "result.nc")
    read = uw.load(tmp_path / "result.nc")
    xr.testing.assert_identical(result, read)
    assert uw.show(read).html == uw.show(result).html


@pytest.mark.parametrize("name", ["QK circuit over positions", "copying eigenvalues", "single changes"])
def test_the_same_call_gives_the_same_numbers(name: str) -> None:
    once, again = (RESULTS[name](tiny_model("gpt2")) for _ in range(2))
    xr.testing.assert_identical(once, again)
