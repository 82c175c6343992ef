"""A circuit's groups and paths as tables."""

from dataclasses import replace

from tests.views import made_circuits
from unweave.views.circuit.tables import edge_table, group_table, path_tables


def test_a_row_for_each_group_with_its_heads_mlps_and_roles():
    circuit = made_circuits.CIRCUIT
    table = group_table(circuit)
    assert [row[0] for row in table.rows] == [group.name for group in circuit.groups]
    for row, group in zip(table.rows, circuit.groups, strict=True):
        assert row[1].split(", ")[: len(group.heads)] == ["{}.{}".format(*head) for head in group.heads]
        assert len(row[1].split(", ")) == len(group.heads) + len(group.mlps)
        assert row[2] == ("all positions" if group.roles == "all" else " ".join(group.roles))


def test_paths_stand_by_their_size_and_the_strongest_can_be_had_alone():
    edges = made_circuits.CIRCUIT.edges
    sizes = sorted((abs(edge.effect or 0.0) for edge in edges), reverse=True)
    by_name = {(edge.sender.short, edge.receiver.short, edge.role or "–"): abs(edge.effect or 0.0) for edge in edges}
    rows = edge_table(edges).rows
    assert [by_name[row[0], row[1], row[3]] for row in rows] == sizes
    assert edge_table(edges, n=2).rows == rows[:2]


def test_a_path_that_was_not_measured_has_dashes():
    edge = replace(made_circuits.CIRCUIT.edges[0], effect=None, low=None, high=None)
    assert edge_table([edge]).rows[0][-2:] == ("–", "–")


def test_the_paths_of_each_group_are_listed_with_their_intervals():
    tables = path_tables(made_circuits.CIRCUIT)
    assert [table.title for table in tables] == [
        "mover: 2 paths, the strongest 5.1 to logits (0.50)",
        "inhibitor: 1 path, the strongest 3.0 to 5.1 (0.10)",
        "against: 2 paths, the strongest 4.2 to logits (−0.30)",
        "previous: 1 path, the strongest 1.1 to 3.0 (0.020)",
    ]
    assert tables[0].rows[0] == ("5.1", "logits", "direct", "end", "0.50", "0.40 to 0.60")
    assert tables[2].rows[1] == ("mlp 2", "3.0", "key", "S2", "0.030", "–")
