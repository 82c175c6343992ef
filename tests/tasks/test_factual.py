import pytest
import torch

import unweave as uw
from tests.readers import entries_of, reader, word_tokenizer
from unweave.errors import InputError
from unweave.models.tokens import str_tokens
from unweave.tasks import factual, make_task, word_swap
from unweave.tasks.factual import Relation, own_facts, paired_facts
from unweave.tasks.margins import margins

WHITE, HAUNTED, GHOST = (f"The {word} House is where the" for word in ("White", "Haunted", "Ghost"))


def own_texts() -> list[str]:
    swaps, relations = own_facts()
    texts = [text for swap in swaps for text in (swap.clean, *swap.corrupted, swap.answer, swap.wrong)]
    for relation in relations:
        texts += [relation.text.replace("[X]", word) for word, _ in relation.facts]
        texts += [f" {word}" for fact in relation.facts for word in fact]
    return [*texts, " A The On If"]


@pytest.fixture(scope="module")
def model():
    return reader(word_tokenizer(own_texts()))


def test_each_prompt_is_the_corruption_of_its_neighbour(model):
    task = factual(model)
    prompts, twins = task.prompts, task.corrupt()
    assert len(prompts) >= 60
    assert len(prompts) % 2 == 0
    assert twins.texts[0::2] == prompts.texts[1::2]
    assert twins.texts[1::2] == prompts.texts[0::2]
    assert entries_of(prompts)[0::2] == entries_of(prompts, "wrong")[1::2]
    assert all(right != wrong for right, wrong in zip(entries_of(prompts), entries_of(prompts, "wrong"), strict=True))
    assert len(set(prompts.texts)) == len(prompts)
    changed = (prompts.tokens != twins.tokens).nonzero()
    assert torch.equal(changed[:, 0], torch.arange(len(prompts)))
    assert torch.equal(changed[:, 1], prompts.role("swapped"))
    assert torch.equal(twins.role("swapped"), prompts.role("swapped"))


def test_relations_take_turns_and_number_the_groups(model):
    task = factual(model, 14)
    assert task.prompts.texts[:3] == (WHITE, HAUNTED, "The capital of France is the city of")
    assert task.prompts.groups is not None
    assert task.prompts.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert task.prompts.texts == factual(model).prompts.texts[:14]
    assert make_task(model, "factual", {"n_prompts": 3}).prompts.texts == factual(model).prompts.texts[:3]
    for n in (0, 1000):
        with pytest.raises(InputError, match=f"n_prompts: expected 1 to .*, got {n}"):
            factual(model, n)


def test_facts_are_paired_by_length_and_answer():
    tokenizer = word_tokenizer([" a b c d e x y z"])
    relation = Relation("made", "[X] is", (("a", "x"), ("b", "x"), ("c", "y"), ("q", "y"), ("d", "zz"), ("e", "z")))
    found = paired_facts(tokenizer, relation)
    assert [(swap.clean, swap.corrupted) for swap in found] == [("a is", ("c is",)), ("b is", ("e is",))]
    assert [(swap.answer, swap.wrong) for swap in found] == [(" x", " y"), (" x", " z")]


def test_what_does_not_fit_the_tokenizer_is_left_out_and_said():
    known = [text.replace("Paris", "").replace("Haunted", "") for text in own_texts()]
    task = factual(reader(word_tokenizer(known)))
    assert not any("France is the city" in text for text in task.prompts.texts)
    assert "France" in task.notes
    assert task.prompts.texts[:2] == (WHITE, GHOST)
    assert "'The Ghost House is where the' is used" in task.notes


def test_a_swap_of_one_word(model):
    task = word_swap(model, [WHITE], [HAUNTED], [" president"], [" ghosts"], bos=True)
    assert task.prompts.role("swapped").tolist() == [2]
    assert task.prompts.str_tokens[0][2] == " White"
    assert task.corrupt().str_tokens[0][2] == " Haunted"
    assert task.corrupt().source == {"task": "word-swap", "corruption": "given"}
    assert str_tokens(model.tokenizer, entries_of(task.prompts)) == (" president",)
    assert task.notes == ""


def test_words_of_unequal_length():
    pieces = reader(word_tokenizer([WHITE, GHOST, " president ghosts", " Dutch-made"]))
    two = "The Dutch-made House is where the"
    task = word_swap(pieces, [WHITE], [[two, GHOST]], [" president"], [" ghosts"])
    assert task.corrupt().texts == (GHOST,)
    assert "'Dutch-made' is 3 tokens [' Dutch', '-', 'made'] and 'White' is 1 token [' White'], so" in task.notes
    with pytest.raises(InputError, match=r"prompt 1: .* is 3 tokens .* equal positions: .* corrupted=\[\["):
        word_swap(pieces, [WHITE], [two], [" president"], [" ghosts"])


@pytest.mark.parametrize(
    ("clean", "corrupted", "message"),
    [
        ([WHITE], [WHITE], "should differ in one word, and differ in 0"),
        ([WHITE], ["The Haunted House is where a"], "should differ in one word, and differ in 2; uw.tasks.pairs"),
        ([WHITE], ["The Haunted House"], "differ in their number of words"),
        ([WHITE], [], "corrupted: .* 1 prompts, got 0"),
        ([WHITE], [[]], "corrupted: prompt 1: expected at least one"),
        ([], [], "clean: expected at least one"),
    ],
)
def test_what_is_no_swap(model, clean, corrupted, message):
    with pytest.raises(InputError, match=message):
        word_swap(model, clean, corrupted, [" president"], [" ghosts"])


@pytest.mark.real
def test_smollm2_knows_the_facts(smollm2):
    task = factual(smollm2, 16, bos=True)
    assert task.prompts.texts[1] == GHOST
    assert (margins(smollm2, task.prompts) > 0).all()
    assert (margins(smollm2, task.corrupt()) < 0).all()
    pair = uw.Contrast(smollm2, task.prompts, task.corrupt(), uw.LogitDiff())
    where = uw.patch(pair, "resid_pre", over={"layer": [0], "role": ["swapped", "end"]}).mean("prompt").values
    assert where.tolist() == [[pytest.approx(1.0, abs=1e-4), 0.0]]
