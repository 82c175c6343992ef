import pytest
import torch

from tests.readers import byte_tokenizer, metaspace_tokenizer, unchecked, word_tokenizer
from unweave.errors import InputError
from unweave.models.tokens import encode, is_single_token, pieces, single_token, str_tokens

TEXTS = ["When Mary and John", "After John", " Mary John"]


@pytest.fixture(scope="module")
def plain():
    return word_tokenizer(TEXTS)


@pytest.fixture(scope="module")
def beginning():
    return word_tokenizer(TEXTS, adds_bos=True)


@pytest.fixture(scope="module")
def bytewise():
    return byte_tokenizer(["When Mary and John gave Mary and John Mary John"] * 3)


@pytest.fixture(scope="module")
def sentencepiece():
    return metaspace_tokenizer(["▁Mary", "Mary", "▁John", "▁and"])


def test_rows_are_padded_on_the_right(plain):
    tokens, lengths = encode(plain, TEXTS[:2])
    assert lengths.tolist() == [4, 2]
    assert plain.decode(tokens[1, :2]) == "After John"
    assert tokens.shape == (2, 4)


@pytest.mark.parametrize("special", [{}, {"pad_token": "<pad>"}])
def test_padding_is_in_the_vocabulary(special):
    tokenizer = word_tokenizer(TEXTS, **special)
    tokens, _ = encode(tokenizer, TEXTS)
    assert tokens[1, -1] == (tokenizer.pad_token_id if special else tokenizer.eos_token_id)


def test_a_tokenizer_without_special_tokens_pads_all_the_same():
    tokenizer = word_tokenizer(TEXTS)
    tokenizer.eos_token = tokenizer.bos_token = None
    assert encode(tokenizer, TEXTS)[0].shape == (3, 4)


@pytest.mark.parametrize("kind", ["plain", "beginning", "bytewise"])
@pytest.mark.parametrize("bos", [None, True, False])
def test_beginning_of_sequence(kind, bos, request):
    tokenizer = request.getfixturevalue(kind)
    row = encode(tokenizer, ["When Mary"], bos)[0][0].tolist()
    expected = bos if bos is not None else kind == "beginning"
    assert row.count(tokenizer.bos_token_id) == expected
    assert (row[0] == tokenizer.bos_token_id) == expected
    assert row[expected:] == tokenizer("When Mary", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", ["plain", "beginning"])
def test_a_beginning_that_the_text_holds_itself_is_the_one(kind, request):
    tokenizer = request.getfixturevalue(kind)
    assert encode(tokenizer, ["<s>When"], True)[0].tolist() == encode(tokenizer, ["When"], True)[0].tolist()
    with pytest.raises(InputError, match="bos=False"):
        encode(tokenizer, ["<s>When"], False)


@pytest.mark.parametrize("bos", [None, True])
def test_a_beginning_is_never_put_before_another(beginning, bos):
    row = encode(beginning, ["<s>When Mary"], bos)[0][0].tolist()
    assert row.count(beginning.bos_token_id) == 1
    assert row == encode(beginning, ["When Mary"], True)[0][0].tolist()
    assert encode(beginning, ["<s>When", "After John"], bos)[0][:, 0].tolist() == [beginning.bos_token_id] * 2


def test_a_beginning_that_ends_texts_too_is_put_once():
    tokenizer = word_tokenizer(TEXTS, adds_bos=True, adds_eos=True)
    assert encode(tokenizer, ["<s>When"], None)[0].tolist() == encode(tokenizer, ["When"], True)[0].tolist()


@pytest.mark.parametrize("kind", ["plain", "bytewise", "sentencepiece"])
def test_pieces_make_up_the_text(kind, request):
    tokenizer = request.getfixturevalue(kind)
    ids = encode(tokenizer, [" Mary and John"], False)[0][0]
    assert pieces(tokenizer, ids) == str_tokens(tokenizer, ids)


def test_a_character_of_several_tokens_stands_in_its_last(bytewise):
    for text in ("é日x", " 日", "Mary 👩‍👩‍👧 and 日本"):
        ids = bytewise(text)["input_ids"]
        assert "".join(pieces(bytewise, ids)) == text
        assert "�" in "".join(str_tokens(bytewise, ids))
    assert pieces(bytewise, bytewise("日x")["input_ids"]) == ("", "", "日", "x")
    # A text that itself holds the sign for a part of a character, and one that breaks off within a character.
    assert "".join(pieces(bytewise, bytewise("a � b")["input_ids"])) == "a � b"
    assert "".join(pieces(bytewise, bytewise("a日")["input_ids"][:-1])) == "a"


def test_a_tokenizer_without_beginning_refuses_one():
    tokenizer = word_tokenizer(TEXTS)
    tokenizer.bos_token = None
    assert encode(tokenizer, ["When"], False)[1].tolist() == [1]
    with pytest.raises(InputError, match="bos=True"):
        encode(tokenizer, ["When"], True)


@pytest.mark.parametrize("bos", [None, True, False])
def test_nothing_is_put_behind_a_text(bos):
    tokenizer = word_tokenizer(TEXTS, adds_bos=True, adds_eos=True)
    assert tokenizer.eos_token_id == tokenizer("When")["input_ids"][-1]
    assert tokenizer.eos_token_id not in encode(tokenizer, ["When Mary"], bos)[0]


@pytest.mark.parametrize("texts", [[], [""], ["When", ""]])
def test_nothing_to_read_is_refused(texts, plain):
    with pytest.raises(InputError, match="text"):
        encode(plain, texts)


@pytest.mark.parametrize("kind", ["plain", "bytewise", "sentencepiece"])
def test_token_texts_keep_their_leading_space(kind, request):
    tokenizer = request.getfixturevalue(kind)
    tokens = encode(tokenizer, [" Mary and John"], False)[0][0]
    words = str_tokens(tokenizer, tokens)
    assert words[-3:] == (" Mary", " and", " John")
    assert "".join(words).strip() == "Mary and John"
    assert str_tokens(tokenizer, tokens.tolist()) == words


@pytest.mark.parametrize("ids", [[-1], [1.5], [10**20], ["Mary"], [[1, 2]]])
def test_what_is_no_token_id_is_refused(ids, plain):
    with unchecked(), pytest.raises(InputError, match="tokens: expected token ids"):
        str_tokens(plain, ids)


def test_special_tokens_and_pieces_of_characters_have_a_text(bytewise):
    words = str_tokens(bytewise, encode(bytewise, ["é日"], True)[0][0])
    assert words[0] == "<|endoftext|>"
    assert all(words)


@pytest.mark.parametrize("kind", ["bytewise", "sentencepiece"])
def test_a_word_is_read_as_it_continues_a_text(kind, request):
    tokenizer = request.getfixturevalue(kind)
    both = encode(tokenizer, ["and Mary"], False)[0][0]
    assert single_token(tokenizer, " Mary") == both[-1]
    assert str_tokens(tokenizer, [single_token(tokenizer, " Mary")]) == (" Mary",)


def test_a_word_without_its_space_is_another_token(sentencepiece):
    assert single_token(sentencepiece, "Mary") != single_token(sentencepiece, " Mary")


def test_words_of_several_tokens_are_named_with_their_tokens(bytewise):
    with pytest.raises(InputError, match=r"' Xylo' is 5 tokens \[' ', 'X', 'y', 'l', 'o'\]"):
        single_token(bytewise, " Xylo")
    assert not is_single_token(bytewise, " Xylo")


def test_a_forgotten_space_is_hinted_at(bytewise):
    with pytest.raises(InputError, match="' Mary' is one"):
        single_token(bytewise, "Mary")
    with pytest.raises(InputError, match="choose another word"):
        single_token(bytewise, "")


def test_unknown_words_are_not_tokens(plain):
    with pytest.raises(InputError, match="not in the vocabulary"):
        single_token(plain, " Nobody")
    assert not is_single_token(plain, " Nobody")
    assert is_single_token(plain, " Mary")


def test_the_unknown_token_written_out_is_known():
    tokenizer = byte_tokenizer(TEXTS, unk_token="<|endoftext|>")
    assert single_token(tokenizer, "<|endoftext|>") == tokenizer.bos_token_id


def test_a_line_break_is_a_token(bytewise):
    assert str_tokens(bytewise, [single_token(bytewise, "\n")]) == ("\n",)


@pytest.mark.real
def test_the_default_model_reads_names_as_one_token(smollm2):
    assert smollm2.to_str_tokens([smollm2.to_single_token(" Mary")]) == (" Mary",)
    tokens, lengths = smollm2.to_tokens("When Mary and John", bos=True)
    assert smollm2.to_str_tokens(tokens[0])[1:] == ("When", " Mary", " and", " John")
    assert torch.equal(lengths, torch.tensor([5]))
