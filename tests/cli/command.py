"""The command run in this process, and what is expected of what it prints."""

import os
import sys
from pathlib import Path

import pytest
import xarray as xr

import unweave as uw
from unweave.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
# Of a command that runs in a process of its own.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


class Command:
    """Runs `unweave ARGUMENTS` in this process; `status`, `out` and `err` are those of the last run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        self._monkeypatch.setattr(sys, "argv", ["unweave", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        self.out, self.err = self._capsys.readouterr()
        return int(ended.value.code or 0)

    def table(self) -> list[list[str]]:
        """The rows of what was printed, header first, without what is said about them."""
        return [line.split("\t") for line in self.out.splitlines() if "\t" in line]


def loaded(path: str | Path) -> xr.DataArray:
    """A saved result of one site."""
    result = uw.load(path)
    assert isinstance(result, xr.DataArray)
    return result


def one_line(run: Command, *parts: str) -> None:
    """What was printed is one line of an error with these parts in it, and nothing else."""
    assert run.out == ""
    assert run.err.count("\n") == 1
    assert run.err.startswith("unweave: error: ")
    for part in parts:
        assert part in run.err
