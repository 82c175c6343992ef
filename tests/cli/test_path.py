"""`unweave path`: the library's effects, and how its options are read."""

from pathlib import Path

import pytest

import unweave as uw
from tests.cli.command import Command, loaded, one_line
from unweave.errors import Interrupted


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


def test_ctrl_c_keeps_what_was_finished(
    run: Command, folder: Path, pair: uw.Contrast, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = uw.path_patch(pair)
    partial[:, 1:] = float("nan")

    def stopped(*_: object, **__: object) -> None:
        raise Interrupted("", partial)

    monkeypatch.setattr(uw, "path_patch", stopped)
    assert ask(run, folder) == 130
    assert run.err == "unweave: stopped: 33% of the patches were finished and are kept in path.partial.nc\n"
    assert loaded("path.partial.nc").identical(partial)
    assert not Path("path.nc").exists()


MISTAKES = [
    (["--receivers", "8.6"], "--receivers: 'z 8.6' cannot be taken; write logits"),
    (["--receivers", "2.1 z"], "'z 2.1' cannot be taken"),
    (["--receivers", "logit"], "'logit' is not a place"),
    (["--receivers", ""], "--receivers: expected names between commas"),
    (["--receivers", "2.1 q, q 2.1"], "--receivers: q 2.1 is named twice"),
    (["--receivers", "2.1 q", "--model", "FOLDER", "--senders", "2.0, 2.1"], "every sender writes after it"),
    (["--receivers", "2.9 q", "--model", "FOLDER"], "heads 0 to 3"),
    (["--receivers", "7.1 q", "--model", "FOLDER"], "layers 0 to 2, got 7"),
    (["--receivers", "mlp 3", "--model", "FOLDER"], "layers 0 to 2, got 3"),
    (["--senders", "head"], "--senders: 'head' is not a place"),
    (["--senders", "0.1, 0.1"], "--senders: 0.1 is named twice"),
    (["--senders", "0.1+0.1"], "--senders: z 0.1 is named twice"),
    (["--senders", "0.1,,0.2"], "--senders: expected names between commas"),
    (["--senders", "0.4", "--model", "FOLDER"], "heads 0 to 3"),
    (["--at", "ende", "--model", "FOLDER"], "Did you mean 'end'?"),
    (["--at", "S2:S9", "--receivers", "2.1 q", "--model", "FOLDER"], "role 'S9' is not among this task's roles"),
    (["--at", ":"], "--at: expected a role, or two as in S2:end"),
    (["--at", "a:b:c"], "--at: expected a role, or two as in S2:end"),
    (["--mlps", "dead"], "'dead' is not one of 'live', 'frozen'"),
    (["--attention", "pattern"], "'pattern' is not one of 'z', 'qkv'"),
    (["--measure", "loss"], "'loss' is not one of 'effect', 'drop', 'change'"),
    (["--direction", "both"], "'both' is not one of 'noise', 'denoise'"),
    (["--measure", "drop", "--direction", "denoise", "--model", "FOLDER"], "a drop is of the clean run"),
    (["--memory", "much"], "--memory"),
    (["--out", "path.json"], ".nc or .html"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES, ids=[" ".join(given) for given, _ in MISTAKES])
def test_a_mistake_is_one_line(run: Command, folder: Path, arguments: list[str], said: str) -> None:
    assert run("path", *(folder if argument == "FOLDER" else argument for argument in arguments)) == 2
    one_line(run, said)
