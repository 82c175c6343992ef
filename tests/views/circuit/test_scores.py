import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.views import made_circuits as made
from tests.views.drawn import layout, traces
from unweave.views import theme
from unweave.views.blocks import Details, Figure, Table
from unweave.views.circuit.facts import group_facts, score_facts
from unweave.views.circuit.scores import (
    completeness_scatter,
    completeness_table,
    faithfulness_table,
    minimality_bars,
)
from unweave.views.circuit.titles import completeness_finding, faithfulness_finding, minimality_finding
from unweave.views.wording import SPACE


def said(text: str) -> str:
    return text.replace(SPACE, " ")


def test_faithfulness_names_share_interval_and_random_circuits():
    assert said(faithfulness_finding(made.faithfulness())) == (
        "Alone, the circuit's 5 of 18 heads give 80 % of the model's logit difference "
        "(F(C) 3.20, F(M) 4.00, 70 % to 90 %); as many random heads give −3.0 % to 5.0 %"
    )


def test_a_circuit_no_better_than_random_heads_says_so():
    assert said(faithfulness_finding(made.faithfulness(0.1, (0.2, 0.0)))).endswith(
        ": no more than random heads (0 % to 20 %)"
    )


def test_a_circuit_no_better_than_no_head_says_so():
    table = made.faithfulness(0.16, (0.05, 0.14))
    table["ratio"][2] = 0.25
    assert said(faithfulness_finding(table)).endswith(
        ": no more than no head at all (25 %; random heads 5.0 % to 14 %)"
    )
    (fact,) = score_facts([table])
    assert said(fact.note).endswith("random heads at most 14 %; no head 25 %")
    assert "no head" not in score_facts([made.faithfulness()])[0].note


def test_faithfulness_is_not_clamped():
    assert "give 130 % of the model's" in said(faithfulness_finding(made.faithfulness(1.3)))
    assert "give −20 % of the model's" in said(faithfulness_finding(made.faithfulness(-0.2)))


def test_one_prompt_has_no_interval():
    single = made.faithfulness(n_prompts=1, randoms=())
    assert said(faithfulness_finding(single)).endswith("(F(C) 3.20, F(M) 4.00)")
    table = faithfulness_table(single)
    assert table.rows[1][-1] == "–"
    assert "One prompt: no interval." in table.caption


def test_the_table_of_faithfulness_has_both_measures_and_the_controls():
    table = faithfulness_table(made.faithfulness())
    assert [row[0] for row in table.rows] == ["the model", "the circuit", "no head", "random 1", "random 2"]
    assert table.rows[1][1:] == ("5", "3.20", "0.80", "0.70 to 0.90", "0.80", "0.70 to 0.90")
    assert "mean by template" in table.caption


def test_completeness_names_the_widest_gap():
    assert completeness_finding(made.completeness()) == (
        "Without the same heads K, circuit and model are 0.78 apart on average over 9 sets K, "
        "and 2.00 at worst (5.1, 5.0 and 3.0), of F(M) 4.00"
    )


def test_each_kind_of_set_has_its_sign_and_the_line_is_drawn():
    figure = completeness_scatter(made.completeness())
    line, *kinds = traces(figure)
    assert list(line.x) == list(line.y)
    assert [trace.name for trace in kinds] == ["nothing", "a group", "random heads", "found by greedy search"]
    assert len({trace.marker.symbol for trace in kinds}) == 4
    greedy = kinds[-1]
    assert np.allclose(greedy.x, [0.5])
    assert np.allclose(greedy.y, [2.5])
    assert tuple(greedy.customdata[0]) == ("greedy 1", "5.1 5.0 3.0", "−2.00", "−2.20 to −1.80")
    assert list(layout(figure).xaxis.range) == list(layout(figure).yaxis.range)


def test_hostile_names_of_groups_are_escaped_in_the_figures():
    hostile = [made.HOSTILE if label == "mover" else label for label in made.completeness()["removed"].values]
    figure = completeness_scatter(made.completeness().assign_coords(removed=hostile))
    assert "<script>" not in str(figure.to_json()).replace("\\u003c", "<")
    groups = [made.HOSTILE, *made.GROUPS[1:]]
    bars = minimality_bars(made.minimality().assign_coords(group=("address", groups)))
    assert "<script>" not in str(bars.to_json()).replace("\\u003c", "<")


def test_every_set_is_listed_with_its_heads():
    table = completeness_table(made.completeness())
    assert table.rows[0] == ("none", "–", "3.20", "4.00", "−0.80", "−1.00 to −0.60")
    assert table.rows[-1][:2] == ("greedy 1", "5.1 5.0 3.0")


def test_minimality_counts_heads_told_from_zero():
    assert said(minimality_finding(made.minimality())) == (
        "4 of 5 heads told from 0 by their interval: 5.1 changes F most, by 50 % of F(M), 1.1 least, by 0.4 %"
    )


def test_bars_are_coloured_by_group_and_pale_where_unsure():
    figure = minimality_bars(made.minimality())
    bars = {trace.name: trace for trace in traces(figure, "bar")}
    assert list(bars) == ["mover", "inhibitor", "against", "previous"]
    assert bars["mover"].marker.color == theme.PALETTE[0]
    assert np.allclose(bars["mover"].x, [0.5, 0.2])
    assert np.allclose(bars["against"].x, [-0.15])
    assert list(bars["previous"].marker.opacity) == [0.35]
    assert list(bars["mover"].marker.opacity) == [0.95, 0.95]
    assert layout(figure).xaxis.tickformat == ".0%"
    assert minimality_bars(made.minimality(), colours={"mover": "#111111"}).data[0].marker.color == "#111111"


def test_an_evaluation_is_shown_test_by_test():
    blocks = uw.show(made.evaluation()).blocks
    assert [type(block) for block in blocks] == [Table, Figure, Details, Figure]
    assert uw.show(made.evaluation(), title="mine").blocks[0].title == "mine"  # type: ignore[attr-defined]


def test_the_headlines_of_a_report_hold_all_three_numbers():
    tests = [child.to_dataset() for child in made.evaluation().children.values()]
    facts = score_facts(tests)
    assert [said(fact.value) for fact in facts] == ["80 %", "0.78", "4"]
    assert said(facts[0].note) == "70 % to 90 %; 5 of 18 heads; random heads at most 5.0 %"
    assert "2.00 at worst" in facts[1].note
    assert said(facts[2].note) == "of 5 heads; the least, 1.1, changes F by 0.4 % (−4.6 % to 5.4 %)"
    assert score_facts([xr.DataArray(np.zeros(3))]) == ()


def test_each_group_has_its_line():
    facts = group_facts(made.CIRCUIT)
    assert [(fact.label, fact.value, fact.note) for fact in facts[:3]] == [
        ("mover", "2 heads: 5.1 and 5.0", "at end"),
        ("inhibitor", "1 head: 3.0", "at end and S2"),
        ("against", "1 head: 4.2; 1 MLP: 2", "at end"),
    ]
    many = made.Circuit((made.Group("many", tuple((0, head) for head in range(9))),))
    assert group_facts(many)[0].value == "9 heads: 0.0, 0.1, 0.2, 0.3, 0.4, 0.5 and others"


@pytest.mark.parametrize("name", ["faithfulness", "completeness", "minimality"])
def test_tests_are_found_by_their_method(name: str):
    table = made.evaluation()[name].to_dataset()
    assert table.attrs["method"] == name
    assert uw.show(table).blocks
