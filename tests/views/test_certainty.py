"""What a figure says of its own certainty."""

import re

import numpy as np

from tests.results.fake import heads, result
from unweave.results import summary, top
from unweave.views.captions import largest, steepest
from unweave.views.certainty import caption, doubtful, unclear
from unweave.views.sense import meaning, measure


def test_doubt_by_adjusted_p() -> None:
    table = summary(heads(n_prompts=32))
    doubt = unclear(table)
    assert doubt.shape == (4, 3)
    assert not doubt[2, 1]
    assert not doubt[3, 0]
    assert not doubt[0].any()  # exactly 0: nothing to doubt
    assert doubt[1].all()
    for row in top(table, 12):
        assert doubtful(row, table.attrs) == doubt[int(row.where["layer"]), int(row.where["head"])]


def test_doubt_by_the_cells_own_interval_where_prompts_are_few() -> None:
    table = summary(result({"prompt": 6, "layer": 10, "head": 10}) * 0.1)
    table["low"][3, 4], table["high"][3, 4] = 0.2, 0.5
    doubt = unclear(table)
    assert not doubt[3, 4]
    assert doubt.sum() == int(((table["low"] <= 0) & (table["high"] >= 0)).sum())
    text = caption([table], mark="Dots")
    assert re.search(r"6 prompts are too few .* 100 cells .*\(12 ", text)
    assert "dots: the cell's own interval holds 0" in text


def test_enough_prompts_are_enough() -> None:
    # The number that the caption asks for must do, and one fewer must not.
    fake = result({"prompt": 12, "layer": 10, "head": 10}) + 10
    assert summary(fake).attrs["p_holm_smallest"] <= 0.05
    assert summary(fake[:11]).attrs["p_holm_smallest"] > 0.05


def test_captions() -> None:
    table = summary(heads(n_prompts=32))
    said = caption([table])
    assert said.startswith("Means of 32 prompts, with 95\u00a0% intervals")
    assert re.search("^ Dots: .* 9 of 12 cells .*Holm", caption([table], mark="Dots").removeprefix(said))
    assert caption([table], scale=("0 = a", "1 = b")) == f"{said} 0 = a, 1 = b."
    assert caption([summary(heads(n_prompts=1))]) == "One prompt: no interval."
    every = result({"prompt": 32, "layer": 2, "head": 2}) * 0.01
    assert "after adjustment for all 4 cells" in caption([summary(every)], mark="Dots")
    alone = summary(result({"prompt": 32, "address": 1}) * 0.01)
    assert "Dots: not different from 0 (sign-flip p above 0.05)." in caption([alone], mark="Dots")


def test_attention_is_never_doubted() -> None:
    table = summary(heads().assign_attrs(quantity="attention"))
    assert not unclear(table).any()


def test_units_and_meanings() -> None:
    effect = heads().attrs
    assert measure(effect) == "effect"
    assert meaning(effect) == ("0 = as the corrupted prompt", "1 = as the clean prompt")
    noise = {"zero": "as the clean prompt", "one": "as bad as the corrupted prompt (at -1)"}
    assert meaning(noise) == ("0 = as the clean prompt", "−1 = as bad as the corrupted prompt")
    assert measure({"quantity": "logit difference", "unit": "logits"}) == "logit difference (logits)"
    assert measure({"quantity": "share of changes missed", "unit": "share"}) == "share of changes missed"
    assert measure({}) == "mean"
    assert meaning({}) == ()


def test_titles_are_computed() -> None:
    table = summary(heads(n_prompts=32))
    assert largest({"z": table}).startswith("Effect: 2.1 (0.50)")
    assert largest({"z": table}).endswith("3.0 (−0.26) is lowest; 2 of 9 cells differ from 0")
    assert largest({"z": summary(heads() * 0)}) == "Effect: all cells are 0"
    assert (
        steepest(["a", "b", "c"], np.array([0.0, 3.0, 2.0]), "sum") == "Sum rises most at b, by 3.00, and ends at 2.00"
    )
