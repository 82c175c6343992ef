"""The command as its user meets it: what it prints, what it writes, and how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import unweave as uw
from tests.cli.command import ENVIRONMENT, Command, loaded


def test_version_and_lists(run: Command) -> None:
    assert run("--version") == 0
    assert run.out == f"unweave {uw.__version__}\n"
    assert run("models") == 0
    assert run.table()[1][0] == "smollm2-135m"
    assert "llama" in run.out
    assert run("tasks") == 0
    assert {"ioi", "ioi-fixed", "swap", "logit-diff", "rank"} <= {row[0] for row in run.table()}


def test_help_needs_no_torch() -> None:
    code = (
        "import sys, unweave.cli.app; print(sorted({'torch', 'transformers', 'xarray', 'plotly'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_patch_prints_what_the_library_finds(run: Command, folder: Path) -> None:
    options = ["--model", folder, "--prompts", 4, "--seed", 1, "--corruption", "swap", "--dtype", "float64"]
    assert run("patch", "z", *options, "--top", 3, "--out", "heads.nc") == 0
    model = uw.load_model(folder, dtype="float64")
    task = uw.tasks.ioi(model, n_prompts=4, seed=1)
    pair = uw.Contrast(model, task.prompts, task.corrupt("swap"), uw.LogitDiff())
    expected = uw.patch(pair, "z", ("layer", "head"))
    assert loaded("heads.nc").identical(expected)
    assert [row[0] for row in run.table()] == ["cell", *(row.label for row in uw.top(expected, 3))]
    assert "kept in heads.nc" in run.out
    assert run.err == ""


def test_patch_places_and_directions(run: Command, folder: Path) -> None:
    assert run("patch", "z 1.3", "resid_pre 0 @S2", "--model", folder, "--prompts", 3, "--out", "places.nc") == 0
    assert list(loaded("places.nc")["address"].values) == ["z 1.3", "resid_pre 0 @S2"]
    spoil = ["--direction", "noise", "--over", "layer,role", "--memory", "100MB", "--out", "spoilt.nc"]
    assert run("patch", "attn_out", "mlp_out", "--model", folder, "--prompts", 3, *spoil) == 0
    assert uw.load("spoilt.nc").attrs["direction"] == "noise"
    assert set(uw.load("spoilt.nc").data_vars) == {"attn_out", "mlp_out"}


def test_lens_attribute_and_show(run: Command, folder: Path) -> None:
    assert run("lens", "--model", folder, "--prompts", 3, "--no-mid", "--out", "lens.nc") == 0
    assert [row[0] for row in run.table()] == ["stage", "0_pre", "1_pre", "2_pre", "final"]
    assert run("lens", "--model", folder, "--prompts", 3, "--no-mid", "--top", 2, "--out", "lens.nc") == 0
    assert len(run.table()) == 3
    assert run("attribute", "--model", folder, "--prompts", 3, "--by", "component", "--out", "parts.html") == 0
    assert "DecompressionStream" in Path("parts.html").read_text(encoding="utf-8")
    assert run("show", "lens.nc", "--out", "lens.html") == 0
    assert Path("lens.html").is_file()
    assert {row[0] for row in run.table()} == {"cell", "0_pre", "1_pre", "2_pre", "final"}


def test_own_pairs(run: Command, folder: Path) -> None:
    pair = {
        "clean": "The capital of France is",
        "corrupted": "The capital of Italy is",
        "answer": " Paris",
        "wrong": " Rome",
    }
    Path("pairs.jsonl").write_text(json.dumps(pair), encoding="utf-8")
    assert run("lens", "--model", folder, "--task", "pairs.jsonl") == 0
    assert "1 prompt" in run.out


def test_a_study_of_what_the_model_does_not_do_ends_with_status_one(run: Command, folder: Path) -> None:
    assert run("study", "ioi", "--model", folder, "--prompts", 4) == 1
    assert "The model does not do the task" in run.out
    assert run.err.count("\n") == 1
    assert run.err.startswith("unweave: stopped: nothing was swept, as there is nothing to explain: ")
    assert "--anyway goes on" in run.err
    assert Path("report/index.html").exists()


def test_without_a_command_the_help_is_shown(run: Command) -> None:
    assert run() == 2
    assert "Usage: unweave" in run.out
    assert run.err == ""


SLOW_PATCH = """
import sys, time
from unweave.engine.executor import Scores
landed = Scores.put_rest
def slow(self, *arguments):
    landed(self, *arguments)
    print("landed", flush=True)
    time.sleep(60)
Scores.put_rest = slow
from unweave.cli import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of Windows are another matter")
def test_ctrl_c_keeps_what_was_finished(folder: Path, tmp_path: Path) -> None:
    arguments = ["patch", "z", "--model", folder, "--prompts", "3", "--memory", "40kb", "--out", "heads.nc"]
    command = [sys.executable, "-c", SLOW_PATCH, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "landed\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert err.count("\n") == 1
    assert "kept in heads.partial.nc" in err
    partial = loaded(tmp_path / "heads.partial.nc")
    assert 0 < int(partial.notnull().sum()) < partial.size


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("where", "status", "said"),
    [(">/dev/full", 2, "unweave: error: what is printed: No space left on device\n"), (">&-", 0, ""), ("2>&-", 0, "")],
)
def test_output_that_cannot_be_printed(where: str, status: int, said: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m unweave tasks {where}"
    finished = subprocess.run(
        command, shell=True, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stderr) == (status, said)
