import re

import unweave as uw
from tests.tiny import tiny_model, tiny_pair
from tests.views import made_circuits as made
from tests.views.drawn import said, traces
from unweave.views.blocks import Figure, Table
from unweave.views.head_pictures import head_evidence, roles_finding, roles_table
from unweave.views.pictures import blocks_of


def test_names_are_counted_and_their_numbers_listed():
    assert roles_finding(made.NAMED) == "2 name movers (5.1 and 5.0) and 1 S-inhibition head (3.0)"
    table = roles_table(made.NAMED)
    assert table.rows[0] == ("5.1", "name mover at end", "direct 0.50, end to IO 0.70", "–")
    assert table.rows[1][-1] == "induction"
    without = roles_table(made.head_types(*made.NAMED.heads[::2]))
    assert without.header == ("head", "name", "evidence")
    assert "name mover: copying at least 0.5" in table.caption


def test_a_mover_that_raises_both_names_is_said_to_and_what_that_does():
    def shown(wrong: float, low: float) -> str:
        evidence = {"direct": 0.1, "right": 0.3, "wrong": wrong, "effect": 0.05}
        mover = made.NamedHead((5, 1), "name mover", "end", evidence, (), {"effect": (low, 0.08)})
        table = roles_table(made.head_types(mover))
        assert "effect 0.050 (" in table.rows[0][2]
        return said(table.caption)

    assert "5.1 raises both names" in shown(0.2, 0.02)
    assert "larger by 5.0 % of the gap." in shown(0.2, 0.02)
    assert "not significant" in shown(0.2, -0.01)
    assert "both names" not in shown(-0.2, 0.02)


def test_a_split_says_what_each_part_does_to_either_answer():
    pair = tiny_pair(tiny_model("gpt2"))
    for by in ("head", "layer", "component", "neuron"):
        result = uw.attribute(pair, by=by, split=True)
        (block,) = blocks_of(result)
        assert isinstance(block, Figure)
        first = uw.top(result.sel(answer="right") - result.sel(answer="wrong"), 1)[0]
        assert block.title.startswith(f"{first.label} writes ")
    heads = uw.attribute(pair, by="head", split=True)
    assert len(uw.show(heads.sel(answer="wrong")).blocks) > 0


def test_no_names_say_so():
    assert roles_finding(made.head_types()) == "No head has a name by these rules"


def test_hostile_names_are_escaped():
    hostile = made.head_types(made.NamedHead((1, 1), made.HOSTILE, made.HOSTILE, {made.HOSTILE: 1.0}))
    assert "<script" not in roles_table(hostile).html()
    assert roles_table(hostile).html().count("&lt;script&gt;") >= 4


def test_evidence_is_given_by_the_heads_name():
    assert head_evidence(made.NAMED)["3.0"] == "end to S2 0.41"


def test_named_heads_are_shown_as_a_table():
    (block,) = uw.show(made.NAMED).blocks
    assert isinstance(block, Table)


def test_scores_name_the_heads_that_have_them():
    (block,) = blocks_of(made.head_scores())
    assert isinstance(block, Figure)
    assert [part.partition(": ")[2] for part in said(block.title).split("; ")][1:] == ["1.1 (0.90)", "3.0 (0.80)"]
    assert len(traces(block.figure, "heatmap")) == 3
    # Shares cannot be below 0, so no cell is marked as not different from it.
    assert traces(block.figure, "scatter") == []


def test_copying_is_averaged_over_words():
    words = made.head_scores().rename(prompt="word").assign_attrs(method="copying scores")
    (block,) = blocks_of(words)
    assert block.caption.startswith("Means over 20 words ")  # type: ignore[attr-defined]


def test_roles_that_no_head_looks_at_are_left_out_and_named():
    (block,) = blocks_of(made.role_attention())
    assert isinstance(block, Figure)
    assert block.title == "From end, 5.1 looks at IO (0.70) and 3.0 looks at S2 (0.50)"
    assert len(traces(block.figure, "heatmap")) == 2
    assert said(block.caption).endswith("Left out, where no head looks with 30 %: S1, end.")


def test_attention_against_contribution_counts_for_and_against():
    looks_at_io, looks_at_s1 = blocks_of(made.contribution())
    assert re.findall(r"[\d.]+", looks_at_io.title) == ["2", "30", "1", "1", "5.1", "0.80", "1.50"]  # type: ignore[attr-defined]
    assert looks_at_s1.title.startswith("No head gives S1 30")  # type: ignore[attr-defined]
