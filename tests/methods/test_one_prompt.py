from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

import unweave as uw
from tests.readers import byte_tokenizer, word_tokenizer
from tests.tiny import tiny_model

TEXT = "a b c d e f"


@pytest.fixture(scope="module")
def model() -> uw.Model:
    return replace(tiny_model("llama"), tokenizer=word_tokenizer([TEXT, " a a"], adds_bos=True))


def test_the_answer_is_read_behind_the_prompt(model):
    found = uw.test_prompt(model, "a b c", "d", top=4)
    logits = model.run("a b c").logits[0, -1]
    number = model.to_single_token(" d")
    (answer,) = [step.answer for step in found.steps]
    assert found.tokens == ("<s>", "a", " b", " c")
    assert answer.token == " d"
    assert answer.logit == pytest.approx(float(logits[number]), rel=1e-5)
    assert answer.probability == pytest.approx(float(logits.softmax(0)[number]), rel=1e-5)
    assert answer.rank == int((logits > logits[number]).sum())
    top = found.steps[0].top
    assert [each.rank for each in top] == [0, 1, 2, 3]
    assert [each.logit for each in top] == pytest.approx(logits.sort(descending=True).values[:4].tolist(), rel=1e-5)
    assert top[0].token == model.to_str_tokens([int(logits.argmax())])[0]


def test_several_tokens_are_read_step_by_step(model):
    found = uw.test_prompt(model, "a b", " c d e")
    assert [step.answer.token for step in found.steps] == [" c", " d", " e"]
    product = 1.0
    for done, step in enumerate(found.steps):
        alone = uw.test_prompt(model, "a b" + " c d e"[: 2 * done], step.answer.token)
        assert step.answer.logit == pytest.approx(alone.steps[0].answer.logit, rel=1e-5)
        assert step.answer.rank == alone.ranks[0]
        product *= step.answer.probability
    assert found.probability == pytest.approx(product)
    assert found.ranks == tuple(step.answer.rank for step in found.steps)
    assert len(found.steps[0].top) == 10


def test_the_space_and_the_first_token_are_switches(model):
    assert uw.test_prompt(model, "b", "a").steps[0].answer.token == " a"
    assert uw.test_prompt(model, "b", "a", prepend_space=False).steps[0].answer.token == "a"
    assert uw.test_prompt(model, " b", " a", bos=False).tokens == (" b",)
    assert uw.test_prompt(model, " b ", "a", prepend_space=False).steps[0].answer.token == "a"


def test_it_prints_as_tables(model):
    found = uw.test_prompt(model, "a b c", "d e", top=2)
    text = str(found)
    assert text.startswith("tiny llama, 4 tokens: '<s>' 'a' ' b' ' c'\n\nanswer ' d e', probability of all ")
    assert text.count("the likeliest in place of") == 2
    (rank, _, share) = text.splitlines()[4].split()[-3:]
    assert rank == str(found.ranks[0])
    assert share == f"{found.steps[0].answer.probability:.2%}"
    html = found._repr_html_()
    assert html.count("<table>") == 3
    assert "&lt;s&gt;" in html
    assert "<s>" not in html


def test_the_answer_is_bold_among_the_likeliest(model):
    found = max((uw.test_prompt(model, "a b c", word, top=23) for word in "de"), key=lambda each: each.ranks)
    (rank,) = found.ranks
    assert rank > 0
    assert found.tables[1].strong == (rank,)
    assert found._repr_html_().count("font-weight") == 1
    console = Console(file=StringIO(), force_terminal=True, width=100, color_system="standard")
    console.print(found)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "the likeliest in place of" in text
    cut = uw.test_prompt(model, "a b c", found.steps[0].answer.token, top=rank)
    assert cut.tables[1].strong == ()


def test_more_rows_than_there_are_tokens(model):
    found = uw.test_prompt(model, "a", "b", top=1000)
    assert len(found.steps[0].top) == model.config.d_vocab
    assert sum(each.probability for each in found.steps[0].top) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a b", " "), "answer: expected at least one word, got ' '"),
        (("a b ", "c"), r"'a b ' ends with a space, .* prepend_space=False"),
        (("a b", "zebra"), "' zebra' is not in the vocabulary"),
        (("a b", "c", True, None, 0), "top: expected at least 1, got 0"),
        ((" a" * 40, "b"), "41 tokens, and tiny llama reads 32"),
    ],
)
def test_bad_input(model, arguments, message):
    with pytest.raises(uw.InputError, match=message):
        uw.test_prompt(model, *arguments)


def test_an_empty_prompt_and_no_tokenizer():
    model = replace(tiny_model("gpt2"), tokenizer=byte_tokenizer([TEXT]))
    with pytest.raises(uw.InputError, match="empty"):
        uw.test_prompt(model, "", "a")
    with pytest.raises(uw.InputError, match="no tokenizer"):
        uw.test_prompt(tiny_model("gpt2"), "a", "b")


@pytest.mark.real
def test_smollm2_gives_the_milk_to_mary(smollm2):
    text = "After John and Mary went to the store, John gave a bottle of milk to"
    found = uw.test_prompt(smollm2, text, "Mary", bos=True)
    assert found.ranks == (0,)
    assert found.probability > 0.5
    ankara = uw.test_prompt(smollm2, "The capital of Turkey is the city of", "Ankara")
    assert torch.tensor(ankara.ranks).tolist()[1:] == [0]
