import re

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.views import made_circuits as made
from tests.views.drawn import layout, said, traces
from unweave.views import theme
from unweave.views.blocks import Details, Figure, Table
from unweave.views.circuit_tables import group_facts, score_facts
from unweave.views.evaluation_findings import (
    completeness_finding,
    controls_said,
    curve_finding,
    fails,
    faithfulness_finding,
    minimality_counts,
    minimality_finding,
)
from unweave.views.evaluation_pictures import (
    completeness_scatter,
    completeness_table,
    control_table,
    curve_lines,
    faithfulness_table,
    minimality_bars,
)
from unweave.views.wording import SPACE


def numbers(text: str) -> list[str]:
    """The shares in a sentence."""
    return re.findall(r"−?[\d.]+ %", said(text))


def lower(table: xr.Dataset) -> xr.Dataset:
    """The same test of a metric that is good where it is low: scores turned around 4."""
    scores = {name: 4 - table[name] for name in table.data_vars}
    return table.assign(scores).assign_attrs(better="lower", metric="cross-entropy")


def test_faithfulness_names_share_interval_floor_and_random_circuits():
    text = faithfulness_finding(made.faithfulness())
    assert "5 of 18 heads" in text
    assert "F(C) 3.20, F(M) 4.00" in text
    assert numbers(text) == [
        "80 %",
        "70 %",
        "90 %",
        "0 %",
        "−10 %",
        "10 %",
        "80 %",
        "70 %",
        "90 %",
        "1.0 %",
        "−3.0 %",
        "5.0 %",
    ]


def test_random_circuits_have_a_median_and_a_range_and_the_circuit_its_place():
    randoms = (0.9, -0.26, 0.2, 0.22, 0.75)
    for table in (made.faithfulness(0.8, randoms), lower(made.faithfulness(0.8, randoms))):
        text = controls_said(table)
        assert numbers(text) == ["22 %", "−26 %", "90 %"]
        assert "better than 4 of 5" in text
    assert controls_said(made.faithfulness(randoms=())) == ""
    assert numbers(controls_said(made.faithfulness(randoms=(0.3,)))) == ["30 %"]


def test_a_circuit_no_better_than_no_head_says_so():
    table = made.faithfulness(0.16, (0.05, 0.14))
    table["score"][:, 2] = 1.0
    table["ratio"][2] = 0.25
    assert "no better than no head" in faithfulness_finding(table)
    assert "no better than no head" in score_facts([table])[0].note
    assert "no better" not in faithfulness_finding(made.faithfulness())


def test_where_less_is_better_shares_are_of_the_way_from_no_head():
    table = lower(made.faithfulness())
    text = faithfulness_finding(table)
    assert "0.80" in text
    assert "no head gives 4.00" in text
    assert numbers(text)[0] == "80 %"
    assert score_facts([table])[0].value == f"80{SPACE}%"


def test_faithfulness_is_not_clamped():
    assert numbers(faithfulness_finding(made.faithfulness(1.3)))[0] == "130 %"
    assert numbers(faithfulness_finding(made.faithfulness(-0.2)))[0] == "−20 %"


def test_one_prompt_has_no_interval():
    single = made.faithfulness(n_prompts=1, randoms=())
    assert numbers(faithfulness_finding(single)) == ["80 %", "0 %", "80 %"]
    table = faithfulness_table(single)
    assert table.rows[1][-1] == "–"
    assert "One prompt: no interval." in table.caption


def test_the_table_of_faithfulness_has_all_measures_and_the_controls():
    table = faithfulness_table(made.faithfulness())
    assert [row[0] for row in table.rows[:3]] == ["the model", "the circuit", "no head"]
    assert table.rows[1][1:7] == ("5", "3.20", "0.80", "0.70 to 0.90", "0.80", "0.70 to 0.90")
    assert "2 random circuits" in table.rows[3][0]
    assert table.rows[3][5:7] == ("0.010", "−0.030 to 0.050")
    assert "mean by template" in table.caption
    assert [row[0] for row in control_table(made.faithfulness()).rows] == ["random 1", "random 2"]


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_curve_names_the_best_head_the_best_few_and_the_rest(better: str):
    text = curve_finding(made.curve(better))
    scale = 1.0 if better == "higher" else 0.8
    shares = [f"{100 * share / scale:.0f} %" for share in (0.5, 0.8, 0.8, 0.32)]
    found = numbers(text)
    assert [found[0], *found[-3:]] == shares
    assert text.startswith("5.1 ")
    (fact,) = score_facts([made.curve(better)])
    assert "12 prompts" in fact.note
    assert "8" in fact.note
    figure = curve_lines(made.curve(better))
    named = [trace for trace in traces(figure, "scatter") if trace.mode == "lines+markers"]
    np.testing.assert_allclose(named[0].y, np.array([0, 0.5, 0.7, 0.8, 0.7, 0.8]) / scale)
    np.testing.assert_allclose(named[1].y, np.array([0.8, 0.32, 0.1, 0.1, 0, 0]) / scale)
    assert list(named[0].x)[:2] == ["no head", "1: +5.1"]


def test_curves_of_one_head():
    text = curve_finding(made.curve().isel(size=[0, 1]))
    assert numbers(text)[0] == "50 %"
    assert "without" not in text


def test_completeness_fails_at_the_widest_gap_and_says_so():
    text = completeness_finding(made.completeness())
    assert text.startswith("Not complete")
    assert f"for {fails(made.completeness()).sum()} of 9 sets K" in text
    assert "5.1, 5.0 and 3.0" in text
    assert "0.50" in text
    assert "2.50" in text
    assert score_facts([made.completeness()])[0].value == "not complete"


def test_what_is_within_the_interval_or_small_is_no_failure():
    table = made.completeness()
    wide = table.assign_coords(difference_low=table["difference"] - 3, difference_high=table["difference"] + 3)
    small = table.assign_coords(gap=table["gap"] / 100)
    for each in (wide, small):
        assert not fails(each).any()
        assert "Not complete" not in completeness_finding(each)
        assert score_facts([each])[0].value != "not complete"
    failed = dict(zip(table["removed"].values.tolist(), fails(table), strict=True))
    assert (failed["greedy 1"], failed["mover"], failed["inhibitor"]) == (True, True, False)


def test_each_kind_of_set_has_its_sign_and_the_line_is_drawn():
    figure = completeness_scatter(made.completeness()).figure
    line, *kinds = traces(figure)
    assert list(line.x) == list(line.y)
    assert [trace.name for trace in kinds] == ["nothing", "a group", "random heads", "found by greedy search"]
    assert len({trace.marker.symbol for trace in kinds}) == 4
    greedy = kinds[-1]
    assert np.allclose(greedy.x, [0.5])
    assert np.allclose(greedy.y, [2.5])
    assert greedy.customdata[0] == "greedy 1"
    assert list(layout(figure).xaxis.range) == list(layout(figure).yaxis.range)


def test_hostile_names_of_groups_are_escaped_in_the_figures():
    hostile = [made.HOSTILE if label == "mover" else label for label in made.completeness()["removed"].values]
    table = made.completeness().assign_coords(removed=hostile)
    members = dict(zip(hostile, table.attrs["members"].values(), strict=True))
    figure = completeness_scatter(table.assign_attrs(members=members)).figure
    assert "<script>" not in str(figure.to_json()).replace("\\u003c", "<")
    groups = [made.HOSTILE, *made.GROUPS[1:]]
    bars = minimality_bars(made.minimality().assign_coords(group=("address", groups)))
    assert "<script>" not in str(bars.to_json()).replace("\\u003c", "<")


def test_every_set_is_listed_with_its_heads():
    table = completeness_table(made.completeness())
    assert table.rows[0] == ("none", "–", "3.20", "4.00", "−0.80", "−1.00 to −0.60")
    assert table.rows[-1][:2] == ("greedy 1", "5.1 5.0 3.0")


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_minimality_counts_heads_that_help_and_those_that_work_against(better: str):
    table = made.minimality().assign_attrs(better=better)
    assert minimality_counts(table) == ((3, 1) if better == "higher" else (1, 3))
    text = said(minimality_finding(table))
    assert "4 of 5 heads" in text
    assert "3 helping and 1 working" in text if better == "higher" else "1 helping and 3 working" in text
    assert "5.1 changes F most, by 50 % of F(M) (2.00" in text
    assert "1.1 least, by 0.4 %" in text


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
    assert [type(block) for block in blocks] == [Table, Details, Figure, Figure, Details, Figure]
    assert uw.show(made.evaluation(), title="mine").blocks[0].title == "mine"  # type: ignore[attr-defined]


def test_the_headlines_of_a_report_hold_all_tests():
    tests = [child.to_dataset() for child in made.evaluation().children.values()]
    facts = {fact.label: fact for fact in score_facts(tests)}
    assert [said(fact.value) for fact in facts.values() if fact.headline] == ["80 %", "not complete", "4"]
    assert "5 of 18 heads" in facts["faithfulness, F(C) / F(M)"].note
    assert numbers(facts["negative control"].value) == ["1.0 %", "−3.0 %", "5.0 %"]
    assert "3 help and 1" in facts["heads that matter"].note
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


def test_groups_that_work_against_the_answer_say_so():
    against = made.Circuit((made.Group("level 1 against @end", ((5, 1),), ("end",)),))
    (fact,) = group_facts(against, {"level 1": ("acts", "act")})
    assert fact.value == "1 head acts, against the answer: 5.1"


@pytest.mark.parametrize("name", ["faithfulness", "curve", "completeness", "minimality"])
def test_tests_are_found_by_their_method(name: str):
    table = made.evaluation()[name].to_dataset()
    assert table.attrs["method"].endswith(name)
    assert uw.show(table).blocks
