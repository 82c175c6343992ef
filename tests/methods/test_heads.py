"""Heads as users name them, and as other libraries return them."""

import numpy as np
import pytest
import torch

import unweave as uw
from tests.readers import unchecked
from tests.tiny import tiny_model, tiny_pair
from unweave.methods.heads import parse_head, parse_heads

CONFIG = tiny_model("gpt2").config


WRITTEN = [(2, 1), [2, 1], "2.1", " 2.1 ", "-1.1", "L2H1", (-1, 1)]
RETURNED = [(np.int64(2), np.int32(1)), np.array([2, 1]), torch.tensor([2, 1]), (torch.tensor(2), 1)]


@pytest.mark.parametrize("head", [*WRITTEN, *RETURNED], ids=str)
def test_one_head_in_many_hands(head) -> None:
    with unchecked():
        found = parse_head(CONFIG, head)
        assert found == (2, 1)
        assert [type(number) for number in found] == [int, int]
        assert parse_heads(CONFIG, head) == parse_heads(CONFIG, [head]) == ((2, 1),)


def test_rows_of_an_array_are_heads() -> None:
    table = np.zeros((3, 4))
    table[[0, 2], [3, 1]] = 1
    assert parse_heads(CONFIG, np.argwhere(table)) == ((0, 3), (2, 1))
    assert parse_heads(CONFIG, torch.from_numpy(table).nonzero()) == ((0, 3), (2, 1))


@pytest.mark.parametrize("head", [(2, 1, 0), (2,), (2.0, 1), "2", "2.1.1", "H1L2", None, 21, {"layer": 2}])
def test_what_is_no_head_is_refused(head) -> None:
    with unchecked(), pytest.raises(uw.InputError, match=r"is not a head; write|expected a list such as"):
        parse_heads(CONFIG, head)


def test_a_single_head_and_words_for_all_of_a_kind_are_understood_by_every_method() -> None:
    pair = tiny_pair(tiny_model("llama"))
    assert uw.attention(pair, "1.2").identical(uw.attention(pair, [(1, 2)]))
    assert uw.knockout(pair, "1.2").identical(uw.knockout(pair, [(1, 2)]))
    assert uw.knockout(pair, (1, 2)).identical(uw.knockout(pair, [(1, 2)]))
    assert uw.knockout(pair, "mlp 1").identical(uw.knockout(pair, ["mlp 1"]))
    for word, kind in (("heads", "z"), ("mlps", "mlp"), ("layers", "layer")):
        assert uw.knockout(pair, word).identical(uw.knockout(pair, kind))
    assert uw.knockout(pair, "heads").identical(uw.knockout(pair))
