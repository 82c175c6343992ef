"""Groups of a circuit get the names of their heads, where these do what the name says."""

import xarray as xr

import unweave as uw
from unweave.circuits.circuit import Group
from unweave.methods.head_types import HeadTypes, HeadTypeThresholds, NamedHead, rules_of
from unweave.nodes import Edge


def roles(**names: str) -> HeadTypes:
    """Heads by name: `h9_1="induction"`; further names behind a comma."""
    heads = []
    for key, text in names.items():
        layer, head = map(int, key.removeprefix("h").split("_"))
        first, *also = text.split(", ")
        heads.append(NamedHead((layer, head), first, "", {}, tuple(also)))
    return HeadTypes(tuple(heads), rules_of(HeadTypeThresholds()), xr.Dataset())


CIRCUIT = uw.Circuit(
    groups=(
        Group("level 1 @end", ((9, 0), (9, 1), (9, 2)), ("end",)),
        Group("level 2 @S2", ((5, 0), (6, 0)), ("S2",), mlps=(3,)),
        Group("level 2 @S2 end", ((7, 0),), ("S2", "end")),
    ),
    edges=(Edge("7.0", "9.1", "q", 0.3, 0.2, 0.4, "end"),),
    model="some",
    notes="sketched",
    minimality={(9, 0): ((9, 1),)},
)


def test_heads_move_to_the_groups_that_say_what_they_do() -> None:
    found = CIRCUIT.named(roles(h9_2="negative name mover", h9_1="name mover", h9_0="name mover", h5_0="induction"))
    assert found.groups == (
        Group("name mover", ((9, 0), (9, 1)), ("end",)),
        Group("negative name mover", ((9, 2),), ("end",)),
        Group("induction", ((5, 0),), ("S2",)),
        Group("level 2 @S2", ((6, 0),), ("S2",), mlps=(3,)),
        Group("level 2 @S2 end", ((7, 0),), ("S2", "end")),
    )


def test_naming_changes_no_claim() -> None:
    found = CIRCUIT.named(roles(h9_1="name mover", h7_0="S-inhibition", h6_0="duplicate token"))
    assert (found.edges, found.minimality, found.model, found.notes) == (
        CIRCUIT.edges,
        CIRCUIT.minimality,
        "some",
        "sketched",
    )
    assert {head: found.group_of(head).roles for head in CIRCUIT.heads} == {
        head: CIRCUIT.group_of(head).roles for head in CIRCUIT.heads
    }
    assert found.mlps == CIRCUIT.mlps


def test_a_name_needs_the_role_where_it_holds() -> None:
    found = CIRCUIT.named(roles(h5_0="S-inhibition", h6_0="S-inhibition, duplicate token"))
    assert found.group_of((5, 0)).name == "level 2 @S2"
    assert found.group_of((6, 0)).name == "duplicate token"


def test_one_name_at_different_roles_is_two_groups() -> None:
    found = CIRCUIT.named(roles(h5_0="induction", h7_0="induction"))
    assert found.group_of((5, 0)) == Group("induction @S2", ((5, 0),), ("S2",))
    assert found.group_of((7, 0)) == Group("induction @S2 end", ((7, 0),), ("S2", "end"))


def test_without_names_nothing_changes_and_strangers_are_not_added() -> None:
    assert CIRCUIT.named(roles()) == CIRCUIT
    assert CIRCUIT.named(roles(h1_1="name mover", h9_0="other")) == CIRCUIT


def test_a_group_that_counts_everywhere_takes_any_name() -> None:
    everywhere = uw.Circuit((Group("level 1", ((9, 0), (5, 0))),))
    found = everywhere.named(roles(h9_0="name mover", h5_0="induction"))
    assert [(group.name, group.roles) for group in found.groups] == [("name mover", "all"), ("induction", "all")]
