"""Copying scores from eigenvalues, against the whole circuit over the vocabulary."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import unweave as uw
from tests.tiny import tiny_model


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_they_are_those_of_the_whole_circuit(kind) -> None:
    model = tiny_model(kind)
    found = uw.weights.copying_eigenvalues(model)
    for layer, head in ((0, 1), (2, 3)):
        whole = torch.tensor(uw.weights.ov_circuit(model, [(layer, head)])[0].values)
        values = torch.linalg.eigvals(whole)
        expected = float(values.sum().real / values.abs().sum())
        assert float(found.sel(layer=layer, head=head)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_head_that_writes_what_it_reads_copies(sign: int) -> None:
    """With W_O = ± (W_V as seen through embedding and unembedding) transposed, W_O M W_V is definite."""
    model = tiny_model("llama")
    weights, first = model.weights, model.weights.layers[0]
    assert first.norm1.weight is not None
    assert weights.norm_final.weight is not None
    again = (weights.norm_final.weight * weights.w_u).T @ weights.w_e
    w_v = first.w_qkv[24:28] * first.norm1.weight  # after four heads' queries and two keys of width 4
    w_o = first.w_o.clone()
    w_o[:, :4] = sign * again @ w_v.T
    changed = replace(weights, layers=(replace(first, w_o=w_o), *weights.layers[1:]))
    assert float(uw.weights.copying_eigenvalues(replace(model, weights=changed))[0, 0]) == pytest.approx(sign)


def test_classes_cannot_be_copied() -> None:
    model = tiny_model("gpt2")
    two = replace(
        model,
        config=replace(model.config, d_vocab_out=2),
        weights=replace(model.weights, w_u=model.weights.w_u[:2], b_u=None),
    )
    with pytest.raises(uw.InputError, match="answers with classes"):
        uw.weights.copying_eigenvalues(two)
    np.testing.assert_array_equal(uw.weights.ov_circuit(two)["output"], ["class 0", "class 1"])
