"""A model's weights by their TransformerLens names: the tensors of its state dict, layers stacked."""

from typing import Literal

import pytest
import torch

import unweave as uw
from tests.small import random_model
from tests.tiny import tiny_model
from unweave.models.state_dict import state_dict_of

ATTENTION = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O")
SMALL = random_model(uw.small_config(2, 2, 8, 4, 7, 6, 3, d_mlp=5, name="tiny"))


@pytest.mark.parametrize("model", [SMALL, tiny_model("gpt2"), tiny_model("llama")], ids=lambda model: model.config.name)
def test_stacks_are_the_tensors_of_the_state_dict(model: uw.Model) -> None:
    state = state_dict_of(model)
    mlp = ("W_in", "W_out", "b_in", "b_out", *(["W_gate"] if model.config.gated_mlp else []))
    for room, names in (("attn", ATTENTION), ("mlp", mlp)):
        for name in names:
            grouped = name[-1] in "KV" and model.config.grouped
            rows = [state[f"blocks.{n}.{room}.{'_' * grouped}{name}"] for n in range(model.config.n_layers)]
            assert torch.equal(getattr(model, name), torch.stack(rows)), name
    for name, own in (("W_E", "embed.W_E"), ("W_U", "unembed.W_U"), ("b_U", "unembed.b_U")):
        assert torch.equal(getattr(model, name), state[own])
    if model.config.positions == "learned":
        assert torch.equal(model.W_pos, state["pos_embed.W_pos"])


def test_matrices_that_a_model_lacks_are_named() -> None:
    attention_only = random_model(uw.small_config(1, 2, 8, 4, 7, 6))
    for name in ("W_in", "W_out", "b_in", "b_out"):
        with pytest.raises(uw.InputError, match="has no MLPs"):
            getattr(attention_only, name)
    with pytest.raises(uw.InputError, match="W_gate: tiny gpt2 has no gated MLPs"):
        _ = tiny_model("gpt2").W_gate
    with pytest.raises(uw.InputError, match="W_pos: tiny llama has no learned position embeddings"):
        _ = tiny_model("llama").W_pos


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox"])
def test_weights_say_what_they_hold_without_their_numbers(kind: Literal["gpt2", "llama", "gpt_neox"]) -> None:
    model = tiny_model(kind)
    layer = model.weights.layers[0]
    factored = uw.weights.ov_matrices(model)
    for value in (model, model.config, model.weights, layer, layer.norm1, factored, factored.svd()):
        assert repr(value).startswith(f"{type(value).__name__}(")
        assert "tensor(" not in repr(value)
        assert "object at" not in repr(value)
        assert len(repr(value)) < 500
    assert f"w_qkv {[*layer.w_qkv.shape]}" in repr(layer)
    assert ("b_qkv" in repr(layer)) == (layer.b_qkv is not None)
    assert ("bias" in repr(layer.norm1)) == (kind != "llama")
