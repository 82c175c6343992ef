from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

import unweave as uw
from tests.views import made
from unweave.views.prompt_list import PromptList, PromptPair, pairs_of_results, prompt_pairs, real_tokens

PAIR = PromptPair(
    clean=("<bos>", " John", " <b>", " to"),
    corrupted=("<bos>", " Mary", " <b>", " to"),
    roles={"S2": 1, "end": 3, "last": 3},
    answer=" Mary",
    wrong=" John",
    clean_score=4.72,
    corrupted_score=-4.6,
)


def prompts() -> uw.Prompts:
    made_ids = uw.Prompts.from_tokens(
        torch.tensor([[5, 6, 7], [5, 8, 0]]), answers=[7, 9], wrong=[6, 8], roles={"S": [1, 1]}, lengths=[3, 2]
    )
    return replace(made_ids, str_tokens=(("<bos>", " a", " b"), ("<bos>", " c")))


def test_tokens_roles_and_differences_are_marked():
    html = PromptList((PAIR,), "title <i>").html()
    assert "title &lt;i&gt;" in html
    assert "·&lt;b&gt;" in html
    assert "<b>" not in html.replace("<b>1</b>", "")
    assert '<code class="changed">·Mary</code>' in html
    assert html.count('class="changed"') == 1
    assert html.count('class="same"') == 3
    assert '<span class="role">S2</span>' in html
    assert '<span class="role">end, last</span>' in html
    assert "·Mary, not ·John · logit difference 4.72, corrupted −4.60" in html


def test_a_prompt_alone_has_one_line():
    html = PromptList((replace(PAIR, corrupted=()),)).html()
    assert "changed" not in html
    assert ">corrupted<" not in html


def test_numbers_go_on_from_the_first():
    html = PromptList((PAIR, PAIR), first=4).html()
    assert "<b>4</b>" in html
    assert "<b>5</b>" in html


def test_the_terminal_shows_the_same():
    console = Console(width=120, record=True, file=StringIO())
    console.print(PromptList((PAIR,), "[red]title"))
    text = console.export_text()
    assert "[red]title" in text
    assert "·John[S2]" in text
    assert "·Mary" in text


def test_answers_are_named_from_the_prompts_or_as_given():
    pairs = prompt_pairs(prompts(), scores=([1.0, 2.0], [-1.0, -2.0]))
    assert [(pair.answer, pair.wrong) for pair in pairs] == [(" b", " a"), ("", " c")]
    assert pairs[1].clean == ("<bos>", " c")
    assert pairs[1].roles == {"S": 1, "end": 1}
    assert pairs[1].corrupted_score == -2.0
    given = prompt_pairs(prompts(), prompts(), answers=["x", "y"], wrong=["v", "w"], most=1)
    assert [(pair.answer, pair.wrong, pair.corrupted) for pair in given] == [("x", "v", ("<bos>", " a", " b"))]


def test_lists_that_do_not_fit_are_refused():
    with pytest.raises(uw.InputError, match="answers: expected one entry for each of the 2 prompts, got 1"):
        prompt_pairs(prompts(), answers=["x"])
    with pytest.raises(uw.InputError, match="no token texts"):
        prompt_pairs(replace(prompts(), str_tokens=()))


def test_results_remember_their_prompts_between_them():
    roles = made.stream("role")
    noise = made.stream().assign_attrs(direction="noise")
    denoise = made.stream()
    denoise["token"] = (("prompt", "pos"), [["<bos>", *made.WORDS[1:]]] * made.N_PROMPTS)
    corrupted = denoise["token"].values.copy()
    corrupted[:, 7] = " Mary"
    pairs = pairs_of_results([roles, denoise.assign_coords(token=(("prompt", "pos"), corrupted)), noise])
    assert len(pairs) == made.N_PROMPTS
    assert (pairs[0].clean[7], pairs[0].corrupted[7]) == (" John", " Mary")
    assert pairs[0].roles == made.ROLES
    assert pairs[0].clean_score == pytest.approx(float(roles["clean"][0]))


def test_results_without_tokens_have_no_prompts():
    assert pairs_of_results([made.heads()]) == ()


def test_only_the_empty_tokens_at_the_end_are_beyond_the_prompt():
    assert real_tokens(["a", "", "b", "", ""]) == ("a", "", "b")
    assert real_tokens(["", ""]) == ()
