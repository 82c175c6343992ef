"""Prompts as a value: what is shown of them, and when two are the same."""

import copy
from dataclasses import replace

import torch

from unweave.models.prompts import Prompts

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


def test_the_first_prompts_are_whole_clusters() -> None:
    many = PROMPTS.take([0, 1] * 4)
    assert many.first(5) == [0, 1, 2, 3, 4]
    assert many.first(50) == list(range(8))
    pairs = replace(many, clusters=torch.tensor([5, 3, 5, 3, 1, 1, 1, 0]))  # not in order, nor of one size
    assert pairs.first(4) == pairs.first(6) == [0, 1, 2, 3]
    assert pairs.first(7) == [0, 1, 2, 3, 4, 5, 6]
    assert pairs.first(1) == [0, 2]
    assert pairs.take(pairs.first(4)).clusters.tolist() == [5, 3, 5, 3]
