from typing import Any

import pytest

from tests.readers import byte_tokenizer, entries_of, reader, unchecked, word_tokenizer
from unweave.errors import InputError
from unweave.tasks import from_texts
from unweave.tasks.texts import find_word

TEXT = "When Mary and John went out, John gave a book to"
LONG = "After Ann and Bob had met, Ann said hello to"


@pytest.fixture(scope="module")
def model():
    return reader(
        word_tokenizer([TEXT, LONG, " Mary John Mary", "Ann", "walk", " walked 17 33", "1733", "ed"]), n_ctx=13
    )


@pytest.fixture(scope="module")
def pieces():
    """A tokenizer that cuts words: " walked" is " walk" "ed", and names of one token have a space in front."""
    return reader(byte_tokenizer(["a walk walk a walk Mary Mary John John to to gave gave"] * 9, n_vocab=330))


def test_texts_become_prompts(model):
    prompts = from_texts(model, [TEXT, LONG], [" Mary", " Bob"], [" John", " Ann"], bos=True)
    assert prompts.texts == (TEXT, LONG)
    assert prompts.lengths.tolist() == [13, 12]
    assert prompts.str_tokens[1] == (
        "<s>",
        "After",
        " Ann",
        " and",
        " Bob",
        " had",
        " met",
        ",",
        " Ann",
        " said",
        *LAST,
    )
    assert prompts.role("end").tolist() == [12, 11]
    assert [model.tokenizer.decode([token]) for token in entries_of(prompts)] == [" Mary", " Bob"]
    assert [model.tokenizer.decode([token]) for token in entries_of(prompts, "wrong")] == [" John", " Ann"]
    assert prompts.bos


LAST = (" hello", " to")


def test_answers_may_be_left_out(model):
    prompts = from_texts(model, [TEXT])
    assert prompts.answers is None
    assert prompts.wrong is None
    assert not prompts.bos


def test_roles_by_word_and_by_position(model):
    roles = {"first": ["Mary", "Bob"], "comma": [",", ","], "second": [9, " said"], "verb": ["went out", "had met"]}
    prompts = from_texts(model, [TEXT, LONG], roles=roles, bos=True)
    assert prompts.role("first").tolist() == [2, 4]
    assert prompts.role("comma").tolist() == [7, 7]
    assert prompts.role("second").tolist() == [9, 9]
    assert prompts.role("verb").tolist() == [6, 6]


def test_a_word_of_several_tokens_stands_where_it_ends(pieces):
    prompts = from_texts(pieces, ["a walking Mary"], roles={"walk": ["walking"]})
    words = prompts.str_tokens[0]
    assert "".join(words[: int(prompts.role("walk")) + 1]) == "a walking"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("John", "'John' stands 2 times in"),
        ("Joh", "'Joh' is not a word of"),
        (" ", "is not a word of"),
        (12, "position 12 lies outside its 12 tokens"),
        (-1, "position -1 lies outside"),
    ],
)
def test_a_role_that_cannot_be_placed(model, place, message):
    with pytest.raises(InputError, match=rf"prompt 2: role 'S': .*{message}"):
        from_texts(model, [LONG, TEXT], roles={"S": ["Bob", place]})


@pytest.mark.parametrize(
    ("words", "word", "places"),
    [
        (["Ann", ",", " Anna", " and", " Ann"], "Ann", [0, 4]),
        (["An", "n", " and", " B", "ob", "."], "Bob", [4]),
        (["a", ".", "b", "."], ".", [1, 3]),
        (["Ann"], "Bob", []),
    ],
)
def test_words_are_found_whole(words, word, places):
    assert find_word(words, word) == places


def test_all_answers_of_several_tokens_are_named_at_once(pieces):
    with pytest.raises(InputError, match="answer: ") as error:
        from_texts(pieces, ["to"] * 4, [" Mary", " Xerxes", " Yvonne", " Xerxes"])
    message = str(error.value)
    assert message.count("' Xerxes' (prompt 2: [' ', 'X'") == 1
    assert "' Yvonne' (prompt 3:" in message
    assert "' Mary'" not in message
    assert "are not" in message


def test_answers_that_lack_their_space_are_hinted_at(pieces):
    with pytest.raises(InputError, match=r"'Mary' .* 'John' .* are not; space='add' puts a space in front"):
        from_texts(pieces, ["to to", "to"], ["Mary", "John"])
    with pytest.raises(InputError, match="choose other words"):
        from_texts(pieces, ["to to", "to"], ["Mary", "Xerxes"])


def test_wrong_answers_are_checked_too(model):
    with pytest.raises(InputError, match=r"wrong: .*' Nobody' .* is not"):
        from_texts(model, [TEXT], [" Mary"], [" Nobody"])


def test_an_answer_that_would_be_glued_is_refused(model):
    with pytest.raises(
        InputError, match=r"prompt 1: answer 'Ann' would be glued to the prompt, as 'toAnn'.*space='add'"
    ):
        from_texts(model, [TEXT], ["Ann"])


def test_a_space_may_be_added(model):
    prompts = from_texts(model, [TEXT, TEXT], ["Ann", " Bob"], space="add")
    assert [model.tokenizer.decode([token]) for token in entries_of(prompts)] == [" Ann", " Bob"]


def test_a_glued_answer_may_be_meant(model):
    prompts = from_texts(model, ["After Ann walk"], ["ed"], space="as_is")
    assert model.tokenizer.decode(entries_of(prompts)) == "ed"


def test_a_prompt_that_ends_with_a_space_is_refused(model):
    with pytest.raises(InputError, match=r"prompt 1: the prompt ends with a space.*' Mary'"):
        from_texts(model, [TEXT + " "], [" Mary"])


def test_an_answer_that_the_tokenizer_would_not_put_next_is_refused(model):
    assert len(from_texts(model, ["After 17"], [" 33"])) == 1
    with pytest.raises(InputError, match="'33' is not the next token of 'After 17'"):
        from_texts(reader(word_tokenizer(["After 17", "33", "1733", " 1733"])), ["After 17"], ["33"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"answers": [" Mary"]}, "answer: expected a list with one entry for each of the 2 prompts, got 1"),
        ({"wrong": " Mary"}, "wrong: expected a list"),
        ({"roles": {"S": [1, 2, 3]}}, r"roles\['S'\]: expected a list .* got 3"),
    ],
)
def test_columns_of_another_length(model, columns, message):
    with pytest.raises(InputError, match=message):
        from_texts(model, [TEXT, LONG], **columns)


def test_prompts_too_long_for_the_model(model):
    with pytest.raises(InputError, match="prompt 2 has 14 tokens, and reader reads 13"):
        from_texts(model, [LONG, TEXT + " a"], bos=True)


def test_tokens_that_the_model_lacks(model):
    with pytest.raises(InputError, match=r"holds token .* reader has 5"):
        from_texts(reader(model.tokenizer, d_vocab=5), [TEXT])


def test_a_model_without_tokenizer():
    with pytest.raises(InputError, match=r"has no tokenizer, .*from_tokens"):
        from_texts(reader(None), [TEXT])


def test_unknown_handling_of_spaces(model):
    space: Any = "yes"
    with unchecked(), pytest.raises(InputError, match="space: expected"):
        from_texts(model, [TEXT], [" Mary"], space=space)


def test_no_texts(model):
    with pytest.raises(InputError, match="texts: expected at least one"):
        from_texts(model, [])


SPLIT = [
    ("Столица России - Москва, а не Киев", "Москва", "Столица России - Москва"),
    ("Столица России - Москва, а не Киев", "Столица", "Столица"),
    ("日本の首都は", "日本", "日本"),
    ("私は日本語を", "日本語", "私は日本語"),
    ("a walk 🦄 to John", "🦄", "a walk 🦄"),
    ("a walk 🦄 to John", "John", "a walk 🦄 to John"),
    ("a 👍🏽 walk", "👍🏽", "a 👍🏽"),
    ("a cafe\u0301 walk", "cafe\u0301", "a cafe\u0301"),
    ("a cafe\u0301 walk", "café", "a cafe\u0301"),
    ("a café walk", "cafe\u0301", "a café"),
    ("cafe\u0301 or cafe", "cafe", "cafe\u0301 or cafe"),
    ("हिन्दी भाषा", "हिन्दी", "हिन्दी"),
]


@pytest.mark.parametrize(("text", "word", "until"), SPLIT)
def test_a_word_is_found_though_its_letters_take_several_tokens(pieces, text, word, until):
    """Until its last token, the text up to the word's end is there, and one token earlier it is not."""
    place = int(from_texts(pieces, [text], roles={"here": [word]}).role("here"))
    ids = pieces.tokenizer(text)["input_ids"]
    assert len(ids) > len(text.split())
    assert pieces.tokenizer.decode(ids[: place + 1]).startswith(until)
    assert not pieces.tokenizer.decode(ids[:place]).startswith(until)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("हिन्दी भाषा", "हिन्द"),
        ("a cafe\u0301 walk", "cafe"),
        ("Москва", "Моск"),
        ("a 👍🏽 walk", "👍"),
        ("日本", "東京"),
    ],
)
def test_a_part_of_a_word_is_not_the_word(pieces, text, word):
    with pytest.raises(InputError, match="is not a word of"):
        from_texts(pieces, [text], roles={"here": [word]})


@pytest.mark.parametrize("place", [None, 1.5, {"Mary"}])
def test_a_role_is_a_word_or_a_position(model, place):
    with unchecked(), pytest.raises(InputError, match=r"roles\['S'\]: .*prompt 2"):
        from_texts(model, [TEXT, LONG], roles={"S": ["Mary", place]})


def test_the_end_may_stand_elsewhere(model):
    assert from_texts(model, [TEXT, LONG], roles={"end": ["Mary", 3]}).role("end").tolist() == [1, 3]
