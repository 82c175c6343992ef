"""The package's front: every public name is there, imported when it is first used."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import unweave as uw


@pytest.mark.parametrize("name", uw.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(uw, name) is not None
    assert name in dir(uw)


def test_one_page_lists_every_name() -> None:
    page = (Path(__file__).parent.parent / "docs" / "names.md").read_text(encoding="utf-8")
    rooms = [getattr(uw, name) for name in ("weights", "heads", "classifier", "training")]
    there = [f"uw.{name}" for name in uw.__all__ if name != "__version__"]
    there += [f"uw.{room.__doc__.split('.')[1].split('`')[0]}.{name}" for room in rooms for name in public(room)]
    assert not [name for name in there if f"`{name}`" not in page]
    assert page.count("| `uw.") + len(rooms) == len(there)


def public(room: ModuleType) -> list[str]:
    return [
        name for name, value in vars(room).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    ]


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
