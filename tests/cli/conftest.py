"""A tiny model in a folder, and the command."""

from pathlib import Path

import pytest

import unweave as uw
from tests.cli.command import Command
from tests.tiny_folder import write_tiny_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def pair(folder: Path) -> uw.Contrast:
    """What the command asks of the tiny model with `--prompts 3`."""
    model = uw.load_model(folder)
    task = uw.tasks.ioi(model, n_prompts=3)
    return uw.Contrast(model, task.prompts, task.corrupt(), uw.LogitDiff())


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)
