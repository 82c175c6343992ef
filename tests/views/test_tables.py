from io import StringIO

import pytest
import xarray as xr
from rich.console import Console

import unweave as uw
from tests.views import made
from unweave.results import top
from unweave.views.blocks import Table
from unweave.views.result_tables import baseline_table, baselines, rich_table, top_table
from unweave.views.wording import SPACE, counted, interval, listed, percent


def drawn(table: Table) -> str:
    console = Console(width=160, record=True, file=StringIO())
    console.print(rich_table(table))
    return console.export_text()


def test_top_heads_with_interval_and_p_value():
    table = top_table(top(made.heads(), 2), "Heads")
    first, second = table.rows
    assert (first[0], second[0]) == ("5.1", "3.0")
    assert first[1] == "0.50"
    assert first[2] == "0.50 to 0.50"
    assert float(first[3]) < 0.01
    assert table.align == "lrrrr"


def test_tokens_in_a_table_are_visible():
    assert top_table(top(made.stream(), 1)).rows[0][0] == "layer 0 @ 7 ·John"


def test_baselines_with_intervals_and_shares():
    result = made.heads()
    clean, corrupted = baselines(result)
    assert clean.mean == pytest.approx(float(result["clean"].mean()))
    assert clean.low < clean.mean < clean.high
    assert (clean.above_zero, corrupted.above_zero, clean.n) == (1.0, 0.0, made.N_PROMPTS)
    rows = baseline_table(clean, corrupted, "logit difference").rows
    assert [row[0] for row in rows] == ["clean", "corrupted"]
    assert rows[1][-1] == f"0{SPACE}%"


def test_baselines_count_clusters():
    result = made.heads()
    twice = xr.concat([result, result], "prompt").assign_coords(cluster=("prompt", [*range(made.N_PROMPTS)] * 2))
    for one, other in zip(baselines(result), baselines(twice), strict=True):
        assert (one.low, one.high) == (pytest.approx(other.low), pytest.approx(other.high))
    alone = baselines(twice.drop_vars("cluster"))[0]
    assert alone.high - alone.low < 0.8 * (baselines(twice)[0].high - baselines(twice)[0].low)


def test_baselines_need_both():
    with pytest.raises(uw.InputError, match="no coordinate 'corrupted'"):
        baselines(made.heads().drop_vars("corrupted"))


def test_one_prompt_has_a_mean_and_no_interval():
    clean, corrupted = baselines(made.heads(n_prompts=1))
    assert baseline_table(clean, corrupted, "m").rows[0][3] == "–"


def test_brackets_are_no_markup_in_the_terminal():
    text = drawn(Table(("[b]name", "n"), (("[red]x", "1.5"),), "[i]title", "[u]caption"))
    for words in ("[b]name", "[red]x", "[i]title", "[u]caption"):
        assert words in text


def test_wording():
    assert [percent(share) for share in (0.513, -0.24, 0.021, 0.0, -0.0001, float("nan"))] == [
        f"51{SPACE}%", f"−24{SPACE}%", f"2.1{SPACE}%", f"0{SPACE}%", f"0{SPACE}%", "–",
    ]  # fmt: skip
    assert interval(0.412, 0.6) == "0.41 to 0.60"
    assert interval(float("nan"), 1.0) == "–"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([]) == ""
    assert [counted(n, "prompt") for n in (1, 2)] == ["1 prompt", "2 prompts"]


def test_names_are_folded_and_not_cut() -> None:
    """Half a name cannot be typed."""
    name = "inverted_position_random_token"
    table = Table(("task", "corruptions"), (("indirect objects", f"swap, {name}"),))
    console = Console(width=30, record=True, file=StringIO())
    console.print(rich_table(table))
    assert "…" not in console.export_text()
