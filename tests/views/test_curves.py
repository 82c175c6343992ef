"""Curves of edge circuits: f by hand, areas, several side by side, and what has no scale."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.tiny import tiny_model, tiny_pair
from tests.views import made
from tests.views.drawn import layout, traces
from unweave.results import summary
from unweave.views.blocks import Details, Figure, Table, Text
from unweave.views.curve_pictures import curve_names
from unweave.views.pictures import blocks_of, together

SHARES = [0.01, 0.1, 0.5, 1.0]
F = [0.2, 0.6, 1.2, 1.0]
# Trapezoids of f, and of |1 - f|, over these shares.
CPR = 0.09 * 0.4 + 0.4 * 0.9 + 0.5 * 1.1
CMD = 0.09 * 0.6 + 0.4 * 0.3 + 0.5 * 0.1


def curve(f: list[float] = F, whole: float = 6.0, none: float = -2.0, **attrs: Any) -> xr.DataArray:
    """Scores `[prompt, share]` whose f is given, as `uw.curve` labels them."""
    cells = {(share,): none + (whole - none) * each for share, each in zip(SHARES, f, strict=True)}
    says = {"method": "edge curve", "quantity": "logit difference", "by": "size", "dead_ends": "left out"}
    says |= {"ablated": "the other prompt's values", "zero": "", "one": "", "cpr": CPR, "cpr_low": 0.8, "cpr_high": 1.0}
    says |= {"cmd": CMD, "cmd_low": 0.1, "cmd_high": 0.3}
    found = made.result({"share": SHARES}, cells, **{**says, **attrs})
    spread = np.linspace(-0.3, 0.3, made.N_PROMPTS)
    ends = {"none": ("prompt", none + spread), "whole": ("prompt", whole + 2 * spread)}
    counts = {"asked": ("share", [10, 100, 500, 1000]), "kept": ("share", [7, 90, 500, 1000])}
    return found.assign_coords({**ends, **counts})


def figure_of(result: Any) -> Figure:
    (found,) = [block for block in blocks_of(result) if isinstance(block, Figure)]
    return found


def drawn_lines(figure: Figure) -> list[Any]:
    return [trace for trace in traces(figure.figure) if trace.mode == "lines+markers"]


@pytest.mark.parametrize(("whole", "none"), [(6.0, -2.0), (0.5, 3.0)])
def test_f_goes_from_no_edge_to_all_whatever_is_good(whole: float, none: float):
    (line,) = drawn_lines(figure_of(curve(whole=whole, none=none)))
    np.testing.assert_allclose(line.x, SHARES)
    np.testing.assert_allclose(line.y, F, atol=1e-6)
    low, high = np.array(line.customdata)[:, :2].T
    assert (low < F).all()
    assert (high > F).all()


def test_the_axis_is_logarithmic_and_0_and_1_are_marked():
    figure = figure_of(curve()).figure
    assert layout(figure).xaxis.type == "log"
    assert sorted(shape.y0 for shape in layout(figure).shapes) == [0, 1]


def test_title_and_table_have_the_areas_with_their_intervals():
    blocks = blocks_of(curve())
    (table,) = [block for block in blocks if isinstance(block, Table)]
    assert [(row[0], *row[2:]) for row in table.rows] == [("by size", "0.22 (0.10 to 0.30)", "0.95 (0.80 to 1.00)")]
    title = figure_of(curve()).title
    assert all(said in title for said in ("(500)", "120", *table.rows[0][2:]))


def test_a_slice_has_areas_of_its_own_without_the_intervals_of_the_whole():
    half = curve().isel(share=slice(2))
    (table,) = [block for block in blocks_of(half) if isinstance(block, Table)]
    assert [(row[0], *row[2:]) for row in table.rows] == [("by size", "0.054", "0.036")]


def test_every_point_is_listed():
    details = blocks_of(curve())[-1]
    assert isinstance(details, Details)
    (table,) = details.blocks
    assert isinstance(table, Table)
    assert [row[2:4] for row in table.rows] == [("10", "7"), ("100", "90"), ("500", "500"), ("1000", "1000")]
    assert [row[5] for row in table.rows] == ["0.20", "0.60", "1.20", "1.00"]


def test_curves_of_one_contrast_share_a_figure_and_are_told_apart():
    size, greedy = curve(), curve([0.1, 0.2, 0.5, 1.0], by="greedy")
    chance = curve([0.0, 0.0, 0.1, 1.0]).rename("random edges")
    view = uw.show([size, greedy, chance])
    (figure,) = [block for block in view.blocks if isinstance(block, Figure)]
    assert [line.name for line in drawn_lines(figure)] == ["by size", "by greedy", "random edges"]
    order = [figure.title.index(name) for name in ("by size", "by greedy", "random edges")]
    assert order == sorted(order)
    named = uw.show({"verified": size, "random": chance})
    (figure,) = [block for block in named.blocks if isinstance(block, Figure)]
    assert [line.name for line in drawn_lines(figure)] == ["verified", "random"]


def test_areas_over_other_shares_are_not_compared():
    some = curve().isel(share=slice(2, None)).rename("some")
    view = uw.show([curve(), some])
    (figure,) = [block for block in view.blocks if isinstance(block, Figure)]
    assert "CMD" not in figure.title
    assert "By size" in figure.title
    (table,) = [block for block in view.blocks if isinstance(block, Table)]
    assert table.rows[0][1] != table.rows[1][1]


def test_names_are_never_the_same_twice():
    assert curve_names([curve(), curve(), curve()]) == ["by size", "by size (2)", "by size (3)"]
    others = curve_names([curve(), curve(ablated="zero")])
    assert others == ["the other prompt's values", "zero"]


def test_what_cannot_share_a_figure_stands_alone():
    other, heads = curve(task="another"), made.heads()
    groups = [len(group) for _, group in together([curve(), heads, curve(by="signed"), other, heads])]
    assert groups == [2, 1, 1, 1]
    assert len(together([curve(), curve().sel(share=0.1)])) == 2


def test_a_report_draws_them_together(tmp_path):
    path = uw.report([curve(), curve(by="greedy"), made.heads()], tmp_path / "page.html")
    text = path.read_text()
    assert text.count("Every point") == 1
    assert "Is the circuit enough?" in text


@pytest.mark.parametrize("part", [lambda result: result.mean("prompt"), summary])
def test_what_no_longer_knows_its_ends_is_drawn_as_scores(part: Any):
    (line,) = drawn_lines(figure_of(part(curve())))
    np.testing.assert_allclose(line.y, np.array(F) * 8 - 2, atol=1e-6)


@pytest.mark.parametrize("part", [lambda result: result.isel(prompt=0), lambda result: result.isel(prompt=[0, 3])])
def test_some_of_the_prompts_are_drawn(part: Any):
    (line,) = drawn_lines(figure_of(part(curve())))
    assert len(line.y) == len(SHARES)
    assert np.isfinite(line.y).all()


def test_a_curve_without_a_gap_says_so():
    (block,) = blocks_of(curve(whole=1.0, none=1.0))
    assert isinstance(block, Text)


def test_what_the_method_returns_is_drawn():
    pair = tiny_pair(tiny_model("llama"))
    edges = uw.edges(pair, "gradient", progress=False)
    found = uw.curve(pair, edges, [0.1, 0.5, 1.0], progress=False)
    (line,) = drawn_lines(figure_of(found))
    gap = float(found["whole"].mean() - found["none"].mean())
    np.testing.assert_allclose(line.y, (found.mean("prompt") - found["none"].mean()) / gap, rtol=1e-6)
    assert line.y[-1] == pytest.approx(1.0)
    (table,) = [block for block in blocks_of(found) if isinstance(block, Table)]
    # Three prompts whose gap has either sign: the interval has no end, and is left out.
    assert table.rows[0][2:] == (f"{found.attrs['cmd']:.2f}", f"{found.attrs['cpr']:.2f}")
