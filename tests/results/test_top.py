"""The largest cells: order, names, shares."""

import numpy as np
import pytest
import xarray as xr

from tests.results.fake import heads, result, with_tokens
from unweave.errors import InputError
from unweave.results import summary, top


def test_order_and_names() -> None:
    fake = heads()
    assert [row.label for row in top(fake, 2)] == ["2.1", "3.0"]
    assert top(fake, 1, by="low")[0].label == "3.0"
    assert top(fake, 1, by="high")[0].label == "2.1"
    sizes = [abs(row.mean) for row in top(fake, 50)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == 9  # the three cells of layer 0 are exactly 0


def test_a_row_is_its_cell() -> None:
    fake = heads()
    row, table = top(fake, 1)[0], summary(fake).sel(layer=2, head=1)
    assert row.where == {"layer": 2, "head": 1}
    assert (row.mean, row.low, row.high, row.p_holm) == tuple(
        table[n].item() for n in ("mean", "low", "high", "p_holm")
    )
    assert row.site == "z"


def test_shares_add_up_to_everything() -> None:
    fake = heads()
    rows = top(fake, 50).rows
    assert rows[-1].cumulative == pytest.approx(1)
    sizes = np.abs(summary(fake)["mean"].values)
    assert rows[0].cumulative == pytest.approx(sizes.max() / sizes.sum())


def test_sites_are_ranked_together() -> None:
    small = result({"prompt": 8, "layer": 2, "kv_head": 2}, site="k") * 0
    small[:, 1, 1] = 0.4
    both = xr.Dataset({"z": heads(), "k": small})
    assert [row.label for row in top(both, 3)] == ["z 2.1", "k 1.kv1", "z 3.0"]
    assert [row.label for row in top(summary(both), 3)] == ["z 2.1", "k 1.kv1", "z 3.0"]


def test_gaps_are_left_out() -> None:
    fake = heads()
    fake[:, 2, 1] = np.nan
    table = top(fake, 1)
    assert table[0].label == "3.0"
    assert np.isfinite(table[0].cumulative)


def test_nothing_but_zeros() -> None:
    table = top(heads() * 0, 3)
    assert len(table) == 0
    assert "0 cells" in str(table)


def test_tokens_stand_beside_positions_where_prompts_agree() -> None:
    fake = result({"prompt": 2, "layer": 1, "pos": 2}) * 0 + np.array([0.1, 0.5])
    fake = fake.assign_attrs(site="resid_pre")
    same = top(with_tokens(fake, [["a", " b"], ["a", " b"]]), 1)
    assert (same[0].label, same[0].token) == ("layer 0 @ 1", " b")
    assert "layer 0 @ 1 ' b'" in str(same)
    assert top(with_tokens(fake, [["a", " b"], ["a", " c"]]), 1)[0].token == ""


def test_printed() -> None:
    text = str(top(heads(n_prompts=32), 2))
    assert text.splitlines()[0].startswith("the 2 largest in size of 9 cells")
    assert "2.1" in text
    assert "0.49 to 0.5" in text
    assert "< 0.001" in text


def test_in_a_notebook_tokens_are_escaped() -> None:
    fake = result({"prompt": 2, "layer": 1, "pos": 2}) * 0 + 1
    html = top(with_tokens(fake, [["<script>", "b"]] * 2), 2)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_bad_options_are_named() -> None:
    with pytest.raises(InputError, match="by: expected 'abs', 'high' or 'low', got 'big'"):
        top(heads(), by="big")
    with pytest.raises(InputError, match="n: expected at least 1 cell, got 0"):
        top(heads(), 0)
