"""Names for heads: by rules, with evidence, and not without it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.methods.by_hand import N_VOCAB, made_model
from tests.methods.ioi_model import ioi_model
from tests.tiny import N_HEADS, N_LAYERS, tiny_model, tiny_pair
from unweave.methods.head_types import EFFECTS, OTHER, Rule, rules_of
from unweave.results.summary import significant

# So low that random heads earn names too.
LOW = uw.heads.HeadTypeThresholds(
    looks=0.05, direct=0.01, indirect=0.01, copies=0.01, pattern=0.01, growth=0.01, n_tokens=8
)
IO, S1, S2, END = 1, 3, 6, 8


def made_pair(sign: int, looks_at: int = IO) -> uw.Contrast:
    """Prompts for the model made by hand, whose head 1.1 looks from the end to IO, or to another position."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.stack([torch.randperm(N_VOCAB, generator=draw)[: END + 1] for _ in range(8)])
    tokens[:, S2] = tokens[:, S1]
    other = (tokens + 17) % N_VOCAB
    places = {"IO": IO, "S1": S1, "S1+1": S1 + 1, "S2": S2}
    roles = {name: [place] * 8 for name, place in places.items()}
    clean = uw.Prompts.from_tokens(tokens, answers=tokens[:, IO], wrong=tokens[:, S1], roles=roles)
    model = made_model((END, looks_at), sign)
    return uw.Contrast(model, clean, uw.Prompts.from_tokens(other, roles=roles), uw.LogitDiff())


def asked(kind) -> uw.Contrast:
    model = ioi_model(kind)
    task = uw.tasks.ioi(model, 8, seed=1)
    return uw.Contrast(model, task.prompts, task.corrupt("ABC"), uw.LogitDiff())


@pytest.mark.parametrize(
    ("sign", "looks_at", "name"),
    [
        (1, IO, "name mover"),
        (-1, IO, "negative name mover"),
        (-1, S2, "subject suppressor"),
        (-1, S1, "subject suppressor"),
    ],
)
def test_heads_made_by_hand_get_the_names_that_they_were_made_for(sign, looks_at, name):
    found = uw.heads.classify_heads(made_pair(sign, looks_at), rules=uw.heads.HeadTypeThresholds(n_tokens=8))
    assert found.groups == {
        name: ((1, 1),),
        "duplicate token": ((0, 1),),
        "induction": ((1, 0),),
        "previous token": ((0, 0),),
    }
    mover = found.heads[0]
    assert (mover.name, mover.at) == (name, "end")
    looks = "end to IO" if looks_at == IO else "end to S"
    read = {"direct", looks, "copying" if sign > 0 else "negative copying", "right", "wrong", "effect"}
    assert set(mover.evidence) == read
    assert mover.evidence[looks] > 0.99
    towards, other = ("right", "wrong") if looks_at == IO else ("wrong", "right")
    assert abs(mover.evidence[towards]) > 3 * abs(mover.evidence[other])
    assert mover.evidence["direct"] == pytest.approx(mover.evidence["right"] - mover.evidence["wrong"])
    assert math.copysign(1, mover.evidence[towards]) == sign
    assert set(mover.intervals) == read - {"copying", "negative copying"}
    assert str(found).startswith(f"1.1  {name}: direct ")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_names_are_earned_by_the_measures_and_by_nothing_else(kind):
    found = uw.heads.classify_heads(asked(kind), rules=replace(LOW, looks=0.15, growth=0.1))
    means = {str(name): array.mean(str(array.dims[0])) for name, array in found.measures.items()}

    def sure(rule: Rule, head: tuple[int, int]) -> bool:
        """Whether the effects are significant among the heads that meet the other bounds."""
        rest = replace(rule, bounds=tuple(bound for bound in rule.bounds if bound[0] not in EFFECTS))
        every = [(layer, number) for layer in range(N_LAYERS) for number in range(N_HEADS)]
        tried = [one for one in every if rest.holds({name: float(mean[one]) for name, mean in means.items()})]
        for name in {name for name, _, _ in rule.bounds} & {*EFFECTS}:
            cells = np.stack([found.measures[name].values[:, layer, number] for layer, number in tried], 1)
            table = uw.summary(xr.DataArray(cells, dims=("prompt", "address")))
            if not significant(table)[tried.index(head)]:
                return False
        return True

    named = {head.head: head for head in found.heads}
    assert 3 < len(named) < N_LAYERS * N_HEADS
    for layer in range(N_LAYERS):
        for head in range(N_HEADS):
            values = {name: float(mean[layer, head]) for name, mean in means.items()}
            holding = [rule.name for rule in found.rules if rule.holds(values) and sure(rule, (layer, head))]
            entry = named.get((layer, head))
            assert holding == ([] if entry is None else [entry.name, *entry.also])
            if entry is not None:
                assert entry.evidence == {name: values[name] for name in entry.evidence}
                assert all(low <= values[name] <= high for name, (low, high) in entry.intervals.items())


def test_what_acts_on_movers_comes_before_one():
    pair = asked("gpt2")
    found = uw.heads.classify_heads(pair, rules=LOW)
    movers = [head for name in ("name mover", "subject suppressor") for head in found.groups.get(name, ())]
    also = [head.head for head in found.heads if {"name mover", "subject suppressor"} & set(head.also)]
    effects, looks = found.measures["through movers"], found.measures["end to S2"].mean("prompt")
    assert movers
    tried = [(layer, head) for layer, head in np.ndindex(looks.shape) if layer < max(movers)[0]]
    tried = [head for head in tried if looks.values[head] >= LOW.looks]
    queries = [(*head, "q") for head in dict.fromkeys([*movers, *also])]
    expected = uw.path_patch(pair, queries, tried, at="end")
    for place, (layer, head) in enumerate(tried):
        np.testing.assert_allclose(effects[:, layer, head], expected[:, place], atol=1e-12)
    assert int(np.isfinite(effects.values[0]).sum()) == len(tried) > 0
    assert all(head in tried for head in found.groups.get("S-inhibition", ()))


def test_an_effect_that_chance_can_make_earns_no_name():
    """One prompt tells no effect from 0, and looks are no effects."""
    pair = made_pair(1)
    one = uw.Contrast(pair.model, pair.prompts.take([0]), pair.corrupted.take([0]), pair.metric)
    groups = uw.heads.classify_heads(one, rules=uw.heads.HeadTypeThresholds(n_tokens=8)).groups
    assert "name mover" not in groups
    assert "previous token" in groups


def test_measures_are_what_they_are_called():
    pair = asked("llama")
    measures = uw.heads.classify_heads(pair, rules=LOW).measures
    own = uw.attribute(pair, by="head")
    np.testing.assert_allclose(measures["direct"], own / abs(float(pair.clean_scores.mean())), atol=1e-10)
    looks = uw.heads.role_attention(pair).sel(q_role="S2", k_role="S1+1")
    np.testing.assert_allclose(measures["S2 to S1+1"], looks, atol=1e-12)
    assert pair.prompts.answers is not None
    assert pair.prompts.wrong is not None
    words = torch.cat([pair.prompts.answers, pair.prompts.wrong]).unique()
    copied = uw.heads.copying_scores(pair.model, words).sel(score="copying")
    np.testing.assert_array_equal(measures["copying"], copied)


def test_the_indirect_effect_of_what_is_only_read_at_the_end_is_the_scales():
    """Heads of the last parallel layer reach nothing but the answer: only the norm's scale makes a difference."""
    pair = asked("gpt_neox")
    indirect = uw.heads.classify_heads(pair, rules=LOW).measures["indirect"]
    model, rows = pair.model, torch.arange(len(pair.prompts))
    donor = model.run(pair.corrupted, keep="z")["z", -1]
    clean = model.run(pair.prompts, keep=["z", "resid_post"])
    end, head = pair.prompts.role("end"), 2
    w_o = model.weights.layers[-1].w_o[:, 8:12]
    change = (donor[rows, end, head] - clean["z", -1][rows, end, head]) @ w_o.T
    x = clean["resid_post", -1][rows, end]
    direction = model.weights.w_u[pair.prompts.answers] - model.weights.w_u[pair.prompts.wrong]

    def normed(y, scale_of):
        scale = (scale_of - scale_of.mean(-1, keepdim=True)).pow(2).mean(-1, keepdim=True).add(1e-5).sqrt()
        return (y - y.mean(-1, keepdim=True)) / scale * model.weights.norm_final.weight

    by_scale = ((normed(x + change, x + change) - normed(x + change, x)) * direction).sum(-1) / pair.gap
    np.testing.assert_allclose(indirect.values[:, -1, head], by_scale, atol=1e-10)


def test_chosen_heads_are_all_listed_with_all_their_measures():
    pair = made_pair(1)
    found = uw.heads.classify_heads(pair, ["0.0", (1, 1)], uw.heads.HeadTypeThresholds(n_tokens=8))
    assert found.groups == {"name mover": ((1, 1),), "previous token": ((0, 0),)}
    strict = uw.heads.classify_heads(pair, [(0, 0)], uw.heads.HeadTypeThresholds(n_tokens=8, pattern=2.0))
    assert strict.groups == {OTHER: ((0, 0),)}
    assert strict.heads[0].evidence["previous token"] > 0.9
    assert strict.heads[0].at == ""


def test_backup_heads_grow_when_the_name_movers_are_out():
    pair = asked("gpt2")
    found = uw.heads.classify_heads(pair, rules=LOW)
    movers = found.groups["name mover"]
    grown = uw.heads.backup_heads(pair, movers, "mean", "end")
    np.testing.assert_allclose(found.measures["growth"], grown, atol=1e-12)
    none = uw.heads.classify_heads(pair, rules=replace(LOW, copies=2.0))
    assert "name mover" not in none.groups
    assert "backup name mover" not in none.groups
    assert (none.measures["growth"].values == 0).all()


def test_rules_are_stated_and_have_bounds():
    rules = {rule.name: rule for rule in rules_of(uw.heads.HeadTypeThresholds(direct=0.25))}
    assert len(rules) == 8
    said = str(rules["negative name mover"])
    assert said.startswith("negative name mover: direct at most -0.25 and significant, end to IO at least")
    rule = Rule("x", "end", (("a", 0.5, math.inf), ("b", -math.inf, -0.1)))
    assert rule.holds({"a": 0.5, "b": -0.1})
    assert not rule.holds({"a": 0.49, "b": -0.1})
    assert not rule.holds({"a": 0.5, "b": 0.0})


def test_what_cannot_be_named_is_one_clear_error():
    with pytest.raises(uw.InputError, match=r"these prompts have no role IO, S1\+1; take uw.tasks.ioi"):
        uw.heads.classify_heads(tiny_pair(tiny_model("gpt2")))
    pair = made_pair(1)
    other = uw.Contrast(pair.model, pair.prompts, pair.corrupted, uw.CrossEntropy())
    with pytest.raises(uw.InputError, match=r"got cross-entropy; use uw\.LogitDiff"):
        uw.heads.classify_heads(other)
    with pytest.raises(uw.InputError, match=r"1\.1 is named twice"):
        uw.heads.classify_heads(pair, [(1, 1), "1.1"])


@pytest.mark.real
def test_a_real_model_has_heads_of_the_known_kinds(smollm2):
    task = uw.tasks.ioi(smollm2, 8, seed=0)
    pair = uw.Contrast(smollm2, task.prompts, task.corrupt("ABC"), uw.LogitDiff())
    found = uw.heads.classify_heads(pair)
    kinds = {"name mover", "negative name mover", "S-inhibition", "duplicate token", "induction", "previous token"}
    assert kinds <= set(found.groups)
    assert sum(len(heads) for heads in found.groups.values()) < 40  # of 270
    table = uw.heads.position_token(pair, task, found.groups["S-inhibition"])
    ranges = table["full_range"].mean("prompt").sel(address="all")
    assert float(ranges.sel(signal="position")) > abs(float(ranges.sel(signal="token")))


def test_measures_keep_their_sense_where_the_model_prefers_the_wrong_answer():
    """With answers exchanged, every score and the gap change their sign, and so does what favors the right answer."""
    pair = made_pair(1)
    other = replace(pair.prompts, answers=pair.prompts.wrong, wrong=pair.prompts.answers)
    turned = uw.Contrast(pair.model, other, pair.corrupted, uw.LogitDiff())
    assert pair.gap > 0.5
    assert turned.gap == pytest.approx(-pair.gap)
    own, flipped = (
        uw.heads.classify_heads(each, rules=uw.heads.HeadTypeThresholds(n_tokens=8)).measures for each in (pair, turned)
    )
    for name in ("direct", "effect"):
        assert float(abs(own[name].mean("prompt")).max()) > 0.2
        np.testing.assert_allclose(flipped[name], -own[name], rtol=0, atol=1e-9)
