"""Arrows between rooms go down only, as docs/architecture.md says."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "unweave"
GROUND = {"errors", "nodes", "progress", "registry", "version", "whole_files"}
BELOW: dict[str, set[str]] = {"results": GROUND, "models": GROUND}
BELOW["metrics"] = {"models", *GROUND}
BELOW["tasks"] = {"models", "results", *GROUND}
BELOW["views"] = {"results", *GROUND}
BELOW["engine"] = {"metrics", *BELOW["metrics"]}
BELOW["methods"] = {"engine", "tasks", "results", *BELOW["engine"]}
BELOW["circuits"] = {"methods", *BELOW["methods"]}
BELOW["studies"] = {"circuits", "views", *BELOW["circuits"]}
BELOW["cli"] = {"studies", *BELOW["studies"]}
# Prompts, circuits and named heads are values: views print and draw them. The command makes public calls.
SPARED = {
    ("cli", "unweave"),
    ("views", "unweave.models.prompts"),
    ("views", "unweave.circuits.circuit"),
    ("views", "unweave.methods.head_types"),
}


def imported(file: Path) -> set[str]:
    """The modules of this package that a file names in imports, those within functions and for annotations too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "unweave":
            names |= {f"unweave.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are absolute"
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.split(".")[0] == "unweave"}


def test_every_room_has_its_place() -> None:
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} == set(BELOW)


@pytest.mark.parametrize("room", BELOW)
def test_arrows_go_down(room: str) -> None:
    may, files = {room, *BELOW[room]}, sorted((PACKAGE / room).rglob("*.py"))
    up = [
        f"{file.relative_to(PACKAGE)} imports {name}"
        for file in files
        for name in sorted(imported(file))
        if (room, name) not in SPARED and name.removeprefix("unweave.").split(".")[0] not in may
    ]
    assert files
    assert not up
