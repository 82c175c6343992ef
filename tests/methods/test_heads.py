"""Heads as users name them, and as other libraries return them."""

import numpy as np
import pytest
import torch

import unweave as uw
from tests.readers import unchecked
from tests.tiny import tiny_model, tiny_pair
from unweave.methods.targets import head_of, heads_of

CONFIG = tiny_model("gpt2").config


WRITTEN = [(2, 1), [2, 1], "2.1", " 2.1 ", "-1.1", "L2H1", (-1, 1)]
RETURNED = [(np.int64(2), np.int32(1)), np.array([2, 1]), torch.tensor([2, 1]), (torch.tensor(2), 1)]


@pytest.mark.parametrize("head", [*WRITTEN, *RETURNED], ids=str)
def test_one_head_in_many_hands(head) -> None:
    with unchecked():
        found = head_of(CONFIG, head)
        assert found == (2, 1)
        assert [type(number) for number in found] == [int, int]
        assert heads_of(CONFIG, head) == heads_of(CONFIG, [head]) == ((2, 1),)


def test_rows_of_an_array_are_heads() -> None:
    table = np.zeros((3, 4))
    table[[0, 2], [3, 1]] = 1
    assert heads_of(CONFIG, np.argwhere(table)) == ((0, 3), (2, 1))
    assert heads_of(CONFIG, torch.from_numpy(table).nonzero()) == ((0, 3), (2, 1))


@pytest.mark.parametrize("head", [(2, 1, 0), (2,), (2.0, 1), "2", "2.1.1", "H1L2", None, 21, {"layer": 2}])
def test_what_is_no_head_is_refused(head) -> None:
    with unchecked(), pytest.raises(uw.InputError, match=r"is not a place in a model; write|expected a list such as"):
        heads_of(CONFIG, head)


def test_a_single_head_and_words_for_all_of_a_kind_are_understood_by_every_method() -> None:
    pair = tiny_pair(tiny_model("llama"))
    assert uw.attention(pair, "1.2").identical(uw.attention(pair, [(1, 2)]))
    assert uw.knockout(pair, "1.2").identical(uw.knockout(pair, [(1, 2)]))
    assert uw.knockout(pair, (1, 2)).identical(uw.knockout(pair, [(1, 2)]))
    assert uw.knockout(pair, "mlp 1").identical(uw.knockout(pair, ["mlp 1"]))
    for word, kind in (("heads", "z"), ("mlps", "mlp"), ("layers", "layer")):
        assert uw.knockout(pair, word).identical(uw.knockout(pair, kind))
    assert uw.knockout(pair, "heads").identical(uw.knockout(pair))


def test_rows_of_top_and_the_names_that_it_prints_are_heads_of_every_method() -> None:
    pair = tiny_pair(tiny_model("llama"))
    heads = uw.patch(pair, "z", over=("layer", "head"))
    rows = uw.top(heads, 2)
    names = [row.label for row in rows]
    assert uw.attention(pair, rows)["address"].values.tolist() == names
    assert uw.attention(pair, uw.top(heads.sel(layer=1), 2))["address"].values[0].startswith("1.")
    assert uw.attention(pair, rows[0]).identical(uw.attention(pair, f"z {names[0]}"))
    assert uw.knockout(pair, rows)["address"].values.tolist() == [f"z {name}" for name in names]
    assert uw.path_patch(pair, "logits", rows)["sender"].values.tolist() == names
    with unchecked():
        assert uw.Group("a", rows).heads == heads_of(pair.model.config, names)  # type: ignore[arg-type]
    again = uw.patch_at(pair, rows)
    for row in rows:
        np.testing.assert_allclose(again.sel(address=f"z {row.label}"), heads.sel(row.where), atol=1e-12)


def test_key_and_value_heads_of_top_are_themselves_or_the_query_heads_that_share_them() -> None:
    pair = tiny_pair(tiny_model("llama"))
    values = uw.patch(pair, ["k", "v"], over=("layer", "head"))
    rows = uw.top(values["v"], 2)
    assert ".kv" in rows[0].label
    layer, number = (int(part) for part in rows[0].label.split(".kv"))
    shared = [f"{layer}.{2 * number}", f"{layer}.{2 * number + 1}"]
    assert uw.attention(pair, rows[0].label)["address"].values.tolist() == shared
    assert uw.attention(pair, uw.top(values, 4)).sizes["address"] >= 2
    assert uw.knockout(pair, rows)["address"].values[0] == f"v {rows[0].label}"
    np.testing.assert_allclose(uw.patch_at(pair, rows)[:, 0], values["v"].sel(rows[0].where), atol=1e-12)


def test_rows_that_are_no_heads_say_what_to_write() -> None:
    pair = tiny_pair(tiny_model("gpt2"))
    stream = uw.top(uw.patch(pair, "resid_pre", over=("layer", "role")), 2)
    assert uw.patch_at(pair, stream).sizes["address"] == 2
    for ask in (
        lambda: uw.attention(pair, stream),
        lambda: uw.attention(pair, "layer 2"),
        lambda: uw.knockout(pair, stream),
    ):
        with pytest.raises(uw.InputError, match=r"write|choose"):
            ask()
