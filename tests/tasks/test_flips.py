import pytest

from unweave.errors import InputError
from unweave.tasks.flips import NAMED, new_names, parse

NAMES = ("Ann", "Bob", "Cal", "Dee", "Eve", "Fay", "Gus")


@pytest.mark.parametrize(
    ("how", "rules"),
    [
        ("ABC", {"ABB": "XYZ", "BAB": "XYZ"}),
        ("swap", {"ABB": "ABA", "BAB": "BAA"}),
        ("ABB->CDD, BAB->DCD", {"ABB": "CDD", "BAB": "DCD"}),
        (" BAB -> DCD,ABB->CDD ", {"ABB": "CDD", "BAB": "DCD"}),
        ("ABB->CBB", {"ABB": "CBB"}),
    ],
)
def test_names_and_patterns_are_read(how, rules):
    assert parse(how) == rules


@pytest.mark.parametrize(
    "how", ["", "abc", "ABB", "ABB->XY", "ABB->XYZ,", "ABB->XYZ, ABB->CDD", "BBA->XYZ", "ABB->xyz", "ABB->XYZ BAB->XYZ"]
)
def test_what_is_neither_is_refused_with_the_grammar(how):
    with pytest.raises(InputError, match="'ABB->XYZ, BAB->XYZ'") as error:
        parse(how)
    assert repr(how) in str(error.value)
    assert "inverted_token" in str(error.value)


def test_every_name_is_a_rule_for_both_orders():
    assert all(set(parse(how)) == {"ABB", "BAB"} for how in NAMED)


def test_new_names_are_not_the_prompts_and_differ():
    for seed in range(50):
        found = new_names(parse("ABC"), ("Ann", "Gus"), NAMES, str(seed))
        assert sorted(found) == ["X", "Y", "Z"]
        assert len({*found.values(), "Ann", "Gus"}) == 5


def test_letters_that_are_kept_need_no_name():
    assert new_names(parse("both_inverted"), (), (), "0") == {}


def test_patterns_share_their_new_names():
    random_token, inverted = (parse(how) for how in ("random_token", "inverted_position_random_token"))
    assert new_names(random_token, (), NAMES, "3") == new_names(inverted, (), NAMES, "3")
    assert new_names(parse("ABC"), (), NAMES, "3")["X"] == new_names(random_token, (), NAMES, "3")["C"]


def test_the_order_of_the_names_given_is_of_no_matter():
    assert new_names(parse("ABC"), (), NAMES, "3") == new_names(parse("ABC"), (), NAMES[::-1], "3")
    drawn = {tuple(new_names(parse("ABC"), (), NAMES, str(seed)).values()) for seed in range(20)}
    assert len(drawn) > 10


def test_too_few_names_are_an_error():
    with pytest.raises(InputError, match="needs 3 other names, and 2 "):
        new_names(parse("ABC"), ("Ann",), ("Ann", "Bob", "Cal"), "0")
