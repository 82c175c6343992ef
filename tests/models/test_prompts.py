"""Prompts as a value: what is shown of them, and when two are the same."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.readers import entries_of, unchecked
from unweave.errors import InputError
from unweave.models.prompts import Prompts, clusters_of, pair_clusters

PROMPTS = Prompts.from_tokens(torch.arange(12).reshape(2, 6), answers=[1, 2], roles={"S": [1, 3]}, lengths=[6, 4])


def test_what_is_shown_is_short_and_says_how_many_of_what() -> None:
    assert repr(PROMPTS) == "Prompts(2 of 4 to 6 tokens, roles S end, the first '0 1 2 3 4 5')"
    many = replace(PROMPTS.take([0] * 500), texts=("word " * 200,) * 500)
    assert repr(many).startswith("Prompts(500 of 6 tokens, roles S end, the first 'word word ")
    assert len(repr(many)) < 160


def test_the_same_prompts_are_equal_and_others_are_not() -> None:
    assert copy.deepcopy(PROMPTS) == PROMPTS
    assert PROMPTS.take([0, 1]) == PROMPTS
    assert PROMPTS.take([1, 0]) != PROMPTS
    assert replace(PROMPTS, answers=None) != PROMPTS
    assert replace(PROMPTS, roles={"end": PROMPTS.roles["end"]}) != PROMPTS
    assert replace(PROMPTS, roles={**PROMPTS.roles, "S": torch.tensor([1, 2])}) != PROMPTS
    assert replace(PROMPTS, source={"task": "other"}) != PROMPTS
    assert PROMPTS != "prompts"


def test_the_first_prompts_are_whole_clusters_unless_most_are_cut() -> None:
    many = PROMPTS.take([0, 1] * 4)
    assert many.first(5) == [0, 1, 2, 3, 4]
    assert many.first(50) == list(range(8))
    pairs = replace(many, clusters=torch.tensor([5, 3, 5, 3, 1, 1, 1, 0]))  # not in order, nor of one size
    assert pairs.first(4) == pairs.first(6) == [0, 1, 2, 3]
    assert pairs.first(7) == [0, 1, 2, 3, 4, 5, 6]
    assert pairs.first(1) == [0]
    templates = replace(many, clusters=torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]))
    assert templates.first(5) == [0, 1, 2, 3, 4]
    assert pairs.take(pairs.first(4)).clusters.tolist() == [5, 3, 5, 3]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "rows", [[[1, 2], [3, 4, 5]], [np.array([1, 2]), (3, 4, 5)], [torch.tensor([1, 2]), [3, 4, 5]]]
)
def test_rows_of_unlike_length_say_their_own(rows: Any) -> None:
    prompts = Prompts.from_tokens(rows)
    assert prompts.lengths.tolist() == [2, 3]
    assert prompts.role("end").tolist() == [1, 2]
    assert prompts.texts == ("1 2", "3 4 5")
    assert Prompts.from_tokens(rows, lengths=[1, 3]).lengths.tolist() == [1, 3]
    with pytest.raises(InputError, match="lengths"):
        Prompts.from_tokens(rows, lengths=[3, 3])


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.uint16])
def test_ids_and_answers_of_numpy(dtype: Any) -> None:
    prompts = Prompts.from_tokens(np.array([[1, 2], [3, 4]], dtype=dtype), answers=np.array([5, 6], dtype=dtype))
    assert prompts == Prompts.from_tokens([[1, 2], [3, 4]], answers=(number for number in (5, 6)))


@pytest.mark.parametrize("column", ["answers", "wrong", "lengths", "clusters", "S"])
@pytest.mark.parametrize("given", [{1, 2}, {1: 2, 2: 1}, "ab", 7, [1], [1, 2, 3], [None, 1], [[1], [2, 3]]])
def test_what_is_no_column_is_named(column: str, given: Any) -> None:
    argument: Any = {"roles": {"S": given}} if column == "S" else {column: given}
    with unchecked(), pytest.raises(InputError, match=column):
        Prompts.from_tokens([[1, 2], [3, 4]], **argument)


@pytest.mark.parametrize(
    "given", [[{1}, {2}], [" a", " b"], [1.0, 2.0], torch.tensor([1.5, 2]), [True, False], [-1, 2]]
)
def test_answers_are_entries_of_the_output(given: Any) -> None:
    with unchecked(), pytest.raises(InputError, match=r"answers: .*prompt 1"):
        Prompts.from_tokens([[1, 2], [3, 4]], answers=given)


def test_an_answer_that_is_the_wrong_one_too_is_named() -> None:
    with pytest.raises(InputError, match=r"prompt 2: .* 7 \('3 4'\)"):
        Prompts.from_tokens([[1, 2], [3, 4], [5, 6]], answers=[1, 7, 9], wrong=[2, 7, 9])


def test_clusters_are_numbered_as_they_come() -> None:
    prompts = Prompts.from_tokens([[1], [2], [3], [4]], clusters=["b", "a", 3, "b"])
    assert prompts.clusters is not None
    assert prompts.clusters.dtype == torch.int64
    assert prompts.clusters.tolist() == [0, 1, 2, 0]
    assert entries_of(prompts.take([3, 1]), "clusters") == [0, 1]
    assert "3 clusters" in repr(prompts)
    with pytest.raises(InputError, match=r"clusters: .*prompt 3"):
        Prompts.from_tokens([[1], [2], [3]], clusters=[1, 2, float("nan")])


def test_whatever_shares_a_key_is_connected() -> None:
    assert clusters_of([["a", "b"], ["c"], ["d", "b"], [], ["c", "e"], ["e", "a"], ["z"]]).tolist() == [
        *[0, 0, 0, 1, 0, 0, 2],
    ]


@pytest.mark.parametrize(
    ("clean", "corrupted", "expected"),
    [
        ([[1, 2], [1, 3]], [[1, 3], [1, 2]], [0, 0]),
        ([[1, 2], [4, 5], [1, 3]], [[1, 3], [4, 6], [1, 9]], [0, 1, 0]),
        ([[1, 2], [4, 5], [1, 2]], [[1, 3], [4, 6], [1, 4]], [0, 1, 0]),
        ([[1, 2], [1, 3]], [[1, 4], [1, 4]], None),
        ([[1, 2], [1, 3]], [[1, 4], [1, 5]], None),
        ([[1, 2], [1]], [[1, 3], [1, 2]], [0, 0]),
        ([[1, 0], [1]], [[1, 3], [2]], None),
    ],
)
def test_pairs_that_are_each_others_corruption_belong_together(
    clean: list, corrupted: list, expected: list | None
) -> None:
    found = pair_clusters(Prompts.from_tokens(clean), Prompts.from_tokens(corrupted))
    assert (None if found is None else found.tolist()) == expected
