"""Knockouts: labels, measures, stand-ins, and what is refused. That effects are right is tested against the oracle."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.readers import unchecked
from tests.tiny import D_HEAD, D_MODEL, N_HEADS, N_LAYERS, tiny_model, tiny_pair
from unweave.methods.replacement import replacing
from unweave.models.run import Edit


def score(pair: uw.Contrast, edits: list[Edit]) -> torch.Tensor:
    logits = pair.model.run(pair.prompts, edits=edits).logits_at("end")
    rows = torch.arange(len(pair.prompts))
    return logits[rows, pair.prompts.answers] - logits[rows, pair.prompts.wrong]


def grouped(groups: list[int], lengths: tuple[int, ...] = (7, 7, 7)) -> uw.Contrast:
    """A pair whose prompts come from templates."""
    pair = tiny_pair(tiny_model("gpt2"), lengths)
    numbers = torch.tensor(groups)
    clean, corrupted = (replace(prompts, groups=numbers) for prompts in (pair.prompts, pair.corrupted))
    return uw.Contrast(pair.model, clean, corrupted, pair.metric)


def test_every_head_in_turn_is_a_table_and_a_list_is_named():
    pair = tiny_pair(tiny_model("llama"))
    heads = uw.knockout(pair)
    assert heads.dims == ("prompt", "layer", "head")
    assert heads.attrs["method"] == "knockout"
    assert (heads.attrs["how"], heads.attrs["at"], heads.attrs["source"]) == ("zero", [], "")
    listed = uw.knockout(pair, [(1, 2), "q 0.3", "mlp 2"], "mean", at=["S1", "end"])
    assert listed.address.values.tolist() == [f"{name} @S1 + {name} @end" for name in ("z 1.2", "q 0.3", "mlp 2")]
    assert listed.attrs["at"] == ["S1", "end"]
    assert listed.attrs["source"] == "corrupted"


def test_a_list_in_the_list_is_together_and_one_word_says_whose_values_replace_it():
    pair = tiny_pair(tiny_model("llama"))
    joint = uw.knockout(pair, ["1.2", (0, 1)], "mean", joint=True)
    assert joint.address.values.tolist() == ["z 1.2 + z 0.1"]
    for together in ([["1.2", (0, 1)]], ["1.2 + 0.1"], "1.2 + 0.1", [["1.2", (0, 1)], "mlp 1"]):
        listed = uw.knockout(pair, together, "mean")
        assert listed.address.values[0] == "z 1.2 + z 0.1"
        np.testing.assert_allclose(listed[:, 0], joint[:, 0], atol=1e-12)
    apart = uw.knockout(pair, ["1.2", (0, 1)], "mean")
    assert apart.address.values.tolist() == ["z 1.2", "z 0.1"]
    assert float(abs(apart.sum("address") - joint[:, 0]).max()) > 1e-3
    rows = uw.knockout(pair, [[1, 2], [0, 1]], "mean")  # heads as the rows of an array
    np.testing.assert_array_equal(rows, apart)


def test_grouped_keys_and_values_say_that_they_are_shared():
    pair = tiny_pair(tiny_model("llama"))
    keys = uw.knockout(pair, "k")
    assert keys.dims == ("prompt", "layer", "kv_head")
    assert "shared by 2 query heads" in keys.attrs["notes"]
    assert "shared" not in uw.knockout(pair, "q").attrs["notes"]


def test_measures_are_one_change_on_three_scales():
    pair = tiny_pair(tiny_model("gpt2"))
    change = uw.knockout(pair, measure="change")
    expected = score(pair, [Edit("z", 1, torch.zeros(1, dtype=torch.float64), head=2)]) - pair.clean_scores
    np.testing.assert_allclose(change.sel(layer=1, head=2), expected, atol=1e-12)
    np.testing.assert_allclose(uw.knockout(pair), change / pair.gap, atol=1e-12)
    np.testing.assert_allclose(uw.knockout(pair, measure="drop"), change / float(pair.clean_scores.mean()), atol=1e-12)


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_all_layers_resampled_leave_the_corrupted_answer_where_the_last_token_is_the_same(kind):
    pair = tiny_pair(tiny_model(kind))
    everything = uw.knockout(pair, [f"layer {n}" for n in range(N_LAYERS)], "resample", at="end", joint=True)
    whole = ((pair.corrupted_scores - pair.clean_scores) / pair.gap).numpy()
    np.testing.assert_allclose(everything[[0, 2], 0], whole[[0, 2]], atol=1e-12)
    assert abs(float(everything[1, 0] - whole[1])) > 1e-3  # its last token differs, and with it the embedding


def test_what_is_not_read_again_has_effect_exactly_zero():
    pair = tiny_pair(tiny_model("gpt2"))
    at_s2 = uw.knockout(pair, at="S2")
    assert (at_s2.sel(layer=N_LAYERS - 1).values == 0.0).all()
    assert (at_s2.sel(layer=0).values != 0.0).all()


def test_means_of_other_prompts():
    pair = tiny_pair(tiny_model("gpt2"), (7, 7, 7))
    more = uw.Prompts.from_tokens(torch.cat([pair.corrupted.tokens, pair.prompts.tokens]))
    made = replacing(pair, [("z", 0)], uw.Replacement("mean", reference=more))[0](range(len(pair.prompts)))
    torch.testing.assert_close(made["z", 0][1], pair.model.run(more, keep="z")["z", 0].mean(0))


@pytest.mark.parametrize("how", ["mean", "resample", "template"])
def test_values_are_the_corrupted_prompts_unless_a_source_is_named(how):
    pair = grouped([2, 2, 2])
    for attribute in (uw.knockout, lambda pair, **given: uw.heads.knockout_attribution(pair, "1.2", **given)):
        left_out = attribute(pair, how=how)
        corrupted, clean = (attribute(pair, how=how, source=source) for source in ("corrupted", "clean"))
        assert [found.attrs["source"] for found in (left_out, corrupted, clean)] == ["corrupted", "corrupted", "clean"]
        assert {found.attrs["how"] for found in (left_out, corrupted, clean)} == {how}
        assert left_out.identical(corrupted)
        assert left_out.identical(attribute(pair, how=uw.Replacement(how, reference="corrupted")))
        assert float(abs(corrupted - clean).max()) > 1e-3
        others = attribute(pair, how=how, source=pair.prompts)
        np.testing.assert_allclose(others, clean, atol=1e-12)
        assert others.attrs["source"] == "other prompts"


def test_a_template_of_one_prompt_is_refused_and_kept_only_when_asked():
    pair = grouped([2, 2, 5])
    with pytest.raises(uw.InputError, match=r"template 5 has one prompt, whose mean is the prompt itself.*lone='keep'"):
        uw.knockout(pair, how="template")
    kept = uw.knockout(pair, how=uw.Replacement("template", reference="clean", lone="keep"))
    assert kept.attrs["notes"] == "template 5 has one prompt: its mean is the prompt itself"
    assert abs(kept.values[2]).max() < 1e-12
    assert abs(kept.values[:2]).max() > 1e-3


def test_a_larger_reference_gives_a_lone_template_company():
    pair = grouped([2, 2, 5])
    larger = replace(
        uw.Prompts.from_tokens(torch.cat([pair.prompts.tokens, pair.corrupted.tokens])),
        groups=torch.tensor([2, 5, 5, 5, 9, 2]),
    )
    values, note = replacing(pair, [("z", 1)], uw.Replacement("template", reference=larger))
    made = values(range(len(pair.prompts)))
    z = pair.model.run(larger, keep="z")["z", 1]
    torch.testing.assert_close(made["z", 1], torch.stack([z[[0, 5]].mean(0), z[[0, 5]].mean(0), z[1:4].mean(0)]))
    assert note == ""


@pytest.mark.parametrize(
    ("groups", "lengths", "message"),
    [(None, (7, 7, 7), "no templates"), ([1, 1, 1], (7, 5, 7), r"template 1 have \[5, 7\] tokens")],
)
def test_templates_that_have_no_mean(groups, lengths, message):
    pair = tiny_pair(tiny_model("gpt2"), lengths) if groups is None else grouped(groups, lengths)
    with pytest.raises(uw.InputError, match=message):
        uw.knockout(pair, how="template")


def test_reference_prompts_must_fit():
    pair = tiny_pair(tiny_model("gpt2"), (7, 7, 7))
    few, short = uw.Prompts.from_tokens(pair.prompts.tokens[:2]), uw.Prompts.from_tokens(pair.prompts.tokens[:, :5])
    with pytest.raises(uw.InputError, match="expected 3 prompts of the clean prompts' lengths"):
        uw.knockout(pair, how=uw.Replacement("resample", reference=few))
    with pytest.raises(uw.InputError, match="longest prompt has 5 tokens"):
        uw.knockout(pair, how=uw.Replacement("mean", reference=short))
    other = grouped([1, 1, 1])
    stranger = replace(other.prompts, groups=torch.tensor([8, 8, 8]))
    with pytest.raises(uw.InputError, match="template 1 has no prompt in it"):
        uw.knockout(other, how=uw.Replacement("template", reference=stranger))


def test_gaussian_draws_are_seeded_and_do_not_depend_on_what_else_is_drawn():
    pair = tiny_pair(tiny_model("gpt2"))
    table = uw.knockout(pair, how="gaussian")
    np.testing.assert_array_equal(uw.knockout(pair, how="gaussian"), table)
    np.testing.assert_allclose(uw.knockout(pair, [(2, 1)], "gaussian")[:, 0], table.sel(layer=2, head=1), atol=1e-12)
    other = uw.knockout(pair, how=uw.Replacement("gaussian", seed=1))
    assert float(abs(table - other).min()) > 0
    assert (table.attrs["noise_seed"], other.attrs["noise_seed"]) == (0, 1)


def test_gaussian_draws_have_mean_0_and_variance_1():
    pair = tiny_pair(tiny_model("gpt2"), (20, 20, 20))
    made = replacing(pair, [("z", n) for n in range(N_LAYERS)], uw.Replacement("gaussian"))[0](range(len(pair.prompts)))
    drawn = torch.stack(list(made.values()))
    assert drawn.shape == (N_LAYERS, 3, 20, N_HEADS, D_HEAD)
    assert abs(float(drawn.mean())) < 4 / drawn.numel() ** 0.5
    assert abs(float(drawn.var()) - 1) < 4 * (2 / drawn.numel()) ** 0.5


def test_a_random_pattern_does_not_look_ahead():
    pair = tiny_pair(tiny_model("gpt2"))
    made = replacing(pair, [("pattern", 0)], uw.Replacement("gaussian"))[0](range(len(pair.prompts)))
    assert (made["pattern", 0].triu(1) == 0).all()
    assert (made["pattern", 0].tril() != 0).any()


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_a_result_is_its_head_but_for_noise(kind):
    pair = tiny_pair(tiny_model(kind))
    np.testing.assert_array_equal(uw.knockout(pair, "result", "mean"), uw.knockout(pair, "z", "mean"))
    noisy = uw.knockout(pair, "result", "gaussian", at="S2")
    assert noisy.dims == ("prompt", "layer", "head")
    assert float(abs(noisy - uw.knockout(pair, "z", "gaussian", at="S2")).max()) > 1e-3
    assert (noisy.sel(layer=N_LAYERS - 1).values == 0.0).all()


def test_noise_in_the_stream_takes_the_heads_part_and_nothing_else():
    """By hand: the heads silenced, noise added to what is left of their layer, the later layer seeing the earlier."""
    pair = tiny_pair(tiny_model("gpt2"))
    joint = uw.knockout(pair, ["result 0.1", "result 2.3", "result 0.2"], "gaussian", joint=True, measure="change")
    zero = torch.zeros(1, dtype=torch.float64)
    silent = [Edit("z", 0, zero, head=1), Edit("z", 0, zero, head=2), Edit("z", 2, zero, head=3)]
    noise = {n: torch.randn(3, 7, N_HEADS, D_MODEL, generator=_stream(n)).double() for n in (0, 2)}
    first = pair.model.run(pair.prompts, keep="attn_out", edits=silent[:2])["attn_out", 0]
    written = Edit("attn_out", 0, first + noise[0][:, :, [1, 2]].sum(2))
    second = pair.model.run(pair.prompts, keep="attn_out", edits=[written, silent[2]])["attn_out", 2]
    expected = score(pair, [written, Edit("attn_out", 2, second + noise[2][:, :, 3])]) - pair.clean_scores
    np.testing.assert_allclose(joint[:, 0], expected, atol=1e-10)


def _stream(layer: int) -> torch.Generator:
    from unweave.models.sites import SITES

    return torch.Generator().manual_seed(list(SITES).index("attn_out") * 4096 + layer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": [(0, 1), "z 0.1"]}, "z 0.1 is named twice"),
        ({"heads": ["layer 1", "mlp 1"]}, "mlp 1 is named twice"),
        ({"heads": [(0, 9)]}, "heads 0 to 3"),
        ({"heads": [(7, 0)]}, "layers 0 to 2"),
        ({"heads": ["v 0.3"]}, "key and value heads 0 to 1"),
        ({"heads": ["first head"]}, "'first head' is not a place in a model"),
        ({"heads": ["mlp x"]}, "'mlp x' is not a place in a model"),
        ({"heads": []}, "none was given"),
        ({"heads": "neuron"}, "'neuron' cannot be knocked out"),
        ({"at": "IO"}, "role 'IO' is not among this task's roles"),
        ({"at": ["S1", "S1"]}, "role 'S1' is named twice"),
        ({"at": []}, "no role was given"),
        ({"how": "noise"}, "expected one of zero, mean, template, resample, gaussian, got 'noise'"),
        ({"measure": "percent"}, "expected one of effect, drop, change, got 'percent'"),
        ({"joint": True}, "takes a list"),
        ({"heads": [["0.1", "0.2"], "1.1"], "joint": True}, r"one knockout.*got several: z 0.1 \+ z 0.2, z 1.1"),
        ({"heads": [["0.1", "z 0.1"]]}, "z 0.1 is named twice"),
        ({"heads": [["0.1", "0.2"], "0.1 + 0.2"]}, r"z 0.1 \+ z 0.2 is named twice"),
        ({"heads": [[]]}, "none was given"),
        ({"heads": ["q 0.kv1"]}, "names a key/value head"),
        ({"source": "clean"}, "'zero' takes no values from prompts"),
        ({"how": "mean", "source": "dirty"}, "source: expected 'clean', 'corrupted' or prompts, got 'dirty'"),
        ({"how": uw.Replacement("mean"), "source": "clean"}, "source: how= has its own"),
        ({"heads": ["result 0.1", "z 0.2"], "how": "gaussian", "joint": True}, "cannot be replaced together"),
    ],
)
def test_what_cannot_be_knocked_out_is_one_clear_error(arguments, message):
    with pytest.raises(uw.InputError, match=message):
        uw.knockout(tiny_pair(tiny_model("llama")), **arguments)


def test_what_was_finished_before_an_interrupt_is_kept():
    pair = tiny_pair(tiny_model("gpt2"))

    def stop(done: float, total: float) -> None:
        if done > 12:
            raise KeyboardInterrupt

    with pytest.raises(uw.Interrupted) as error:
        uw.knockout(pair, memory=1, progress=stop)
    partial = error.value.partial
    assert isinstance(partial, xr.DataArray)
    finished = np.isfinite(partial.values)
    assert 0 < int(finished.sum()) < partial.size
    np.testing.assert_allclose(partial.values[finished], uw.knockout(pair).values[finished], atol=1e-12)


def test_options_of_a_replacement_are_checked():
    with pytest.raises(uw.InputError, match="expected 'clean', 'corrupted' or prompts, got 'dirty'"):
        uw.Replacement("mean", reference="dirty")
    with pytest.raises(uw.InputError, match="expected 'refuse' or 'keep', got 'drop'"):
        uw.Replacement("template", lone="drop")


def test_a_head_that_is_no_pair_is_refused():
    with unchecked(), pytest.raises(uw.InputError, match=r"\(1, 2, 3\) is not a place in a model; write"):
        uw.knockout(tiny_pair(tiny_model("gpt2")), [(1, 2, 3)])  # type: ignore[list-item]


def test_a_position_is_named_by_a_role():
    with unchecked(), pytest.raises(uw.InputError, match=r"role 3 is not among this task's roles: .*gets a name"):
        uw.knockout(tiny_pair(tiny_model("gpt2")), [(1, 2)], at=3)  # type: ignore[arg-type]


def test_zero_queries_and_zero_keys_are_one_knockout_and_it_is_said():
    pair = tiny_pair(tiny_model("gpt2"))
    queries, keys = (uw.knockout(pair, kind, "zero") for kind in ("q", "k"))
    np.testing.assert_allclose(queries, keys, atol=1e-12)
    assert "are one knockout" in queries.attrs["notes"]
    assert queries.attrs["notes"] == keys.attrs["notes"] == uw.knockout(pair, ["k 1.2"]).attrs["notes"]
    assert not np.allclose(uw.knockout(pair, "q", at="S2"), uw.knockout(pair, "k", at="S2"))
    for other in (uw.knockout(pair, "q", at="S2"), uw.knockout(pair, "q", "mean"), uw.knockout(pair, "v", "zero")):
        assert "one knockout" not in other.attrs["notes"]


def test_an_effect_is_no_amount_of_the_metric():
    pair = tiny_pair(tiny_model("gpt2"))
    effect, change = (uw.knockout(pair, [(1, 2)], measure=measure).attrs for measure in ("effect", "change"))
    assert (effect["unit"], effect["metric_unit"]) == ("share of the gap between the baselines", "logits")
    assert (change["unit"], change["metric_unit"]) == ("logits", "logits")
    assert uw.patch(pair, "z", {"layer": 1}).attrs["unit"] == uw.path_patch(pair).attrs["unit"] == effect["unit"]
