import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

import unweave as uw
from tests.views import made_circuits as made
from unweave.circuits.circuit import Circuit
from unweave.views.circuit.drawing import CircuitDrawing, Link, Node, circuit_drawing, group_colours
from unweave.views.circuit.layout import arrange_circuit
from unweave.views.circuit.paths import ends_of, evidence_of, ranked, told
from unweave.views.theme import NEUTRAL, PALETTE

PLACES = {"S2": [9, 9], "end": [12, 14], made.HOSTILE: [4, 5]}


class Titles(HTMLParser):
    """The texts that the drawing says of its parts, and every element's name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.titles: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        if tag == "title":
            self.titles.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "title" and not self.titles[-1]:
            self.titles[-1] = data


def drawing() -> CircuitDrawing:
    return circuit_drawing(made.CIRCUIT, places=PLACES)


def boxes(nodes: tuple[Node, ...], roles: tuple[str, ...] = ("S2", "end")):
    return arrange_circuit(nodes, roles)


def test_columns_are_roles_in_the_order_of_their_positions():
    assert drawing().roles == (made.HOSTILE, "S2", "end")
    assert circuit_drawing(made.CIRCUIT).roles == ("S2", made.HOSTILE, "end")


def test_a_head_at_two_roles_stands_in_both_columns():
    at = [(node.name, node.role) for node in drawing().nodes if node.name == "3.0"]
    assert at == [("3.0", "end"), ("3.0", "S2")]


def test_early_layers_stand_below_late_ones_and_the_logits_on_top():
    nodes = (Node("5.1", 5, "end"), Node("0.3", 0, "S2"), Node("logits", -1, "end"), Node("embed", -1, "S2"))
    placed = boxes(nodes)
    late, early, logits, embed = placed.boxes
    assert logits.y < late.y < early.y < embed.y
    assert [name for name, _ in placed.rows] == ["", "0", "5", ""]
    rows = sorted(y for _, y in placed.rows)
    assert len({round(b - a, 6) for a, b in pairwise(rows)}) == 1


def test_boxes_lie_within_the_drawing_and_do_not_overlap():
    nodes = (*(Node(f"7.{head}", 7, "end") for head in range(9)), Node("7.9", 7, "S2"))
    placed = boxes(nodes)
    spans = sorted((box.x - box.width / 2, box.x + box.width / 2) for box in placed.boxes)
    assert spans[0][0] > 0
    assert spans[-1][1] < placed.width
    assert all(first[1] < second[0] for first, second in pairwise(spans))


def test_paths_are_drawn_to_the_role_that_they_name():
    nodes = (Node("1.0", 1, "S2"), Node("1.0", 1, "end"), Node("4.0", 4, "S2"), Node("4.0", 4, "end"))
    placed = boxes(nodes)
    assert ends_of(Link("1.0", "4.0", "q", role="S2"), placed) == (0, 2)
    assert ends_of(Link("1.0", "4.0", "q", role="end"), placed) == (1, 3)
    # Values are read at S2 by the head that writes at end.
    assert ends_of(Link("1.0", "4.0", "v", role="S2"), placed) == (0, 3)
    assert ends_of(Link("1.0", "9.9"), placed) is None


def test_the_strongest_path_is_widest_and_drawn_last():
    text = drawing().html()
    widths = [float(width) for width in re.findall(r'class="line [a-z]+" d="[^"]*" stroke-width="([\d.]+)"', text)]
    assert widths == sorted(widths)
    assert widths[-1] > 3 * widths[0]
    ranks = [int(rank) for rank in re.findall(r'data-rank="(\d+)"', text)]
    assert ranks == sorted(ranks, reverse=True)


def test_signs_and_inputs_look_different():
    text = drawing().html()
    assert len(re.findall(r'class="line for"', text)) == 5
    assert len(re.findall(r'class="line against"', text)) == 1
    assert len(re.findall(r'class="line plain"', text)) == 1
    drawn = text[text.index('<g class="links">') : text.index('<g class="nodes">')]
    assert set(re.findall(r'stroke-dasharray="([^"]*)"', drawn)) == {"5 3", "1 3.5", "11 3"}


def test_evidence_is_in_the_markup_for_readers_without_scripts():
    found = Titles(circuit_drawing(made.CIRCUIT, evidence={"5.1": "direct 0.50"}).html()).titles
    assert "5.1 → logits at end: effect 0.50, interval 0.40 to 0.60" in found
    assert "3.0 → query of 5.1 at end: effect 0.10, interval 0.050 to 0.15" in found
    assert "mlp 2 → key of 3.0 at S2: effect 0.030" in found
    assert "embed → key of 1.1: not measured" in found
    assert "5.1, mover at end; direct 0.50; to logits 0.50; from 3.0 (q) 0.10" in found
    assert "logits; from 5.1 0.50, 4.2 −0.30, 5.0 0.20" in found


def test_long_lists_of_paths_are_cut():
    links = ranked([Link(f"0.{head}", "3.0", "v", 0.1 * head) for head in range(1, 8)])
    said = evidence_of(Node("3.0", 3, "end", "mover"), links, [(0, 0)] * 7)
    assert said == "3.0, mover at end; from 0.7 (v) 0.70, 0.6 (v) 0.60, 0.5 (v) 0.50, 0.4 (v) 0.40 and 3 more"


def test_texts_of_others_are_escaped_everywhere():
    hostile = made.HOSTILE
    circuit = replace(made.CIRCUIT, groups=(*made.CIRCUIT.groups, made.Group(hostile, ((0, 0),), ("end",))))
    shown = circuit_drawing(circuit, title=hostile, caption=hostile, evidence={"5.1": hostile})
    text = shown.html()
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    assert "script" not in Titles(text).tags
    coloured = replace(shown, colours={"mover": 'red"><script>'})
    assert "<script" not in coloured.html()


def test_the_title_says_what_is_drawn():
    assert "6 heads and MLPs in 4 groups, layers 1 to 5; the strongest of 7 paths is 5.1 to the logits (0.50)" in (
        drawing().html()
    )
    alone = CircuitDrawing((Node("5.1", 5, "end", "mover"),))
    assert "<h3>1 head in 1 group, layer 5</h3>" in alone.html()
    assert replace(alone, title="mine").html().count("mine") == 2


def test_groups_keep_their_colours_and_none_is_used_twice():
    names = [f"group {place}" for place in range(10)]
    colours = group_colours(names)
    assert list(colours.values()) == [*PALETTE, NEUTRAL, NEUTRAL]
    assert group_colours(names[:3]) == {name: colours[name] for name in names[:3]}
    assert 'style="--c:#123456"' in replace(drawing(), colours={"mover": "#123456"}).html()


def test_a_published_circuit_without_paths_is_drawn():
    published = Circuit.published("ioi-gpt2-small")
    (block,) = uw.show(published).blocks
    text = block.html()
    assert text.count('<g class="node"') == 26
    assert "26 heads in 7 groups, layers 0 to 11" in text
    assert 'class="link"' not in text
    assert len(Titles(text).titles) == 26


def test_a_path_without_an_effect_says_so():
    assert told(Link("1.0", "mlp 2")) == "1.0 → mlp 2: not measured"
    assert ranked([Link("a", "b"), Link("c", "d", effect=0.0)])[0].sender == "c"


def test_everywhere_is_a_column_of_its_own():
    circuit = made.Circuit((made.Group("mover", ((5, 1),)),))
    assert circuit_drawing(circuit).roles == ("all positions",)


def test_show_says_what_it_takes():
    with pytest.raises(uw.InputError, match="a circuit, a top or a block, got int"):
        uw.show(3)  # type: ignore[arg-type]
