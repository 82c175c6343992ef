"""`unweave train`: what it prints and leaves, how it goes on, and how it ends on a mistake."""

import signal
import subprocess
import sys
import time

import pytest

import unweave as uw
from tests.cli.command import ENVIRONMENT, one_line


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch):
    monkeypatch.setattr("unweave.tasks.trainings.N_HELD_OUT", 200)


TINY = ("--epochs", 2, "--examples", 64, "--batch", 32)


def test_train_prints_its_epochs_and_leaves_a_model(run, tmp_path):
    assert run("train", "palindrome", *TINY, "--out", "mine") == 0
    table = run.table()
    assert table[0] == ["epoch", "loss", "held-out loss", "accuracy"]
    assert [row[0] for row in table[1:]] == ["0", "1", "2"]
    assert "of 200 held-out examples are right" in run.out
    assert "uw.load_model('mine')" in run.out
    model = uw.load_model(tmp_path / "mine")
    assert (model.config.name, model.config.d_vocab_out, model.config.n_ctx) == ("palindrome", 2, 22)
    history = uw.training.checkpoints(tmp_path / "mine").history
    assert f"{history[-1].accuracy:.2%} of" in run.out


def test_the_seed_decides_and_the_default_folder_is_named_after_the_training(run, tmp_path):
    assert run("train", "palindrome", *TINY, "--seed", 3) == 0
    first = run.table()
    assert (tmp_path / "palindrome-training" / "model.safetensors").is_file()
    assert run("train", "palindrome", *TINY, "--seed", 3, "--out", "again") == 0
    assert run.table() == first
    assert run("train", "palindrome", *TINY, "--seed", 4, "--out", "other") == 0
    assert run.table() != first


def test_a_training_that_is_there_is_resumed_only_when_asked_and_only_with_its_own_options(run):
    assert run("train", "palindrome", *TINY, "--out", "mine") == 0
    table = run.table()
    assert run("train", "palindrome", *TINY, "--out", "mine") == 2
    one_line(run, "--out: mine holds a training already; resume it (--resume)")
    assert run("train", "palindrome", *TINY, "--out", "mine", "--lr", 0.01, "--resume") == 2
    one_line(run, "recipe.lr is 0.001 there and 0.01 here")
    assert run("train", "palindrome", *TINY, "--out", "mine", "--resume") == 0
    assert run.table() == table


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("palindrom",), "Did you mean 'palindrome'?"),
        (("palindrome", "--lr", "-1"), "--lr: expected a positive number"),
        (("palindrome", "--epochs", "0"), "--epochs"),
        (("palindrome", "--device", "tpu"), "tpu"),
        (("palindrome", *TINY, "--out", "nowhere", "--resume"), "leave --resume out to begin one"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, arguments, says):
    assert run("train", *arguments) == 2
    one_line(run, says)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "unweave", "train", "palindrome", "--epochs", "500", "--examples", "64"]
    with subprocess.Popen(
        [*command, "--out", "run"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        state, written = tmp_path / "run" / "state.safetensors", set()
        while len(written) < 2:  # once the second state is written, an epoch is done
            assert process.poll() is None
            written |= {state.stat().st_mtime_ns} if state.exists() else set()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert errors.count("\n") == 1
    assert errors.startswith("unweave: stopped: training was stopped; ")
    assert "of 500 epochs are done, and kept in run; go on with: unweave train palindrome" in errors
    assert errors.rstrip().endswith("--epochs 500 --examples 64 --out run --resume")
    assert len(uw.training.checkpoints(tmp_path / "run")) >= 1
