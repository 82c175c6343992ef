"""Attribution between two outputs, through later heads, and attention rebuilt from embeddings."""

import numpy as np
import pytest
import torch

import unweave as uw
from tests.tiny import N_LAYERS, tiny_model, tiny_pair
from unweave.methods.rebuilt_attention import KINDS as REBUILT
from unweave.methods.weights.head_matrices import class_direction, ov_matrices
from unweave.models.run import Edit

KINDS = ["llama", "gpt2", "gpt_neox"]


def prompts() -> uw.Prompts:
    return uw.Prompts.from_tokens(torch.arange(21).reshape(3, 7), [0, 1, 0], [1, 0, 1], lengths=[7, 5, 7])


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_sum_to_the_logit_difference_of_the_outputs(kind) -> None:
    model = tiny_model(kind)
    found = uw.classifier.class_attribution(model, prompts(), outputs=(4, 9))
    logits = model.run(prompts()).logits_at()
    np.testing.assert_allclose(found.total, logits[:, 4] - logits[:, 9], atol=1e-10)
    np.testing.assert_allclose(found.sum("component"), found.total, atol=1e-10)
    np.testing.assert_allclose(found.probability, logits[:, [4, 9]].softmax(-1)[:, 0], atol=1e-10)
    assert found.answer.values.tolist() == [0, 1, 0]


def test_it_agrees_with_attribution_of_the_answers() -> None:
    pair = tiny_pair(tiny_model("gpt2"))
    heads = uw.attribute(pair, by="head")
    for prompt, (answer, wrong) in enumerate(zip([1, 2, 3], [4, 5, 6], strict=True)):
        ours = uw.classifier.class_attribution(pair.model, pair.prompts, (answer, wrong)).isel(prompt=prompt)
        assert float(ours.sel(component="2.1")) == pytest.approx(float(heads[prompt].sel(layer=2, head=1)))
        assert set(ours.component.values) == {"embed", "pos_embed", "bias", "0_mlp", "1_mlp", "2_mlp"} | {
            f"{layer}.{head}" for layer in range(N_LAYERS) for head in range(4)
        }


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_last_norms_scale_all_parts_grow_by_it(kind) -> None:
    model = tiny_model(kind)
    plain, scaled = (uw.classifier.class_attribution(model, prompts(), final_norm=flag) for flag in (False, True))
    ratio = (plain / scaled).drop_sel(component="bias")
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio.values[:, :1], ratio.shape), rtol=1e-9)
    assert float(abs(ratio - 1).max()) > 0.1
    np.testing.assert_allclose(plain.total, scaled.total, atol=1e-12)


def test_through_a_later_head() -> None:
    model = tiny_model("gpt2")
    z = model.run(prompts(), keep=("z", 0))["z", 0][:, :, 2]
    expected = z @ model.W_O[0, 2] @ ov_matrices(model, ["2.1"]).matrix[0] @ class_direction(model, (4, 9))
    found = uw.classifier.attribution_through(model, prompts(), "0.2", "2.1", outputs=(4, 9))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-10)
    assert bool(found[1, 5:].isnull().all())
    assert bool(found[1, :5].notnull().all())


def test_what_a_position_offers_is_what_is_sent_when_the_head_looks_there_alone() -> None:
    model = tiny_model("gpt_neox").process("fold_norm", "fold_value_bias")  # a value bias is written wherever it looks
    itself = torch.eye(7, dtype=torch.float64).expand(3, 7, 7)
    z = model.run(prompts(), keep=("z", 1), edits=[Edit("pattern", 1, itself, head=2)])["z", 1][:, :, 2]
    said = ov_matrices(model, ["2.1"]).matrix[0] @ class_direction(model, (4, 9))
    found = uw.classifier.attribution_through(model, prompts(), "1.2", "2.1", looking="self", outputs=(4, 9))
    np.testing.assert_allclose(found[0], (z @ model.W_O[1, 2] @ said)[0], atol=1e-10)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_rebuilt_attention_is_the_models_where_nothing_is_left_out(kind) -> None:
    model = tiny_model(kind)  # llama has no biases; gpt2's are left out
    found = uw.classifier.rebuilt_attention(model, prompts(), "0.1")
    alone, both, own = (found.sel(address=f"0.1 {name}") for name in REBUILT)
    np.testing.assert_allclose(found.isel(prompt=[0, 2]).sum("k_pos"), 1, atol=1e-12)
    pattern = model.run(prompts(), keep=("pattern", 0))["pattern", 0][[0, 2], 1]
    np.testing.assert_allclose(own.isel(prompt=[0, 2]), pattern, atol=1e-12)
    assert float(abs(alone - own).max()) > 0.01
    if kind == "llama":
        np.testing.assert_allclose(both, own, atol=1e-12)
    else:
        assert float(abs(both - own).max()) > 0.01


def test_tokens_alone_do_not_depend_on_their_order() -> None:
    model = tiny_model("gpt2")
    found = uw.classifier.rebuilt_attention(model, torch.tensor([[3, 5, 7, 9], [5, 3, 7, 9]]), "0.0")
    last = found.isel(q_pos=-1).sel(address="0.0 tokens alone").values
    np.testing.assert_allclose(last[0], last[1][[1, 0, 2, 3]], atol=1e-12)
    both = found.isel(q_pos=-1).sel(address="0.0 tokens and positions").values
    assert np.abs(both[0] - both[1][[1, 0, 2, 3]]).max() > 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: uw.classifier.class_attribution(m, prompts(), (1, 1)), "two different outputs"),
        (lambda m: uw.classifier.class_attribution(m, prompts(), (1, 23)), "0 to 22"),
        (lambda m: uw.classifier.class_attribution(m, prompts(), role="S2"), "role 'S2'"),
        (lambda m: uw.classifier.attribution_through(m, prompts(), "1.0", "1.1"), "no later layer"),
        (
            lambda m: uw.classifier.attribution_through(m, prompts(), "0.0", "1.1", looking="elsewhere"),
            "'run' or 'self'",
        ),
        (lambda m: uw.classifier.rebuilt_attention(m, prompts(), "1.0"), "give a head of layer 0"),
    ],
)
def test_bad_input_is_one_clear_error(call, message: str) -> None:
    with pytest.raises(uw.InputError, match=message):
        call(tiny_model("gpt2"))


def test_norm_scales_are_what_the_norms_divide_by() -> None:
    model = tiny_model("gpt2")
    found = uw.weights.norm_scales(model, prompts())
    x = model.run(prompts(), keep="resid_pre")["resid_pre", 2][0]
    expected = (x.var(-1, correction=0) + model.config.norm_eps).sqrt()
    np.testing.assert_allclose(found.sel(prompt=0, layer=2), expected, atol=1e-12)
    assert bool(found.sel(prompt=1, pos=slice(5, None)).isnull().all())
