"""`unweave knockout`: what goes, what replaces it, and which heads step in."""

from pathlib import Path

import pytest

import unweave as uw
from tests.cli.command import Command, loaded, one_line


def ask(run: Command, folder: Path, *arguments: object) -> int:
    return run("knockout", "--model", folder, "--prompts", 3, "--out", "without.nc", *arguments)


def test_every_head_in_turn(run: Command, folder: Path, pair: uw.Contrast) -> None:
    assert ask(run, folder, "--top", 3) == 0
    expected = uw.knockout(pair)
    assert loaded("without.nc").identical(expected)
    assert [row[0] for row in run.table()] == ["cell", *(row.label for row in uw.top(expected, 3))]
    assert "# every head's z in turn, replaced by: zero, at all positions" in run.out
    assert run.err == ""


def test_what_is_listed_goes_one_by_one_and_what_is_joined_together(
    run: Command, folder: Path, pair: uw.Contrast
) -> None:
    listed = ["--heads", "1.1, 2.0 q + 1.2 + mlp 1", "--mlps", "0", "--layers", "1", "--how", "mean"]
    assert ask(run, folder, *listed, "--at", "S2, end", "--source", "clean") == 0
    targets = ["1.1", ["q 2.0", "1.2", "mlp 1"], "mlp 0", "layer 1"]
    expected = uw.knockout(pair, targets, "mean", ("S2", "end"), source="clean")
    assert loaded("without.nc").identical(expected)
    assert "# replaced by: mean of the clean prompts, at S2, end" in run.out
    assert ask(run, folder, "--heads", "1.1, q 2.0", "--measure", "change") == 0
    assert loaded("without.nc").identical(uw.knockout(pair, ["1.1", "q 2.0"], measure="change"))


@pytest.mark.parametrize(
    ("options", "kind"), [(["--mlps", "all"], "mlp"), (["--layers", "all"], "layer"), (["--heads", "v"], "v")]
)
def test_all_of_a_kind_in_turn(run: Command, folder: Path, pair: uw.Contrast, options: list[str], kind: str) -> None:
    assert ask(run, folder, *options) == 0
    assert loaded("without.nc").identical(uw.knockout(pair, kind))


def test_a_template_of_one_prompt_is_refused_or_kept(run: Command, folder: Path) -> None:
    assert ask(run, folder, "--heads", "1.1", "--how", "template") == 2
    one_line(run, "one prompt, whose mean is the prompt itself", "--lone keep")
    assert ask(run, folder, "--heads", "1.1", "--how", "template", "--lone", "keep") == 0
    assert "its mean is the prompt itself" in run.out


def test_heads_that_step_in(run: Command, folder: Path, pair: uw.Contrast) -> None:
    assert ask(run, folder, "--backups", "--heads", "0.1 + 0.2", "--at", "end") == 0
    expected = uw.heads.backup_heads(pair, ["0.1", "0.2"], at="end")
    assert loaded("without.nc").identical(expected)
    assert "# z 0.1 + z 0.2 together, replaced by: mean of the corrupted prompts, at end" in run.out
    assert "# The logit difference without them is " in run.out
    assert [row[0] for row in run.table()][1:] == [row.label for row in uw.top(expected)]


def test_an_input_stands_before_its_head_or_behind_it(run: Command, folder: Path, pair: uw.Contrast) -> None:
    assert ask(run, folder, "--heads", "2.0 q, k 2.1") == 0
    assert loaded("without.nc").identical(uw.knockout(pair, ["q 2.0", "k 2.1"]))
