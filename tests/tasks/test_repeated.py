from dataclasses import replace

import pytest
import torch

from tests.readers import entries_of, reader, word_tokenizer
from unweave.errors import InputError
from unweave.tasks import make_task, repeated_tokens
from unweave.tasks.repeated import draw_repeated, drawable


def test_the_second_half_is_the_first():
    task = repeated_tokens(12, n=40, length=5, seed=3)
    tokens = task.prompts.tokens
    assert tokens.shape == (40, 10)
    assert torch.equal(tokens[:, :5], tokens[:, 5:])
    assert entries_of(task.prompts) == tokens[:, 5].tolist()
    assert task.prompts.role("repeat").tolist() == [5] * 40
    assert set(tokens.unique().tolist()) == set(range(12))
    assert torch.equal(tokens, draw_repeated(12, 40, 5, 3))
    assert not torch.equal(tokens, repeated_tokens(12, n=40, length=5, seed=4).prompts.tokens)


def test_a_fresh_first_half_repeats_nothing():
    task = repeated_tokens(10_000, n=3, length=8)
    fresh = task.corrupt().tokens
    assert torch.equal(fresh[:, 8:], task.prompts.tokens[:, 8:])
    assert not (fresh[:, :8] == task.prompts.tokens[:, :8]).any()
    with pytest.raises(InputError, match="knows fresh; got 'swap'"):
        task.corrupt("swap")


def test_special_tokens_are_not_drawn_and_tokens_have_texts():
    model = reader(word_tokenizer(["a b c d e"]), n_ctx=12, d_vocab=9)
    assert set(model.tokenizer.all_special_ids) == {0, 1, 2}
    assert drawable(model).tolist() == [3, 4, 5, 6, 7, 8]
    task = make_task(model, "repeated-tokens", {"n_prompts": 50})
    assert set(task.prompts.tokens.unique().tolist()) <= {3, 4, 5, 6, 7, 8}
    assert task.prompts.tokens.shape == (50, 12)
    assert set("".join(task.prompts.texts)) <= set("abcde \n")


def test_a_classifier_has_no_answers():
    model = reader(None, d_vocab=9)
    classifier = replace(model, config=replace(model.config, d_vocab_out=2))
    assert repeated_tokens(classifier, 2, 3).prompts.answers is None
    assert repeated_tokens(model, 2, 3).prompts.answers is not None


def test_sequences_that_cannot_be_made():
    with pytest.raises(InputError, match="40 tokens twice are 80, and reader reads 64; give at most 32"):
        repeated_tokens(reader(None), 2, 40)
    with pytest.raises(InputError, match="at least 1 and 2, got 0 and 5"):
        repeated_tokens(10, 0, 5)
    with pytest.raises(InputError, match="at least 2 tokens that are not special, got 1"):
        repeated_tokens(1, 2, 5)


@pytest.mark.parametrize("seed", range(20))
def test_corruptions_and_wrong_answers_differ_in_the_smallest_vocabulary(seed):
    task = repeated_tokens(2, n=20, length=2, seed=seed)
    assert (task.prompts.tokens != task.corrupt().tokens).any(1).all()
    assert set(task.corrupt().tokens.unique().tolist()) == {0, 1}
    assert entries_of(task.prompts) == [1 - wrong for wrong in entries_of(task.prompts, "wrong")]
