"""The package's front: every public name is there, imported when it is first used."""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import unweave as uw


@pytest.mark.parametrize("name", uw.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(uw, name) is not None
    assert name in dir(uw)


def test_editors_and_the_interpreter_are_told_the_same() -> None:
    tree = ast.parse(Path(uw.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    shown = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert shown == uw._HOMES | dict.fromkeys(uw._ROOMS, "unweave")


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'patsch'"):
        _ = uw.patsch


def test_importing_costs_nothing() -> None:
    code = "import sys, unweave; print(sorted({'torch', 'numpy', 'xarray', 'plotly'} & set(sys.modules)))"
    environment = {"PYTHONPATH": str(Path(uw.__file__).parent.parent)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_one_version() -> None:
    assert version("unweave") == uw.__version__
