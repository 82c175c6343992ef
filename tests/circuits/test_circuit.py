"""The circuit as a value, its file, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.circuits.made import CIRCUIT, made_pair
from tests.readers import unchecked
from tests.tiny import tiny_model
from unweave.circuits.circuit import Circuit, Group
from unweave.circuits.files import PUBLISHED
from unweave.errors import InputError
from unweave.nodes import Edge

WHOLE = Circuit(
    groups=(
        Group("mover", ((2, 0), (2, 3)), ("end",)),
        Group("early", ((0, 1),), ("S2", "S1"), mlps=(0, 1)),
        Group("wide", ((1, 1),)),
    ),
    edges=(
        Edge("2.0", "logits", "", -0.25, -0.5, 0.125),
        Edge("0.1", "2.0", "q", 1 / 3, role="end"),
        Edge("embed", "0_mlp"),
    ),
    model="tiny llama",
    shape=(3, 4),
    task="ioi",
    notes="made by hand — “öäü”",
    minimality={(2, 0): ((2, 3), (0, 1)), (1, 1): ()},
)


def written(tmp_path: Path, change: object) -> Path:
    """A circuit's file after `change` was applied to its fields."""
    path = WHOLE.save(tmp_path / "circuit.json")
    fields = json.loads(path.read_text())
    change(fields)  # type: ignore[operator]
    path.write_text(json.dumps(fields))
    return path


def test_a_file_gives_back_the_circuit(tmp_path: Path) -> None:
    path = WHOLE.save(tmp_path / "circuit.json")
    again = Circuit.load(path)
    assert again == WHOLE
    assert again.save(tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "circuit.json"]


def test_what_a_file_may_leave_out(tmp_path: Path) -> None:
    path = tmp_path / "least.json"
    path.write_text('{"groups": [{"name": "a", "heads": ["1.2"]}]}')
    assert Circuit.load(path) == Circuit((Group("a", ((1, 2),)),))


def test_heads_and_mlps() -> None:
    assert WHOLE.heads == ((2, 0), (2, 3), (0, 1), (1, 1))
    assert WHOLE.mlps == (0, 1)
    assert WHOLE.group_of((0, 1)).name == "early"


def test_without_drops_edges_and_empty_groups() -> None:
    less = WHOLE.without([(2, 0), (1, 1)])
    assert less.heads == ((2, 3), (0, 1))
    assert [group.name for group in less.groups] == ["mover", "early"]
    assert less.edges == (Edge("embed", "0_mlp"),)
    assert less.minimality == {}
    assert WHOLE.without([(0, 1)]).minimality == {(2, 0): ((2, 3),), (1, 1): ()}
    assert WHOLE.without([(0, 1)]).mlps == (0, 1)


def test_repr_names_groups_heads_and_roles() -> None:
    lines = repr(WHOLE).splitlines()
    assert lines[0] == "Circuit(ioi of tiny llama, 4 heads, 3 edges)"
    assert lines[1].split() == ["mover", "2.0,", "2.3", "@", "end"]
    assert lines[2].split() == ["early", "0.1,", "mlp", "0,", "mlp", "1", "@", "S2,", "S1"]
    assert lines[3].split() == ["wide", "1.1", "@", "all", "positions"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((), "it is empty"),
        ((Group("a", ()),), "it is empty"),
        ((Group("a", ((1, 1), (1, 1))),), r"the head 1\.1 is named twice"),
        ((Group("a", ((1, 1),)), Group("b", ((1, 1),))), r"the head 1\.1 is named twice"),
        ((Group("a", ((1, 1),)), Group("a", ((1, 2),))), "the group a is named twice"),
        ((Group("a", ((1, 1),), mlps=(0, 0)),), "the MLP mlp 0 is named twice"),
        ((Group("a", ((1, 1),), roles=()),), "expected 'all' or roles"),
    ],
)
def test_groups_that_make_no_circuit(groups: tuple[Group, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Circuit(groups)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (("2.0", "logits", "w"), "expected 'q', 'k', 'v' or ''"),
        (("2.1", "logits"), r"2\.1 is not in this circuit"),
        (("2.0", "9.9"), r"9\.9 is not in this circuit"),
        (("logits", "2.0"), "logits is not in this circuit"),
        (("2.x", "logits"), r"'2\.x' is not a place in a model"),
    ],
)
def test_edges_of_what_is_not_there(ends: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(WHOLE, edges=(Edge(*ends),))


def test_sets_k_of_what_is_not_there() -> None:
    with pytest.raises(InputError, match=r"minimality: 2\.1 is not in this circuit"):
        replace(WHOLE, minimality={(2, 0): ((2, 1),)})
    with pytest.raises(InputError, match=r"K of 2\.0 holds the head itself"):
        replace(WHOLE, minimality={(2, 0): ((2, 0),)})


def test_heads_that_cannot_be_taken_out() -> None:
    with pytest.raises(InputError, match=r"heads: 2\.1 is not in this circuit"):
        WHOLE.without([(2, 1)])
    with pytest.raises(InputError, match="it is empty"):
        WHOLE.without(WHOLE.heads)
    with pytest.raises(InputError, match=r"2\.1 is not in this circuit"):
        WHOLE.group_of((2, 1))


def wrong(**fields: object) -> object:
    return lambda found: found.update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wrong(colour="red"), "circuit.json: a circuit: unknown key 'colour'"),
        (lambda found: found["groups"][0].update(positions=[1]), r"groups\[0\]: unknown key 'positions'"),
        (lambda found: found["edges"][1].update(weight=1), r"edges\[1\]: unknown key 'weight'"),
        (lambda found: found["model"].update(size=1), "model: unknown key 'size'"),
        (lambda found: found.pop("groups"), "'groups' is missing"),
        (lambda found: found["groups"][1].pop("heads"), r"groups\[1\]: 'heads' is missing"),
        (lambda found: found["groups"][0].update(heads=["2.0", "2"]), r"groups\[0\]: heads: head: '2' is not a place"),
        (lambda found: found["groups"][0].update(heads=[[2, 0]]), r"groups\[0\]: heads: expected a list of texts"),
        (lambda found: found["groups"][0].update(heads=["2.0", "2.0"]), r"2\.0 is named twice"),
        (lambda found: found["groups"][0].update(roles="end"), "roles: expected a list of texts"),
        (lambda found: found["groups"][0].update(mlps=[True]), "mlps: expected a list of whole numbers"),
        (lambda found: found["edges"][0].update(effect="big"), "effect: expected a number or null"),
        (lambda found: found["edges"][0].update(sender=7), "sender: expected a text"),
        (lambda found: found["model"].update(layers=-1), "layers: expected a whole number"),
        (wrong(groups=[]), "it is empty"),
        (wrong(format=99), "update unweave"),
        (wrong(minimality=[]), "minimality: expected an object"),
        (wrong(notes=None), "notes: expected a text"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, change: object, message: str) -> None:
    path = written(tmp_path, change)
    with pytest.raises(InputError, match=message):
        Circuit.load(path)


def test_files_that_are_no_circuits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        Circuit.load(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{\n oops")
    with pytest.raises(InputError, match=r"text\.json line 2: not JSON"):
        Circuit.load(tmp_path / "text.json")
    (tmp_path / "blank.json").write_text("\n")
    with pytest.raises(InputError, match=r"blank\.json: it is empty; expected a circuit"):
        Circuit.load(tmp_path / "blank.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="expected an object"):
        Circuit.load(tmp_path / "list.json")
    with pytest.raises(InputError, match="cannot write"):
        WHOLE.save(tmp_path / "no folder" / "circuit.json")


def test_a_circuit_fits_its_model_and_task() -> None:
    pair = made_pair()
    CIRCUIT.check(pair)
    replace(CIRCUIT, model="owner/Tiny Llama", shape=(3, 4)).check(pair)
    with pytest.raises(InputError, match=r"12 layers x 12 heads, and tiny llama has 3 x 4"):
        Circuit.published("ioi-gpt2-small").check(pair)
    with pytest.raises(
        InputError, match=r"it is of the model 'gpt2', and this one is 'tiny llama'.*model='tiny llama'"
    ):
        replace(CIRCUIT, model="gpt2").check(pair)
    with pytest.raises(InputError, match=r"tiny llama has no head 3\.0; its heads are 0\.0 to 2\.3"):
        Circuit((Group("a", ((3, 0),)),)).check(pair)
    with pytest.raises(InputError, match=r"tiny llama has no head 0\.4"):
        Circuit((Group("a", ((0, 4),)),)).check(pair)
    with pytest.raises(InputError, match="tiny llama has no MLP in layer 3"):
        Circuit((Group("a", ((0, 0),), mlps=(3,)),)).check(pair)
    with pytest.raises(InputError, match=r"group 'a': role 'IO' is not among this task's roles: S1, S2, end"):
        Circuit((Group("a", ((0, 0),), ("end", "IO")),)).check(pair)


def test_the_published_circuits() -> None:
    full, naive = map(Circuit.published, PUBLISHED)
    assert len(full.heads) == 26
    assert len(full.groups) == 7
    assert set(full.minimality) == set(full.heads)
    assert {group.name: group.roles for group in full.groups}["previous token"] == ("S1+1",)
    assert set(naive.heads) < set(full.heads)
    assert len(naive.heads) == 13
    assert full.shape == naive.shape == (12, 12)
    with pytest.raises(InputError, match="'ioi' does not come with unweave; ioi-gpt2-small and"):
        Circuit.published("ioi")


def test_a_published_circuit_fits_a_model_of_its_size() -> None:
    config = replace(tiny_model("gpt2").config, name="openai-community/gpt2", n_layers=12, n_heads=12)
    Circuit.published("ioi-gpt2-small").check_model(config)


def test_groups_may_be_written_with_lists_and_names():
    with unchecked():
        mine = Group("mover", ["2.0", (1, 3), [2, 2]], ["end"], [1])  # type: ignore[arg-type]
        assert mine == Group("mover", ((2, 0), (1, 3), (2, 2)), ("end",), (1,))
        assert Circuit([mine]) == Circuit((mine,))  # type: ignore[arg-type]
        assert Group("mover", "2.0").heads == ((2, 0),)  # type: ignore[arg-type]
        for head in ("2", (1, 2, 3), (1.5, 2), 7):
            with pytest.raises(InputError, match=r"is not a place"):
                Group("mover", [head])  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"groups: expected uw.Group\('name mover', .*, got 'mover'"):
            Circuit({"mover": [(2, 0)]})  # type: ignore[arg-type]
