import hashlib
import json
from dataclasses import replace

import pytest
import torch

from tests.readers import entries_of, reader
from unweave.errors import InputError
from unweave.tasks import draw_palindromes, make_task, palindromes, sequence
from unweave.tasks.palindromes import sizes_of


def checksum(tokens: torch.Tensor) -> str:
    return hashlib.sha256(bytes(tokens.flatten().tolist())).hexdigest()[:16]


@pytest.mark.parametrize("n", [100, 500])
def test_the_published_sequences_come_back_bit_for_bit(shared_data, n):
    inputs = json.loads((shared_data / "palindrome_reference.json").read_text(encoding="utf-8"))["inputs"]
    drawn = draw_palindromes(n)
    assert drawn.tokens.tolist() == inputs[f"ds{n}.toks"]
    assert drawn.labels.tolist() == inputs[f"ds{n}.is_palindrome"]


def test_the_draws_are_frozen():
    assert checksum(draw_palindromes(100).tokens) == "88a5dcd9b56a38e2"
    assert checksum(draw_palindromes(100, seed=43).tokens) != "88a5dcd9b56a38e2"
    small = draw_palindromes(7, seed=1, half_length=3, max_value=4)
    assert small.tokens.shape == (7, 8)
    assert checksum(small.tokens) == "fcd837d187f3a948"


def test_classes_are_those_of_the_sequences():
    """Of 5000 sequences that are made to be no palindrome, four are: no place was changed."""
    tokens, labels = draw_palindromes(10_000, seed=43)
    inner = tokens[:, 1:-1]
    assert torch.equal(labels.bool(), (inner == inner.flip(1)).all(1))
    assert labels.sum() == 5004
    assert set(tokens[:, 0].tolist()) == {31}
    assert set(tokens[:, -1].tolist()) == {32}
    assert set(inner.unique().tolist()) == set(range(31))


def test_a_corrupted_sequence_is_of_the_other_class():
    task = palindromes(60, half_length=4, max_value=9)
    clean, corrupted = task.prompts, task.corrupt()
    assert clean.answers is not None
    assert clean.wrong is not None
    changed = clean.tokens != corrupted.tokens
    inner = corrupted.tokens[:, 1:-1]
    assert torch.equal((inner == inner.flip(1)).all(1).long(), clean.wrong)
    assert torch.equal(changed[clean.answers == 1].sum(1), torch.ones(int(clean.answers.sum()), dtype=torch.long))
    assert not changed[:, :5].any()
    assert torch.equal(changed.long().argmax(1), clean.role("mismatch"))
    assert torch.equal(clean.role("mirror") + clean.role("mismatch"), torch.full((60,), 9))
    assert set(clean.role("mismatch")[clean.answers == 1].tolist()) == {5, 6, 7, 8}
    assert int(corrupted.tokens[:, 1:-1].max()) <= 9
    assert entries_of(corrupted) == entries_of(clean)
    assert torch.equal(corrupted.tokens, palindromes(60, half_length=4, max_value=9).corrupt("other_class").tokens)
    with pytest.raises(InputError, match="knows other_class; got 'ABC'"):
        task.corrupt("ABC")


def test_palindromes_alone():
    task = palindromes(20, only_palindromes=True)
    assert len(task.prompts) == 20
    assert entries_of(task.prompts) == [1] * 20
    assert (task.prompts.tokens != task.corrupt().tokens).sum() == 20
    drawn = draw_palindromes(40)
    assert torch.equal(task.prompts.tokens, drawn.tokens[drawn.labels == 1][:20])


def test_tokens_are_named():
    prompts = sequence([4, 16, 16, 4])
    assert prompts.str_tokens == (("START", "04", "16", "16", "04", "END"),)
    assert palindromes(2, max_value=5).prompts.str_tokens[0][1] in "012345"
    assert (
        palindromes(2, max_value=100).prompts.str_tokens[0][1]
        == f"{palindromes(2, max_value=100).prompts.tokens[0, 1]:03}"
    )


def test_custom_sequences():
    prompts = sequence([[1, 2, 2, 1], [1, 2, 3, 4]])
    assert prompts.tokens.tolist() == [[31, 1, 2, 2, 1, 32], [31, 1, 2, 3, 4, 32]]
    assert entries_of(prompts) == [1, 0]
    assert prompts.role("end").tolist() == [5, 5]
    assert torch.equal(sequence(prompts.tokens).tokens, prompts.tokens)
    assert sequence([1, 2] * 2, max_value=2).tokens.tolist() == [[3, 1, 2, 1, 2, 4]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "at least one sequence"),
        ([[]], "from 0 to 30"),
        ([[1, 2], [1]], r"one length, got lengths \[1, 2\]"),
        ([1, 31], r"from 0 to 30, got \[\[1, 31\]\]; max_value"),
        ([-1, 2], "from 0 to 30"),
    ],
)
def test_what_is_no_sequence(values, message):
    with pytest.raises(InputError, match=message):
        sequence(values)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"half_length": 0}, {"max_value": 0}])
def test_numbers_that_are_too_small(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))}: expected at least 1, got 0"):
        palindromes(**wrong)


def test_the_sizes_are_those_of_the_classifier():
    model = reader(None, n_ctx=10, d_vocab=8)
    classifier = replace(model, config=replace(model.config, d_vocab_out=2))
    assert sizes_of(classifier.config) == (4, 5)
    task = make_task(classifier, "palindromes", {"n_prompts": 3, "seed": 1})
    assert task.prompts.tokens.shape == (3, 10)
    assert set(task.prompts.tokens[:, -1].tolist()) == {7}
    with pytest.raises(InputError, match=r"classifier of 2 classes .* 8 outputs and 10 positions"):
        make_task(model, "palindromes")
