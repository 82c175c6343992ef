"""`unweave path`: the library's effects, and how its options are read."""

from pathlib import Path

import pytest

import unweave as uw
from tests.cli.command import Command, loaded


def ask(run: Command, folder: Path, *arguments: object) -> int:
    return run("path", "--model", folder, "--prompts", 3, "--out", "path.nc", *arguments)


def test_it_prints_and_keeps_what_the_library_finds(run: Command, folder: Path, pair: uw.Contrast) -> None:
    assert ask(run, folder, "--receivers", "2.1 q, v 2.0", "--at", "end", "--top", 2) == 0
    expected = uw.path_patch(pair, [(2, 1, "q"), (2, 0, "v")], at="end")
    assert float(abs(expected).max()) > 0
    assert loaded("path.nc").identical(expected)
    assert [row[0] for row in run.table()] == ["cell", *(row.label for row in uw.top(expected, 2))]
    assert (
        "# from every head to q 2.1, v 2.kv0; sent at end, received at end; MLPs live, attention frozen by z" in run.out
    )
    assert run.err == ""


def test_chosen_senders_roles_and_directions(run: Command, folder: Path, pair: uw.Contrast) -> None:
    chosen = ["--senders", "0.1+0.2, mlp 0, embed", "--receivers", "2.1 k, mlp 2", "--at", "S2:", "--mlps", "frozen"]
    assert ask(run, folder, *chosen, "--direction", "denoise") == 0
    senders = [("0.1", "0.2"), "mlp 0", "embed"]
    receivers = [(2, 1, "k"), "mlp 2"]
    expected = uw.path_patch(pair, receivers, senders, ("S2", None), direction="denoise", mlps="frozen")
    assert loaded("path.nc").identical(expected)
    assert [row[0] for row in run.table()][1:] == [row.label for row in uw.top(expected)]
    as_called = expected.sender.values.tolist()
    same = uw.path_patch(pair, receivers, as_called, ("S2", None), direction="denoise", mlps="frozen")
    assert same.identical(expected)
    assert ask(run, folder, "--senders", "mlps", "--at", ":end") == 0
    assert loaded("path.nc").identical(uw.path_patch(pair, senders="mlps", at=(None, "end")))


def test_where_nothing_can_act_it_says_so(run: Command, folder: Path) -> None:
    assert ask(run, folder, "--at", "S2") == 0
    assert "# every value is exactly 0" in run.out
    assert len(run.table()) == 1


@pytest.mark.parametrize(
    "chosen", [{"attention": "qkv"}, {"measure": "drop"}, {"measure": "change"}], ids=lambda given: str(given)
)
def test_what_is_held_and_measured(run: Command, folder: Path, pair: uw.Contrast, chosen: dict[str, str]) -> None:
    options = [f"--{name}={value}" for name, value in chosen.items()]
    assert ask(run, folder, "--receivers", "1.1 v, 2.1 q", *options) == 0
    expected = uw.path_patch(pair, [(1, 1, "v"), (2, 1, "q")], **chosen)  # type: ignore[arg-type]
    assert loaded("path.nc").identical(expected)
    assert not expected.equals(uw.path_patch(pair, [(1, 1, "v"), (2, 1, "q")]))
    scores = next(line for line in run.out.splitlines() if line.startswith("# mean logit difference"))
    assert scores.endswith("(logits)")  # the scores' own unit, whatever the table's
