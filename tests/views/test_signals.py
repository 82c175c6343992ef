import numpy as np
import pytest

from tests.views import made_circuits as made
from tests.views.drawn import traces
from unweave.views.blocks import Figure, Table
from unweave.views.head_pictures import signal_finding, signal_table
from unweave.views.pictures import blocks_of


@pytest.mark.parametrize(
    ("position", "token", "expected"),
    [
        (2.0, 0.3, "The 2 heads together carry the position of the subject rather than its token: full range 2.00"),
        (0.3, 2.0, "The 2 heads together carry the token of the subject rather than its position: full range 2.00"),
        (2.0, 1.5, "The 2 heads together carry both, the position of the subject more than its token: "),
    ],
)
def test_what_is_carried_follows_the_numbers(position: float, token: float, expected: str):
    assert signal_finding(made.signals(position, token)).startswith(expected)


def test_heads_that_do_not_matter_by_themselves_are_not_named():
    result = made.signals(2.0, 0.3, ("3.0", "4.2", "5.1"))
    assert all(name in signal_finding(result) for name in ("3.0", "4.2", "5.1"))
    full = result["full_range"].copy()
    full.loc[{"address": "4.2"}] *= 0.01  # significant and small
    full.loc[{"address": "5.1"}] -= full.sel(address="5.1").mean("prompt")  # chance
    found = signal_finding(result.assign(full_range=full))
    assert found.startswith("The 3 heads together carry the position")
    assert [name in found for name in ("3.0", "4.2", "5.1")] == [True, False, False]


def test_neither_is_said_where_neither_is_told_from_zero():
    result = made.signals(0.0, 0.0)
    noise = np.random.default_rng(0).normal(size=result["full_range"].shape)
    result["full_range"] = result["full_range"].copy(data=noise - noise.mean(0))
    assert "neither position nor token" in signal_finding(result)


def test_one_head_is_named():
    assert signal_finding(made.signals(2.0, 0.3, ("3.0",))).startswith("3.0 carries the position")


def test_the_table_has_both_effects_of_every_head():
    table = signal_table(made.signals(2.0, 0.3))
    assert [row[0] for row in table.rows] == ["all at once", "3.0", "4.2"]
    assert table.rows[0][1] == "2.00"
    assert table.rows[0][3] == "0.30"


def test_six_cells_are_written_for_all_heads_and_for_each():
    whole, table, each = blocks_of(made.signals(2.0, 0.4))
    assert isinstance(whole, Figure)
    assert isinstance(table, Table)
    assert isinstance(each, Figure)
    (cells,) = traces(whole.figure, "heatmap")
    assert np.asarray(cells.text).shape == (3, 2)
    assert cells.text[0][0] == "2.20"
    assert cells.text[2][1] == "−0.20"
    assert len(traces(each.figure, "heatmap")) == 2
