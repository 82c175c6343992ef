"""Drawings and tables of circuits: where boxes and paths stand, what is said of them, what is escaped."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest

import unweave as uw
from tests.views import made_circuits as made
from tests.views.made_circuits import CIRCUIT
from unweave.circuits.circuit import Circuit, Group
from unweave.nodes import Edge, read_node
from unweave.views.circuit_drawing import CircuitDrawing, circuit_drawing, group_colours
from unweave.views.circuit_layout import Box, arrange_circuit, box_text, circuit_finding, ends_of, path_text, ranked
from unweave.views.circuit_tables import edge_table, group_table, path_tables
from unweave.views.theme import NEUTRAL, PALETTE

PLACES = {"S2": [9, 9], "end": [12, 14], made.HOSTILE: [4, 5]}
AT = ("S2", "end")


def drawing() -> CircuitDrawing:
    return circuit_drawing(CIRCUIT, places=PLACES)


def titles(text: str) -> list[str]:
    return re.findall("<title>([^<]*)</title>", text)


def box(name: str, role: str) -> Box:
    return Box(read_node(name), role)


def test_columns_are_roles_in_the_order_of_their_positions():
    assert drawing().roles == (made.HOSTILE, "S2", "end")
    assert circuit_drawing(CIRCUIT).roles == ("S2", made.HOSTILE, "end")
    assert circuit_drawing(Circuit((Group("mover", ((5, 1),)),))).roles == ("all positions",)


def test_early_layers_stand_below_late_ones_and_the_logits_on_top():
    names = ("5.1", "0.3", "logits", "embed")
    placed = arrange_circuit([box(name, role) for name, role in zip(names, AT[::-1] * 2, strict=True)], AT)
    late, early, logits, embed = placed.boxes
    assert logits.y < late.y < early.y < embed.y
    assert [name for name, _ in placed.rows] == ["", "0", "5", ""]
    rows = sorted(y for _, y in placed.rows)
    assert len({round(b - a, 6) for a, b in pairwise(rows)}) == 1


def test_boxes_lie_within_the_drawing_and_do_not_overlap():
    placed = arrange_circuit([*(box(f"7.{head}", "end") for head in range(9)), box("7.9", "S2")], AT)
    spans = sorted((one.x - one.width / 2, one.x + one.width / 2) for one in placed.boxes)
    assert spans[0][0] > 0
    assert spans[-1][1] < placed.width
    assert all(first[1] < second[0] for first, second in pairwise(spans))


def test_paths_are_drawn_to_the_role_that_they_name():
    boxes = arrange_circuit([box(name, role) for name in ("1.0", "4.0") for role in AT], AT).boxes
    assert ends_of(Edge("1.0", "4.0", "q", role="S2"), boxes) == (0, 2)
    assert ends_of(Edge("1.0", "4.0", "q", role="end"), boxes) == (1, 3)
    # Values are read at S2 by the head that writes at end.
    assert ends_of(Edge("1.0", "4.0", "v", role="S2"), boxes) == (0, 3)
    assert ends_of(Edge("1.0", "9.9"), boxes) is None


def test_the_strongest_path_is_widest_and_drawn_last_and_signs_and_inputs_look_different():
    text = drawing().html()
    widths = [float(width) for width in re.findall(r'class="line [a-z]+" d="[^"]*" stroke-width="([\d.]+)"', text)]
    assert widths == sorted(widths)
    assert widths[-1] > 3 * widths[0]
    ranks = [int(rank) for rank in re.findall(r'data-rank="(\d+)"', text)]
    assert ranks == sorted(ranks, reverse=True)
    assert [text.count(f'class="line {kind}" d') for kind in ("for", "against", "plain")] == [5, 1, 1]
    drawn = text[text.index('<g class="links">') : text.index('<g class="nodes">')]
    assert set(re.findall(r'stroke-dasharray="([^"]*)"', drawn)) == {"5 3", "1 3.5", "11 3"}


def test_evidence_is_in_the_markup_for_readers_without_scripts():
    found = titles(circuit_drawing(CIRCUIT, evidence={"5.1": "direct 0.50"}).html())
    assert "5.1 → logits at end: effect 0.50, interval 0.40 to 0.60" in found
    assert "3.0 → query of 5.1 at end: effect 0.10, interval 0.050 to 0.15" in found
    assert "mlp 2 → key of 3.0 at S2: effect 0.030" in found
    assert "embed → key of 1.1: not measured" in found
    assert "5.1, mover at end; direct 0.50; to logits 0.50; from 3.0 (q) 0.10" in found
    assert "logits; from 5.1 0.50, 4.2 −0.30, 5.0 0.20" in found
    # A head at two roles stands in both columns.
    assert {"3.0, inhibitor at end", "3.0, inhibitor at S2"} <= {text.partition(";")[0] for text in found}


def test_long_lists_of_paths_are_cut_and_what_was_not_measured_comes_last():
    edges = ranked([Edge(f"0.{head}", "3.0", "v", 0.1 * head) for head in range(1, 8)])
    said = box_text(replace(box("3.0", "end"), group="mover"), edges)
    assert said == "3.0, mover at end; from 0.7 (v) 0.70, 0.6 (v) 0.60, 0.5 (v) 0.50, 0.4 (v) 0.40 and 3 more"
    assert path_text(Edge("1.0", "mlp 2"), {}) == "1.0 → mlp 2: not measured"
    assert ranked([Edge("1.0", "2.0"), Edge("1.1", "2.0", effect=0.0)])[0].sender.short == "1.1"


def test_texts_of_others_are_escaped_everywhere():
    hostile = made.HOSTILE
    circuit = replace(CIRCUIT, groups=(*CIRCUIT.groups, Group(hostile, ((0, 0),), ("end",))))
    shown = circuit_drawing(circuit, title=hostile, caption=hostile, evidence={"5.1": hostile})
    assert "<script" not in shown.html()
    assert shown.html().count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    assert "<script" not in replace(shown, colours={"mover": 'red"><script>'}).html()


def test_the_title_says_what_is_drawn():
    assert drawing().title == (
        "6 heads and MLPs in 4 groups, layers 1 to 5; the strongest of 7 paths is 5.1 to the logits (0.50)"
    )
    alone = circuit_drawing(Circuit((Group("mover", ((5, 1),), ("end",)),)))
    assert "<h3>1 head in 1 group, layer 5</h3>" in alone.html()
    assert replace(alone, title="mine").html().count("mine") == 2


def test_groups_keep_their_colours_and_none_is_used_twice():
    names = [f"group {place}" for place in range(10)]
    colours = group_colours(names)
    assert list(colours.values()) == [*PALETTE, NEUTRAL, NEUTRAL]
    assert group_colours(names[:3]) == {name: colours[name] for name in names[:3]}
    assert 'style="--c:#123456"' in replace(drawing(), colours={"mover": "#123456"}).html()


def test_a_published_circuit_without_paths_is_drawn():
    (block,) = uw.show(Circuit.published("ioi-gpt2-small")).blocks
    text = block.html()
    assert text.count('<g class="node"') == len(titles(text)) == 26
    assert "26 heads in 7 groups, layers 0 to 11" in text
    assert 'class="link"' not in text
    with pytest.raises(uw.InputError, match="a circuit, a top or a block, got int"):
        uw.show(3)  # type: ignore[arg-type]


def test_a_row_for_each_group_with_its_heads_mlps_and_roles():
    assert group_table(CIRCUIT).rows[2:] == (
        ("against", "4.2, mlp 2", "end"),
        ("previous", "1.1", made.HOSTILE),
    )
    assert group_table(Circuit((Group("mover", ((5, 1),)),))).rows == (("mover", "5.1", "all positions"),)


def test_paths_stand_by_their_size_and_only_the_strongest_can_be_had():
    rows = edge_table(CIRCUIT.edges).rows
    assert [row[0] for row in rows] == ["5.1", "4.2", "5.0", "3.0", "mlp 2", "1.1", "embed"]
    assert edge_table(CIRCUIT.edges, n=2).rows == rows[:2]
    assert rows[-1][-2:] == ("–", "–")


def test_the_paths_of_each_group_are_listed_with_their_intervals():
    tables = path_tables(CIRCUIT)
    names = ["mover", "inhibitor", "against", "previous", "embeddings"]
    assert [table.title.partition(":")[0] for table in tables] == names
    assert tables[2].title == "against: 2 paths, the strongest 4.2 to logits (−0.30)"
    assert tables[0].rows[0] == ("5.1", "logits", "direct", "end", "0.50", "0.40 to 0.60")
    assert tables[2].rows[1] == ("mlp 2", "3.0", "key", "S2", "0.030", "–")


def test_a_circuit_of_edges_is_told_by_its_edges():
    ends = uw.Circuit((), (uw.Edge("embed", "logits", effect=0.5),), keeps="edges")
    assert circuit_finding(ends).startswith("1 edge of 0 heads and 0 MLPs")
    groups = (uw.Group("heads", ((2, 1),)), uw.Group("MLPs", (), "all", (0,)))
    edges = (uw.Edge("embed", "mlp 0", effect=0.2), uw.Edge("mlp 0", "2.1", "q", 0.4), uw.Edge("2.1", "logits"))
    said = circuit_finding(uw.Circuit(groups, edges, keeps="edges"))
    assert all(part in said for part in ("3 edges of 1 head and 1 MLP", "layers 0 to 2", "mlp 0 to 2.1 (0.40)"))
