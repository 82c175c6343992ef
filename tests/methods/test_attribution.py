"""Attribution and the lens: the parts sum to the whole, and mean what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import unweave as uw
from tests.tiny import D_MLP, N_HEADS, N_LAYERS, tiny_model, tiny_pair
from unweave.models.run import Edit

KINDS = ["llama", "gpt2", "gpt_neox"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["component", "layer", "head", "neuron"])
def test_the_parts_and_the_rest_sum_to_the_logit_difference(kind, by):
    pair = tiny_pair(tiny_model(kind))
    parts = uw.attribute(pair, by=by)
    whole = parts.sum(parts.dims[1:]) + parts.rest
    np.testing.assert_allclose(whole, pair.clean_scores, atol=1e-10)
    np.testing.assert_allclose(parts.total, pair.clean_scores, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["component", "layer", "head", "neuron"])
@pytest.mark.parametrize("prompts", ["clean", "corrupted"])
def test_a_split_is_each_answers_logit_above_the_mean_candidate(kind, by, prompts):
    pair = tiny_pair(tiny_model(kind))
    whole = uw.attribute(pair, by=by, prompts=prompts)
    parts = uw.attribute(pair, by=by, prompts=prompts, split=True)
    right, wrong = (parts.sel(answer=answer, drop=True) for answer in ("right", "wrong"))
    np.testing.assert_allclose(right - wrong, whole, atol=1e-10)
    np.testing.assert_allclose(parts.sum(parts.dims[2:]) + parts.rest, parts.total, atol=1e-10)
    shown = pair.side(prompts)
    rows = torch.arange(len(shown))
    logits = pair.model.run(shown).logits[rows, pair.prompts.role("end")]
    asked = pair.prompts
    assert asked.answers is not None
    assert asked.wrong is not None
    mean = logits[:, torch.cat([asked.answers, asked.wrong]).unique()].mean(1)
    for tokens, part in ((asked.answers, right), (asked.wrong, wrong)):
        np.testing.assert_allclose(part.total, logits[rows, tokens] - mean, atol=1e-10)


def test_two_answers_alone_have_no_split():
    pair = tiny_pair(tiny_model("gpt2"))
    answers, wrong = torch.full((3,), 4), torch.full((3,), 5)
    alike = uw.Contrast(pair.model, replace(pair.prompts, answers=answers, wrong=wrong), pair.corrupted, pair.metric)
    with pytest.raises(uw.InputError, match="split: all prompts have the same two answers"):
        uw.attribute(alike, split=True)


@pytest.mark.parametrize("kind", KINDS)
def test_components_leave_nothing_out(kind):
    parts = uw.attribute(tiny_pair(tiny_model(kind)), by="component")
    np.testing.assert_allclose(parts.rest, 0, atol=1e-12)
    assert parts.component.values[0] == "embed"
    assert parts.component.values[-1] == "bias"


@pytest.mark.parametrize("kind", KINDS)
def test_heads_and_bias_sum_to_their_layer(kind):
    pair = tiny_pair(tiny_model(kind))
    heads, layers = uw.attribute(pair, by="head"), uw.attribute(pair, by="layer").sel(part="attn")
    bias = layers - heads.sum("head")  # what b_O writes; the same for all prompts up to the norm's scale
    if kind == "llama":
        np.testing.assert_allclose(bias, 0, atol=1e-12)
    else:
        assert float(abs(bias).max()) > 1e-3


def test_neurons_sum_to_their_mlp():
    pair = tiny_pair(tiny_model("llama"))
    neurons = uw.attribute(pair, by="neuron")
    assert neurons.shape == (3, N_LAYERS, D_MLP)
    np.testing.assert_allclose(neurons.sum("neuron"), uw.attribute(pair, by="layer").sel(part="mlp"), atol=1e-12)


def test_the_last_layers_head_is_worth_what_is_lost_without_it_at_a_fixed_scale():
    """With the norm's scale held, without its output its contribution is gone (parallel block: no MLP comes after)."""
    pair = tiny_pair(tiny_model("gpt_neox"))
    model, last = pair.model, N_LAYERS - 1
    run = model.run(pair.prompts, keep=["z", "resid_post"])
    zero = torch.zeros(1, dtype=model.dtype)
    without = model.run(pair.prompts, keep="resid_post", edits=[Edit("z", last, zero, head=1)])
    rows, end = torch.arange(3), pair.prompts.lengths - 1
    x, y = (r["resid_post", last][rows, end] for r in (run, without))
    removed = x - y - (x - y).mean(-1, keepdim=True)
    scale = (x - x.mean(-1, keepdim=True)).pow(2).mean(-1).add(model.config.norm_eps).sqrt()
    weights = model.weights
    assert weights.norm_final.weight is not None
    direction = weights.w_u[pair.prompts.answers] - weights.w_u[pair.prompts.wrong]
    expected = (removed / scale[:, None] * weights.norm_final.weight * direction).sum(-1)
    np.testing.assert_allclose(uw.attribute(pair, by="head").sel(layer=last, head=1), expected, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_lens_ends_at_the_models_own_answer(kind):
    pair = tiny_pair(tiny_model(kind))
    lens = uw.logit_lens(pair)
    np.testing.assert_allclose(lens.sel(stage="final"), pair.clean_scores, atol=1e-10)
    stages = N_LAYERS + 1 if kind == "gpt_neox" else 2 * N_LAYERS + 1
    assert lens.shape == (3, stages)
    assert uw.logit_lens(pair, mid=False).shape == (3, N_LAYERS + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_lens_with_each_stages_own_norm_is_the_model_cut_there(kind):
    """What a model of the first layers alone answers, read with the norm and unembedding of the whole."""
    pair = tiny_pair(tiny_model(kind))
    own, final = uw.logit_lens(pair, norm="own"), uw.logit_lens(pair)
    assert (own.attrs["norm"], final.attrs["norm"]) == ("own", "final")
    model, rows = pair.model, torch.arange(3)
    for layer in range(1, N_LAYERS):
        weights = replace(model.weights, layers=model.weights.layers[:layer])
        cut = replace(model, config=replace(model.config, n_layers=layer), weights=weights)
        logits = cut.run(pair.prompts).logits_at("end")
        expected = (logits[rows, pair.prompts.answers] - logits[rows, pair.prompts.wrong]).numpy()
        np.testing.assert_allclose(own.sel(stage=f"{layer}_pre"), expected, atol=1e-10)
        assert abs(final.sel(stage=f"{layer}_pre") - expected).max() > 1e-2
    np.testing.assert_allclose(own.sel(stage="final"), pair.clean_scores, atol=1e-10)
    with pytest.raises(uw.InputError, match="norm"):
        uw.logit_lens(pair, norm="pre")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_steps_of_the_lens_are_the_layers_contributions(kind):
    pair = tiny_pair(tiny_model(kind))
    steps = uw.logit_lens(pair).diff("stage")
    layers = uw.attribute(pair, by="layer")
    np.testing.assert_allclose(steps, layers.values.reshape(3, -1), atol=1e-10)


def test_attribution_of_the_corrupted_prompts_uses_the_clean_answers():
    pair = tiny_pair(tiny_model("gpt2"))
    parts = uw.attribute(pair, by="head", prompts="corrupted")
    np.testing.assert_allclose(parts.total, pair.corrupted_scores, atol=1e-10)


def test_some_layers_alone_leave_the_others_in_the_rest():
    pair = tiny_pair(tiny_model("gpt2"))
    some, whole = uw.attribute(pair, by="head", layers=[-1]), uw.attribute(pair, by="head")
    assert some.shape == (3, 1, N_HEADS)
    assert some.layer.values.tolist() == [N_LAYERS - 1]
    np.testing.assert_allclose(some, whole.sel(layer=[N_LAYERS - 1]), atol=1e-12)


def test_what_cannot_be_attributed_is_one_clear_error():
    pair = tiny_pair(tiny_model("gpt2"))
    with pytest.raises(uw.InputError, match="expected one of component, layer, head, neuron, got 'token'"):
        uw.attribute(pair, by="token")


def test_attention_rows_sum_to_one_and_are_the_runs_patterns():
    pair = tiny_pair(tiny_model("llama"))
    seen = uw.attention(pair, [(2, 3), "0.1"])
    assert seen.dims == ("prompt", "address", "q_pos", "k_pos")
    assert seen.address.values.tolist() == ["2.3", "0.1"]
    whole = seen.isel(prompt=[0, 2])  # the other prompt is shorter: there is no attention beyond its end
    np.testing.assert_allclose(whole.sum("k_pos"), 1, atol=1e-12)
    assert int(seen.isel(prompt=1, address=0).notnull().sum()) == 5 * 5
    pattern = pair.model.run(pair.prompts, keep="pattern")["pattern", 2][[0, 2], 3]
    np.testing.assert_allclose(whole.sel(address="2.3"), pattern, atol=1e-12)
    with pytest.raises(uw.InputError, match="heads 0 to 3"):
        uw.attention(pair, [(0, 4)])


def test_which_prompts_were_read_is_said():
    pair = tiny_pair(tiny_model("gpt2"))
    for prompts in ("clean", "corrupted"):
        for found in (
            uw.attribute(pair, "head", prompts=prompts),
            uw.attention(pair, (1, 2), prompts=prompts),
            uw.heads.role_attention(pair, prompts=prompts),
        ):
            assert found.attrs["prompts"] == prompts


def test_one_layer_or_role_needs_no_list():
    pair = tiny_pair(tiny_model("gpt2"))
    assert uw.attribute(pair, "head", layers=-1).identical(uw.attribute(pair, "head", layers=[N_LAYERS - 1]))
    assert uw.heads.role_attention(pair, "S2").identical(uw.heads.role_attention(pair, ["S2"]))
    assert uw.heads.attention_contribution(pair, "S2").identical(uw.heads.attention_contribution(pair, ["S2"]))
