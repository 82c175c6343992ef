import pytest

from tests.views import made, made_circuits
from unweave.results import summary
from unweave.views.choice import blocks_of
from unweave.views.path_effects import path_finding, path_tables, receivers_said
from unweave.views.wording import SPACE


def paths(cells: dict, receivers: str = "logits", direction: str = "noise", **attrs):
    return made.heads(cells, direction=direction, method="path patching", receivers=receivers, site="", **attrs)


def said(result) -> str:
    return path_finding(summary(result)).replace(SPACE, " ")


def test_heads_that_act_on_the_logits_are_named_with_what_their_paths_cost():
    assert said(paths({(5, 1): -0.5, (3, 0): -0.4, (4, 2): 0.2})) == (
        "5.1 and 3.0 act directly on the logits: spoiling these paths costs 50 % and 40 %; 4.2 works against it (20 %)"
    )


def test_the_other_direction_brings_back():
    assert said(paths({(5, 1): 0.5}, direction="denoise")) == (
        "5.1 acts directly on the logits: restoring this path brings back 50 %"
    )


def test_receivers_are_named_by_their_inputs():
    assert said(paths({(1, 1): -0.3}, "5.1 v, 5.0 v")) == (
        "1.1 acts through the values of 5.1 and 5.0: spoiling this path costs 30 %"
    )
    assert said(paths({(1, 1): 0.3}, "5.1 q")) == "1.1 works against the answer through the query of 5.1 (30 %)"


def test_a_change_is_told_in_units_and_a_drop_in_percent():
    change = {"measure": "change", "quantity": "change", "unit": "logits"}
    assert said(paths({(5, 1): -2.5}, **change)) == "5.1 acts directly on the logits: spoiling this path costs 2.50"
    assert said(paths({(5, 1): -0.5}, measure="drop")) == (
        "5.1 acts directly on the logits: spoiling this path costs 50 %"
    )


def test_nothing_found_says_so():
    assert said(paths({})).startswith("No head acts directly on the logits: the largest of 18 means is ")


@pytest.mark.parametrize(
    ("receivers", "expected"),
    [
        ("logits", "the logits"),
        ("8.6 v", "the value of 8.6"),
        ("8.6 v, 8.10 v, mlp 9", "the values of 8.6 and 8.10 and MLP 9"),
        ("8.6 q, 8.6 k", "the query of 8.6 and the key of 8.6"),
        ("1.0 q, 1.1 q, 1.2 q, 1.3 q, 1.4 q", "the queries of 5 heads"),
    ],
)
def test_receivers_in_words(receivers: str, expected: str):
    assert receivers_said(receivers) == expected


def test_a_map_of_heads_and_a_list_of_senders_both_have_pictures():
    heat, bars = blocks_of(paths({(5, 1): -0.5}))
    assert heat.title.startswith("5.1 acts directly")  # type: ignore[attr-defined]
    senders = made.result(
        {"sender": ["9.6", "mlp 3 + embed"]},
        {("mlp 3 + embed",): -0.4},
        method="path patching",
        receivers="logits",
        direction="noise",
    )
    (block,) = blocks_of(senders)
    assert block.title.startswith("mlp 3 + embed acts directly on the logits")  # type: ignore[attr-defined]
    assert bars is not heat


def test_the_paths_of_each_group_are_listed_with_their_intervals():
    tables = path_tables(made_circuits.CIRCUIT)
    assert [table.title for table in tables] == [
        "mover: 2 paths, the strongest 5.1 to logits (0.50)",
        "inhibitor: 1 path, the strongest 3.0 to 5.1 (0.10)",
        "against: 2 paths, the strongest 4.2 to logits (−0.30)",
        "previous: 1 path, the strongest 1.1 to 3.0 (0.020)",
    ]
    assert tables[0].rows[0] == ("5.1", "logits", "direct", "end", "0.50", "0.40 to 0.60")
    assert tables[2].rows[1] == ("2_mlp", "3.0", "key", "S2", "0.030", "–")
