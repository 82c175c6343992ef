"""Circuits read off the weights against what the model computes on prompts of one and of two tokens."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import unweave as uw
from tests.tiny import D_VOCAB, N_CTX, N_HEADS, tiny_model
from unweave.methods.weights.full_circuits import MOST_TOKENS
from unweave.methods.weights.head_matrices import ov_matrices, qk_matrices

KINDS = ["llama", "gpt2", "gpt_neox"]


def without_biases(model: uw.Model) -> uw.Model:
    """The same with biases of attention and shifts of norms taken away, and, where learned, positions at 0."""
    weights = model.weights
    layers = tuple(
        replace(layer, norm1=replace(layer.norm1, bias=None), b_qkv=None, b_o=None) for layer in weights.layers
    )
    w_pos = None if weights.w_pos is None else torch.zeros_like(weights.w_pos)
    return replace(model, weights=replace(weights, layers=layers, w_pos=w_pos))


def scales(model: uw.Model) -> np.ndarray:
    """What the first norm divides each token's embedding by."""
    return uw.weights.norm_scales(model, torch.arange(D_VOCAB)[:, None]).sel(layer=0).values[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_asks_for_itself_as_it_does_in_the_model(kind) -> None:
    model = without_biases(tiny_model(kind))
    scores = model.run(torch.arange(D_VOCAB)[:, None], keep=("scores", 0))["scores", 0][:, :, 0, 0]
    table = uw.weights.qk_circuit(model, [(0, head) for head in range(N_HEADS)]).values
    own = np.diagonal(table, axis1=1, axis2=2).T / scales(model)[:, None] ** 2
    np.testing.assert_allclose(own, scores, atol=1e-10)


def test_every_token_asks_for_every_other_as_it_does_in_the_model() -> None:
    model = without_biases(tiny_model("gpt2"))
    pairs = torch.cartesian_prod(torch.arange(D_VOCAB), torch.arange(D_VOCAB))  # key, then query
    scores = model.run(pairs, keep=("scores", 0))["scores", 0][:, 1, 1, 0].reshape(D_VOCAB, D_VOCAB).T
    table = uw.weights.qk_circuit(model, ["0.1"])[0].values / np.outer(scales(model), scales(model))
    np.testing.assert_allclose(table, scores, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_looks_at_one_token_writes_what_its_circuit_says(kind) -> None:
    model = without_biases(tiny_model(kind))
    z = model.run(torch.arange(D_VOCAB)[:, None], keep=("z", 0))["z", 0][:, 0]
    written = torch.einsum("phe,hed->phd", z, model.W_O[0])
    circuit = uw.weights.ov_circuit(model, [(0, head) for head in range(N_HEADS)])
    norm, w_u = model.weights.norm_final.weight, model.weights.w_u
    assert norm is not None
    centred = written - written.mean(-1, keepdim=True) if kind != "llama" else written
    said = (centred * norm) @ w_u.T
    np.testing.assert_allclose(circuit.values.transpose(1, 0, 2) / scales(model)[:, None, None], said, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_processing_changes_no_circuit(kind) -> None:
    model = tiny_model(kind)
    steps = ["fold_norm"] if kind == "llama" else ["center_writing", "fold_norm", "fold_value_bias"]
    processed = model.process(*steps)
    for circuit in (uw.weights.qk_circuit, uw.weights.ov_circuit):
        np.testing.assert_allclose(circuit(processed), circuit(model), atol=1e-9)
    ours, theirs = (uw.weights.composition_scores(m, pairs=2) for m in (model, processed))
    np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_positions_and_both() -> None:
    model = tiny_model("gpt2")
    both = uw.weights.qk_circuit(model, [(1, 2)], "both")
    assert both.sizes["key"] == D_VOCAB + N_CTX
    assert both["key"].values[[0, -1]].tolist() == ["token 0", f"position {N_CTX - 1}"]
    assert both["key_id"].values[[0, -1]].tolist() == [0, N_CTX - 1]
    positions, tokens = uw.weights.qk_circuit(model, [(1, 2)], "positions"), uw.weights.qk_circuit(model, [(1, 2)])
    np.testing.assert_allclose(both[:, D_VOCAB:, D_VOCAB:], positions, atol=1e-12)
    np.testing.assert_allclose(both[:, :D_VOCAB, :D_VOCAB], tokens, atol=1e-12)
    assert positions.dims == ("address", "q_pos", "k_pos")
    assert uw.weights.ov_circuit(model, over="positions").dims == ("address", "k_pos", "output")


def test_a_softmax_over_positions_sees_no_later_ones() -> None:
    shares = uw.weights.qk_circuit(tiny_model("gpt2"), over="positions", softmax=True)
    np.testing.assert_allclose(shares.sum("k_pos"), 1, atol=1e-12)
    assert not np.triu(shares.values, 1).any()
    assert (uw.weights.qk_circuit(tiny_model("gpt2"), softmax=True) > 0).all()


def test_the_norms_scale_divides_scores_twice_and_outputs_once() -> None:
    model = tiny_model("gpt2")
    np.testing.assert_allclose(
        uw.weights.qk_circuit(model, norm_scale=2.0), uw.weights.qk_circuit(model) / 4, atol=1e-12
    )
    np.testing.assert_allclose(
        uw.weights.ov_circuit(model, norm_scale=2.0), uw.weights.ov_circuit(model) / 2, atol=1e-12
    )


def test_chosen_tokens_are_rows_of_the_whole() -> None:
    model, some = tiny_model("llama"), [5, 2]
    np.testing.assert_allclose(
        uw.weights.qk_circuit(model, tokens=some), uw.weights.qk_circuit(model)[:, some, some], atol=1e-12
    )
    chosen = uw.weights.ov_circuit(model, tokens=some)
    assert chosen["output"].values.tolist() == ["5", "2"]
    np.testing.assert_allclose(chosen, uw.weights.ov_circuit(model)[:, some, some], atol=1e-12)


def test_shared_keys_and_values_belong_to_each_of_their_heads() -> None:
    model = tiny_model("llama")
    assert qk_matrices(model).shape == (12, 16, 16)
    right, values = qk_matrices(model).right, ov_matrices(model).left
    assert torch.equal(right[0], right[1])
    assert torch.equal(values[2], values[3])
    assert not torch.equal(right[1], right[2])


def test_the_share_of_rows_that_look_where_expected() -> None:
    circuit = uw.weights.qk_circuit(tiny_model("gpt2"), ["0.0"])
    best = circuit[0].values.argmax(1)
    assert float(uw.weights.top_1_accuracy(circuit)[0]) == pytest.approx((best == np.arange(D_VOCAB)).mean())
    assert float(uw.weights.top_1_accuracy(circuit, best.tolist())[0]) == 1
    assert float(uw.weights.top_1_accuracy(circuit, ((best + 1) % D_VOCAB).tolist())[0]) == 0
    with pytest.raises(uw.InputError, match="expected: one column"):
        uw.weights.top_1_accuracy(circuit, [1, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uw.weights.qk_circuit(tiny_model("llama"), over="positions"), "positions are rotary.*over='tokens'"),
        (lambda: uw.weights.k_composition(tiny_model("llama"), "0.0", "1.0"), "positions are rotary"),
        (lambda: uw.weights.qk_circuit(tiny_model("gpt2"), over="words"), "expected one of tokens, positions, both"),
        (lambda: uw.weights.qk_circuit(tiny_model("gpt2"), over="both", softmax=True), "softmax"),
        (lambda: uw.weights.qk_circuit(tiny_model("gpt2"), norm_scale=0.0), "norm_scale"),
        (lambda: uw.weights.qk_circuit(tiny_model("gpt2"), ["3.0"]), "layers 0 to 2"),
        (lambda: uw.weights.qk_circuit(tiny_model("gpt2"), tokens=[1, 1]), "given twice"),
        (lambda: uw.weights.ov_circuit(tiny_model("gpt2"), tokens=[D_VOCAB]), "0 to 22"),
    ],
)
def test_what_cannot_be_read_off_is_one_clear_error(call, message: str) -> None:
    with pytest.raises(uw.InputError, match=message):
        call()


def test_a_large_vocabulary_must_be_chosen_from() -> None:
    model = tiny_model("gpt2")
    rows = MOST_TOKENS + 1
    w_e = torch.ones(rows, 16, dtype=torch.float64)
    config = replace(model.config, d_vocab=rows, d_vocab_out=rows)
    large = replace(model, config=config, weights=replace(model.weights, w_e=w_e, w_u=w_e.clone(), b_u=None))
    with pytest.raises(uw.InputError, match="name some"):
        uw.weights.qk_circuit(large, ["0.0"])
    with pytest.raises(uw.InputError, match="name some"):
        uw.weights.ov_circuit(large, ["0.0"], "positions")
    assert uw.weights.qk_circuit(large, ["0.0"], tokens=[3, 7]).shape == (1, 2, 2)


def test_rotary_circuits_say_what_they_leave_out() -> None:
    assert "same position" in uw.weights.qk_circuit(tiny_model("llama")).attrs["notes"]
    assert not uw.weights.qk_circuit(tiny_model("gpt2")).attrs["notes"]
