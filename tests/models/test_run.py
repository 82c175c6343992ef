"""Runs: what is kept, under which names, and what edits change."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import unweave as uw
from tests.readers import unchecked, word_tokenizer
from tests.small import small_model
from tests.tiny import N_HEADS, N_LAYERS, tiny_model
from unweave.models.run import Edit, keys_to_keep
from unweave.nodes import SITES, site_named

TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_stream_is_the_sum_of_what_was_written(kind):
    model = tiny_model(kind)
    run = model.run(TOKENS, keep="all")
    stream = run["embed"] + (run["pos_embed"] if kind == "gpt2" else 0)
    for layer in range(N_LAYERS):
        torch.testing.assert_close(run["resid_pre", layer], stream)
        stream = stream + run["attn_out", layer]
        torch.testing.assert_close(run["resid_mid", layer], stream)
        stream = stream + run["mlp_out", layer]
        torch.testing.assert_close(run["resid_post", layer], stream)


def test_a_parallel_block_adds_both_halves_to_the_same_stream():
    run = tiny_model("gpt_neox").run(TOKENS, keep="all")
    for layer in range(N_LAYERS):
        both = run["resid_pre", layer] + run["attn_out", layer] + run["mlp_out", layer]
        torch.testing.assert_close(run["resid_post", layer], both)


def test_patterns_are_causal_and_sum_to_one():
    pattern = tiny_model("llama").run(TOKENS, keep="pattern")["pattern"]
    assert pattern.shape == (N_LAYERS, 2, N_HEADS, 5, 5)
    torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))
    assert pattern.triu(1).abs().max() == 0


def test_a_site_answers_to_its_lens_name_and_to_negative_layers():
    run = tiny_model("llama").run(TOKENS, keep=["z"])
    assert run["blocks.2.attn.hook_z"] is run["z", 2] is run["z", -1]
    assert run["z"].shape[0] == N_LAYERS


@pytest.mark.parametrize("name", list(SITES))
def test_every_lens_name_is_read_back(name):
    site = SITES[name]
    layer = 1 if site.in_layers else None
    assert site_named(site.lens_name.format(1)) == (site, layer)


def test_only_what_was_asked_for_is_kept():
    run = tiny_model("gpt2").run(TOKENS, keep=lambda name: name.endswith("hook_z"))
    assert set(run.kept) == {("z", layer) for layer in range(N_LAYERS)}
    with pytest.raises(uw.InputError, match=r"q of layer 1 was not kept; pass keep=\['q'\]"):
        run["q", 1]


def test_keep_takes_a_name_a_pair_or_a_list():
    config = tiny_model("gpt2").config
    assert keys_to_keep(config, ("z", 1)) == [("z", 1)]
    assert keys_to_keep(config, ("z", "q")) == keys_to_keep(config, ["z", "q"])
    assert keys_to_keep(config, "blocks.0.hook_attn_out") == [("attn_out", 0)]
    assert keys_to_keep(config, []) == []


def test_an_edit_sets_its_place_and_nothing_else_before_it():
    model, value = tiny_model("gpt2"), torch.full((4,), 2.0, dtype=torch.float64)
    edit = Edit("z", 1, value, head=2, pos=torch.tensor([1, 3]))
    plain, edited = model.run(TOKENS, keep="z"), model.run(TOKENS, keep="z", edits=[edit])
    assert torch.equal(plain["z", 0], edited["z", 0])
    changed = (plain["z", 1] != edited["z", 1]).any(-1)
    assert changed.nonzero().tolist() == [[0, 1, 2], [1, 3, 2]]
    assert torch.equal(edited["z", 1][0, 1, 2], value)


def test_an_edit_of_the_whole_stream_carries_the_other_prompts_answer():
    model, other = tiny_model("llama"), TOKENS.flip(0)
    donor = model.run(other, keep="resid_pre")
    edited = model.run(TOKENS, edits=[Edit("blocks.1.hook_resid_pre", 1, donor["resid_pre", 1])])
    torch.testing.assert_close(edited.logits, donor.logits)


def test_an_edit_of_the_last_norm_changes_the_logits():
    model = tiny_model("llama")
    edited = model.run(TOKENS, edits=[Edit("final", -1, torch.zeros(1, dtype=torch.float64))])
    assert edited.logits.abs().max() == 0


def test_an_edit_does_not_reach_into_a_kept_activation_of_another_run():
    model = tiny_model("gpt2")
    run = model.run(TOKENS, keep="all")
    before = {key: value.clone() for key, value in run.kept.items()}
    model.run(TOKENS, edits=[Edit(site, 1, run[site, 1] * 0) for site in ("resid_pre", "z", "mlp_post", "pattern")])
    assert all(torch.equal(before[key], value) for key, value in run.kept.items())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda: Edit("zz", 0, torch.zeros(1)), "'zz' is not a site"),
        (lambda: Edit("blocks.2.attn.hook_z", 1, torch.zeros(1)), "names layer 2"),
        (lambda: Edit("z", 7, torch.zeros(1)), "layers 0 to 2, got 7"),
        (lambda: Edit("k", 0, torch.zeros(1), head=2), "key and value heads 0 to 1 at k, got 2"),
        (lambda: Edit("z", 0, torch.zeros(3)), "does not fit z"),
        (lambda: Edit("z", 0, torch.zeros(1), neuron=1), "z has no neurons"),
    ],
)
def test_an_edit_that_fits_nowhere_is_one_clear_error(edit, message):
    with pytest.raises(uw.InputError, match=message):
        tiny_model("llama").run(TOKENS, edits=[edit()])


def test_sites_that_a_model_lacks_are_refused_with_the_reason():
    with pytest.raises(uw.InputError, match="no resid_mid, because its attention and MLP read the same"):
        tiny_model("gpt_neox").run(TOKENS, keep="resid_mid")
    with pytest.raises(uw.InputError, match="no learned position embeddings"):
        tiny_model("llama").run(TOKENS, keep="pos_embed")
    with pytest.raises(uw.InputError, match="Did you mean 'resid_pre'"):
        tiny_model("llama").run(TOKENS, keep="resid_per")


def test_tokens_that_do_not_fit_are_refused():
    model = tiny_model("llama")
    with pytest.raises(uw.InputError, match="token ids must lie in 0 to 22"):
        model.run(torch.tensor([[1, 99]]))
    with pytest.raises(uw.InputError, match="33 tokens, and tiny llama reads 32"):
        model.run(torch.zeros(1, 33, dtype=torch.long))
    with pytest.raises(uw.InputError, match="has no tokenizer"):
        model.run("some text")


def test_padding_is_never_read():
    model = tiny_model("gpt2")
    short = uw.Prompts.from_tokens(TOKENS, lengths=[3, 5])
    changed = TOKENS.clone()
    changed[0, 3:] = 0
    logits = [model.run(uw.Prompts.from_tokens(t, lengths=[3, 5])).logits_at("end") for t in (short.tokens, changed)]
    assert torch.equal(*logits)


@pytest.mark.parametrize("pad", [-100, 23, 10**6])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "both ways"])
def test_padding_may_be_outside_the_vocabulary(kind, pad):
    model = small_model("layer") if kind == "both ways" else tiny_model(kind)
    tokens = torch.tensor([[0, 3, 4, 5], [0, 4, 0, 0]])
    outside = tokens.clone()
    outside[1, 2:] = pad
    wide = torch.nn.functional.pad(outside, (0, model.config.n_ctx), value=pad)  # wider than the model reads
    made = [model.run(uw.Prompts.from_tokens(t, lengths=[4, 2])).logits_at("end") for t in (tokens, outside, wide)]
    for logits in made[1:]:
        torch.testing.assert_close(logits, made[0], rtol=0, atol=1e-12)


def test_texts_of_unequal_length_need_no_padding_token_of_the_model():
    tokenizer = word_tokenizer(["When Mary and John"], pad_token="<pad>")
    tokenizer.add_tokens([f"<{n}>" for n in range(40)])
    tokenizer.pad_token = "<39>"
    model = replace(tiny_model("llama"), tokenizer=tokenizer)
    assert tokenizer.pad_token_id >= model.config.d_vocab
    both = model.run(["When Mary and", "When"]).logits_at("end")
    assert torch.allclose(both[1], model.run("When").logits_at("end")[0], rtol=0, atol=1e-12)


def test_a_token_outside_the_vocabulary_is_named_with_its_place():
    model = tiny_model("llama")
    for number in (-1, 23):
        tokens = torch.tensor([[1, 2, 3], [2, number, 2]])
        with pytest.raises(uw.InputError, match=f"prompt 2 has token id {number} at position 1"):
            model.run(tokens)


def test_weight_stacks_are_the_projections():
    model = tiny_model("llama")
    run = model.run(TOKENS, keep=["resid_pre", "k", "z", "attn_out"])
    from unweave.models.forward import norm

    x = norm(model.config, model.weights.layers[1].norm1, run["resid_pre", 1])
    k = torch.einsum("bpd,hde->bphe", x, model.W_K[1])
    torch.testing.assert_close(k, run["k", 1])
    written = torch.einsum("bphe,hed->bpd", run["z", 2], model.W_O[2])
    torch.testing.assert_close(written, run["attn_out", 2])


def test_what_is_shown_of_a_run_and_an_edit_is_no_table_of_numbers() -> None:
    model = tiny_model("gpt2")
    run = model.run(torch.zeros(2, 5, dtype=torch.long), keep=["z", "resid_pre"])
    assert repr(run) == (
        "Run('tiny gpt2', Prompts(2 of 5 tokens, roles end, the first '0 0 0 0 0'), kept: resid_pre z)"
    )
    edit = Edit("z", 1, torch.zeros(2, 5, 4), head=3, pos=torch.tensor([1, 2]))
    assert repr(edit) == "Edit('z 1.3', value [2, 5, 4], pos=[2])"
    assert repr(model.weights).startswith("Weights(")
    assert len(repr(model.weights)) < 80


def test_values_that_hold_tensors_can_be_compared_and_kept_in_a_dict() -> None:
    model = tiny_model("gpt2")
    run = model.run(torch.zeros(2, 5, dtype=torch.long))
    assert run != model.run(torch.zeros(2, 5, dtype=torch.long))
    assert model != tiny_model("gpt2")
    assert {run: 1, model: 2, Edit("z", 1, torch.zeros(1)): 3}[model] == 2


def test_a_layer_may_be_a_number_of_another_library():
    run = tiny_model("gpt2").run(TOKENS, keep=("z", np.int64(-1)))
    assert run["z", torch.tensor(N_LAYERS - 1)] is run["z", np.int64(-1)]


def test_an_edit_may_be_one_and_its_value_a_number():
    model = tiny_model("gpt2")
    zeros = Edit("z", 1, torch.zeros(2, 5, 4), head=2)
    assert torch.equal(
        model.run(TOKENS, edits=Edit("z", 1, 0.0, head=2)).logits, model.run(TOKENS, edits=[zeros]).logits
    )


def test_token_ids_are_whole_numbers():
    with unchecked(), pytest.raises(uw.InputError, match=r"whole numbers, got torch.float32"):
        tiny_model("gpt2").run(torch.tensor([[1.0, 2.7]]))
