import re

import numpy as np

from tests.views import made, made_circuits
from tests.views.drawn import layout, said, traces
from unweave.results import summary
from unweave.views.blocks import Figure
from unweave.views.captions import finding, leaders
from unweave.views.knockouts import (
    attribution_change_finding,
    backup_finding,
    backup_table,
    prediction_table,
)
from unweave.views.pictures import blocks_of


def test_what_the_others_write_then_leaves_out_the_heads_that_are_gone():
    moved = attribution_change_finding(made_circuits.attribution())
    assert re.findall(r"[\d.]+", moved) == ["5.1", "4.00", "3.50", "4.2", "1.00"]
    still = attribution_change_finding(made_circuits.attribution({}))
    assert "; no other head changes by much: " in still


def test_before_and_after_stand_side_by_side_and_against_each_other():
    panels, both = blocks_of(made_circuits.attribution())
    assert isinstance(panels, Figure)
    assert isinstance(both, Figure)
    assert len(traces(panels.figure, "heatmap")) == 3
    assert layout(both.figure).xaxis.title.text == "contribution before (logits)"
    assert layout(both.figure).yaxis.title.text == "contribution after (logits)"
    assert {trace.name for trace in traces(both.figure, "scatter")} >= {"knocked out", "other"}
    assert re.findall(r"[\d.]+", both.title) == ["1.00", "0.10", "0.97"]


def test_a_scale_that_works_the_other_way_is_said():
    _, both = blocks_of(made_circuits.attribution(scale=-0.2))
    assert "though −0.20" in both.title  # type: ignore[attr-defined]


def test_backups_are_named_and_heads_that_oppose_less():
    result = made_circuits.backup({(4, 2): 0.2, (5, 2): 0.1}, "5.2", "4.2")
    found = said(backup_finding(result))
    assert found.startswith("Without 5.1, 5.2 (0.40 logits) makes up for it; all others gain 1.20 logits")
    rows = backup_table(result).rows
    assert [(row[0], row[1], said(row[2])) for row in rows] == [
        ("4.2", "works against it less", "0.80"),
        ("5.2", "makes up for it", "0.40"),
    ]


def test_without_backups_the_others_joint_gain_is_told_with_its_interval():
    weakened = said(backup_finding(made_circuits.backup({(4, 2): 0.2}, "", "4.2")))
    assert re.match(r"No single head makes up for 5.1; 4.2 \(0.80\) .*; all others gain 0.80", weakened)
    assert "not significant" not in weakened
    nothing = made_circuits.backup({})
    nothing -= nothing.sum(("layer", "head")).mean() / nothing[0].size  # the sum of all is chance
    found = backup_finding(nothing)
    assert found.startswith("No single head makes up for 5.1; all others ")
    assert found.endswith(", not significantly different from 0")


def test_the_largest_is_named_also_where_it_may_be_chance():
    result = made.heads({(5, 1): -0.5, (4, 2): 0.3}, direction="noise", method="knockout", how="mean", site="z")
    wild = result.copy()
    wild[:, 2, 0] += np.where(np.arange(wild.sizes["prompt"]) == 0, 0.4 * wild.sizes["prompt"], 0.0)
    found = leaders(summary(wild), sign=-1)
    assert [row.label for row in (*found.helping, *found.against)] == ["5.1", "4.2"]
    (row,) = found.unsure
    assert row.label == "2.0"
    assert row.mean > found.against[0].mean
    assert "2.0" in finding(summary(wild))
    assert leaders(summary(result), sign=-1).unsure == ()


def test_the_prediction_stands_beside_what_came_true():
    table = prediction_table(made_circuits.backup({(5, 2): 0.1}, "5.2"))
    assert "0.90 more" in table.title
    assert [row[:2] for row in table.rows] == [
        ("with all heads", "4.00"),
        ("of it, by 5.1", "2.00"),
        ("to be expected without", "2.00"),
        ("without", "2.90"),
        ("others' growth together", "0.40"),
        ("more than expected", "0.90"),
    ]


def test_the_change_is_not_altered_by_its_title():
    result = made_circuits.attribution()
    before = result.values.copy()
    attribution_change_finding(result)
    assert np.array_equal(result.values, before)
