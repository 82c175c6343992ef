"""Comparisons of results as tables and pictures."""

import numpy as np
import pytest
import xarray as xr

import unweave as uw
from tests.views import made
from unweave.views.blocks import Details, Figure, Table
from unweave.views.pictures import blocks_of


def shares() -> xr.DataArray:
    """Of nine heads two are in all samples, one in 90 %, one in 60 %, one in 10 %."""
    values = np.zeros((3, 3))
    values[0] = [1.0, 1.0, 0.9]
    values[1, :2] = [0.6, 0.1]
    attrs = {
        "method": "stability",
        "jaccard": 0.7,
        "n": 4,
        "draws": 10,
        "quantity": "share of samples",
        "unit": "share",
    }
    return xr.DataArray(values, dims=("layer", "head"), coords={"layer": range(3), "head": range(3)}, attrs=attrs)


def test_stability_is_told_in_bands_with_its_jaccard_index():
    table, details, *pictures = blocks_of(shares())
    assert isinstance(table, Table)
    assert [row[1] for row in table.rows] == ["2", "1", "1", "1"]
    assert table.rows[2][2] == "1.0"
    assert all(said in table.title for said in ("2 cells", "4 largest", "4 in at least half", "0.70"))
    assert isinstance(details, Details)
    assert any(isinstance(block, Figure) for block in pictures)


def test_stability_of_a_result_is_a_table_of_its_cells():
    result = made.result(
        {"address": [f"z 1.{head}" for head in range(6)]}, {("z 1.3",): 0.5, ("z 1.1",): -0.4}, noise=0.01
    )
    table, details = blocks_of(uw.stability(result, n=2))
    assert isinstance(table, Table)
    assert table.rows[0][:2] == ("every one", "2")
    assert sum(int(row[1]) for row in table.rows[1:]) == 0
    assert isinstance(details, Details)
    (listing,) = details.blocks
    assert isinstance(listing, Table)
    assert {row[0] for row in listing.rows} == {"z 1.3", "z 1.1"}
    assert len(blocks_of(uw.stability(result, n=2).isel(address=slice(2)))) == 2


def test_comparisons_and_agreements_are_tables():
    one, other = made.heads(), made.heads({(5, 1): 0.5, (3, 0): -0.4})
    (table,) = uw.show(uw.compare(one, other, n=3)).blocks
    assert isinstance(table, Table)
    assert table.rows[0] == ("3.0", "0.40", "−0.40", "0.80")
    assert "3.0" in table.title
    (table,) = uw.show(uw.agreement(one, ["5.1", "4.0"])).blocks
    assert isinstance(table, Table)
    assert dict(table.rows)["both"] == "1"  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert uw.show(uw.agreement(one, ["5.1", "4.0"]), title="mine").blocks[0].title == "mine"  # pyright: ignore[reportAttributeAccessIssue]


def test_a_report_takes_comparisons(tmp_path):
    one, other = made.heads(), made.heads({(5, 1): 0.5, (3, 0): -0.4})
    path = uw.report([one, uw.compare(one, other), uw.agreement(one, ["5.1"])], tmp_path / "page.html")
    assert "Other results" in path.read_text()


def test_lists_of_what_is_no_result_are_refused():
    for given in ([], [made.heads(), 3], {"a": 3}):
        with pytest.raises(uw.InputError, match="result"):
            uw.show(given)  # pyright: ignore[reportArgumentType]
