from dataclasses import replace

import pytest
import torch
from tokenizers import Regex, pre_tokenizers

import unweave as uw
from tests.readers import byte_tokenizer, entries_of, reader, word_tokenizer
from tests.tiny import tiny_model
from unweave.errors import InputError
from unweave.tasks import SyllogismWords, TokenCounts, make_task, syllogism
from unweave.tasks.margins import margins
from unweave.tasks.syllogism import Syllogism, candidates
from unweave.tasks.syllogism_words import fitting, own_words

WORDS = SyllogismWords(("birds", "tools"), ("dogs", "cats"), (("hot", "cold"), ("wet", "dry")))
KNOWN = "All birds tools are hot cold wet dry, not. Dogs Cats dogs cats. Therefore"


@pytest.fixture(scope="module")
def model() -> uw.Model:
    """A random model that reads nothing but these words."""
    return replace(tiny_model("gpt2"), tokenizer=word_tokenizer([KNOWN]))


def own_reader(left_out: str = ""):
    words = own_words()
    singles = [*words.categories, *words.nouns, *(noun.capitalize() for noun in words.nouns)]
    texts = [*singles, *(word for pair in words.opposites for word in pair), "not are"]
    return reader(word_tokenizer(["All, . Therefore", *(f" {word}" for word in texts if word != left_out)]))


def test_a_prompt_and_its_opposite():
    first = Syllogism("birds", "dogs", "hot", "cold")
    assert first.text == "All birds are hot, not cold. Dogs are birds. Therefore, dogs are"
    assert first.turned().text == "All birds are cold, not hot. Dogs are birds. Therefore, dogs are"
    assert first.turned().turned() == first


def test_the_wrong_answer_is_the_right_one_of_the_opposite():
    task = syllogism(own_reader(), 60, seed=3, threshold=None)
    prompts = task.prompts
    right, wrong = entries_of(prompts), entries_of(prompts, "wrong")
    assert right[0::2] == wrong[1::2]
    assert right[1::2] == wrong[0::2]
    assert len(set(prompts.texts)) == 60
    assert set(prompts.lengths.tolist()) == {16}
    assert task.corrupt().texts[0::2] == prompts.texts[1::2]
    assert task.corrupt("opposite").texts[1::2] == prompts.texts[0::2]
    assert entries_of(task.corrupt()) == right
    tokens = prompts.tokens
    rows = torch.arange(60)
    assert tokens[rows, prompts.role("descriptor")].tolist() == right
    assert tokens[rows, prompts.role("opposite")].tolist() == wrong
    assert torch.equal(tokens[rows, prompts.role("category")], tokens[rows, prompts.role("category2")])
    assert [words[-1] for words in prompts.str_tokens] == [" are"] * 60
    assert prompts.role("noun2").tolist() == [14] * 60


def test_draws_are_seeded_and_the_first_are_the_same_whatever_their_number():
    model = own_reader()
    few, many = (syllogism(model, n, seed=5, threshold=None).prompts.texts for n in (7, 40))
    assert few == many[:7]
    assert many == syllogism(model, 40, seed=5, threshold=None).prompts.texts
    assert many != syllogism(model, 40, seed=6, threshold=None).prompts.texts


def test_every_product_comes_once():
    pairs = list(candidates(WORDS, 0))
    assert len(pairs) == 8
    assert len({record.text for pair in pairs for record in pair}) == 16
    assert {pair[0].descriptor for pair in pairs} > {"hot"}
    assert all(pair[1] == pair[0].turned() for pair in pairs)


def test_corruptions_change_what_they_say(model):
    task = syllogism(model, 16, threshold=None, words=WORDS)
    for text, fresh, unlinked in zip(
        task.prompts.texts, task.corrupt("fresh").texts, task.corrupt("unlinked").texts, strict=True
    ):
        own = {"hot", "cold"} if "hot" in text else {"wet", "dry"}
        assert not any(word in fresh for word in own)
        assert sum(category in unlinked for category in WORDS.categories) == 2
        assert unlinked.split(". ")[0] == text.split(". ")[0]
    assert task.corrupt("fresh").texts == task.corrupt("fresh").texts
    assert entries_of(task.corrupt("unlinked")) == entries_of(task.prompts)
    with pytest.raises(InputError, match="opposite, fresh, unlinked; got 'ABC'"):
        task.corrupt("ABC")
    alone = syllogism(
        model, 2, threshold=None, words=replace(WORDS, opposites=(("hot", "cold"),), categories=("birds",))
    )
    for how in ("fresh", "unlinked"):
        with pytest.raises(InputError, match=f"'{how}' needs other words"):
            alone.corrupt(how)


def test_the_filter_keeps_what_both_ways_are_right(model):
    every = syllogism(model, 16, threshold=None, words=WORDS)
    found = margins(model, every.prompts)
    logits = model.run(every.prompts).logits[:, -1]
    for row in range(16):
        right, wrong = entries_of(every.prompts)[row], entries_of(every.prompts, "wrong")[row]
        assert float(found[row]) == pytest.approx(float(logits[row, right] - logits[row, wrong]))
    lowest = found.view(8, 2).amin(1)
    threshold = float(lowest.sort().values[-3:-1].mean())
    kept = syllogism(model, 2 * int((lowest > threshold).sum()), threshold=threshold, words=WORDS)
    expected = [every.prompts.texts[row] for row in range(16) if lowest[row // 2] > threshold]
    assert 0 < len(expected) < 16
    assert list(kept.prompts.texts) == expected
    assert f"in {len(expected)} the right answer is more than" in kept.notes
    assert "not chosen" in every.notes


def test_a_filter_that_leaves_nothing_says_what_was_tried(model):
    task = syllogism(model, 16, threshold=None, words=WORDS)
    found = margins(model, task.prompts)
    with pytest.raises(InputError, match="threshold=None") as error:
        syllogism(model, 4, threshold=1000.0, words=WORDS)
    for part in (
        "0 of the 4 prompts",
        "16 prompts were tried: in 0",
        "more than 1000",
        f"{float((found > 0).float().mean()):.0%} are answered right",
        f"difference is {float(found.mean()):.2f}",
    ):
        assert part in str(error.value)


def test_words_are_chosen_by_their_count():
    tokenizer = byte_tokenizer(["All birds are hot, not cold. Dogs are birds. Therefore, dogs are"] * 3, n_vocab=330)

    def size(word: str) -> int:
        return len(tokenizer(f" {word}")["input_ids"])

    words = fitting(tokenizer, replace(own_words(), counts=TokenCounts(category=5)))
    assert {size(word) for word in words.categories} == {5}
    assert len({(size(word), size(word.capitalize())) for word in words.nouns}) == 1
    assert len({size(word) for pair in words.opposites for word in pair}) == 1
    assert 0 < len(words.nouns) < len(own_words().nouns)
    first = {pair: [tokenizer(f" {word}")["input_ids"][0] for word in pair] for pair in words.opposites}
    assert all(left != right for left, right in first.values())
    task = syllogism(reader(tokenizer, n_ctx=200), 20, threshold=None)
    assert len(set(task.prompts.lengths.tolist())) == 1
    with pytest.raises(InputError, match=r"none of the 70 categories .*TokenCounts\(category=77"):
        fitting(tokenizer, replace(own_words(), counts=TokenCounts(category=77)))


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (replace(WORDS, opposites=(("hot", "drier"), ("colder", "wet"))), "opposites"),
        (replace(WORDS, opposites=(("zzz", "hot"),)), "opposites"),
        (replace(WORDS, categories=("zzz",)), "categories"),
        (replace(WORDS, nouns=("zzz",)), "nouns"),
    ],
)
def test_words_that_do_not_fit_are_told_with_their_tokens(words, kind):
    """No number of tokens was asked for, so none is said to be."""
    tokenizer = word_tokenizer([KNOWN, "er"])
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r" ?\w+?(?=er\b)|er\b| ?\w+| ?[^\w\s]|\s"), "isolated")]
    )
    with pytest.raises(InputError, match=rf"^words: none of the \d {kind}") as error:
        syllogism(reader(tokenizer), 2, threshold=None, words=words)
    assert "asked" not in str(error.value)
    assert "TokenCounts" not in str(error.value)
    with pytest.raises(InputError, match=r"asked for, TokenCounts\((category|descriptor|noun)=9"):
        fitting(tokenizer, replace(words, counts=TokenCounts(9, 9, 9)))


def test_words_that_the_tokenizer_does_not_know_are_left_out():
    assert "hot" in str(fitting(own_reader().tokenizer, own_words()).opposites)
    assert "hot" not in str(fitting(own_reader("hot").tokenizer, own_words()).opposites)


def test_our_words_have_no_duplicates_and_others_are_checked():
    words = own_words()
    assert len(words.categories) >= 60
    assert len(words.nouns) >= 60
    assert len(words.opposites) >= 50
    with pytest.raises(InputError, match="'pigs' stands there more than once"):
        SyllogismWords(("birds",), ("pigs", "pigs"), ())
    with pytest.raises(InputError, match=r"lower-case words .* got 'Pigs'"):
        SyllogismWords(("birds",), ("Pigs",), ())


def test_bad_input(model):
    with pytest.raises(InputError, match="n_prompts: expected at least 1, got 0"):
        syllogism(model, 0)
    with pytest.raises(InputError, match="the words give 16 different prompts"):
        syllogism(model, 17, threshold=None, words=WORDS)
    with pytest.raises(InputError, match="give threshold=None"):
        syllogism(own_reader(), 4)
    with pytest.raises(InputError, match="no tokenizer"):
        syllogism(tiny_model("gpt2"), 4)


@pytest.mark.real
def test_smollm2_draws_the_conclusion(smollm2):
    task = make_task(smollm2, "syllogism", {"n_prompts": 8, "bos": True})
    assert (margins(smollm2, task.prompts) > 1).all()
    every = make_task(smollm2, "syllogism", {"n_prompts": 8, "bos": True, "seed": 1, "threshold": None})
    assert uw.tasks.check(smollm2, task, threshold=1.0, endings=("are", "is")).met
    assert len(set(every.prompts.lengths.tolist())) == 1
