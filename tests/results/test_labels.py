"""Cells and numbers as people write them."""

import math

import pytest

from unweave.results.labels import cell_label, number, p_value


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"layer": 23, "head": 3}, "23.3"),
        ({"layer": 23, "kv_head": 1}, "23.kv1"),
        ({"layer": 4, "neuron": 130}, "4.n130"),
        ({"layer": 5, "pos": 7}, "layer 5 @ 7"),
        ({"layer": 5, "role": "S1+1"}, "layer 5 @ S1+1"),
        ({"layer": 5, "part": "attn"}, "layer 5 attn"),
        ({"layer": 9, "head": 0, "role": "end"}, "9.0 @ end"),
        ({"layer": 9, "head": 0, "q_pos": 12}, "9.0 @ 12"),
        ({"layer": 9, "head": 0, "q_pos": 12, "k_pos": 4}, "9.0 @ 12 ← 4"),
        ({"address": "resid_pre 3 @S2"}, "resid_pre 3 @S2"),
        ({"component": "0_attn"}, "0_attn"),
        ({"stage": "final"}, "final"),
        ({"fold": 2}, "fold 2"),
        ({"pos": 4}, "4"),
        ({"role": "S2"}, "S2"),
        ({"q_pos": 12, "k_pos": 4}, "12 ← 4"),
        ({"k_pos": 4}, "← 4"),
        ({}, "all"),
    ],
)
def test_cells(where: dict, expected: str) -> None:
    assert cell_label(where) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5134, "0.51"),
        (-0.24, "−0.24"),
        (0.0312, "0.031"),
        (0.0031, "0.0031"),
        (-0.00000123, "−1e−06"),
        (0.0, "0"),
        (4.716, "4.72"),
        (1234.5, "1234"),
        (math.nan, "–"),
    ],
)
def test_numbers(value: float, expected: str) -> None:
    assert number(value) == expected


def test_p_values() -> None:
    assert [p_value(p) for p in (0.0312, 1.0, 0.001, 0.0009, math.nan)] == [
        "p = 0.031",
        "p = 1",
        "p = 0.001",
        "p < 0.001",
        "no p",
    ]
