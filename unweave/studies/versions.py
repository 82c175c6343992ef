"""The versions that a report was made with."""

from importlib import import_module

from unweave.views.blocks import Table


def versions(*packages: str) -> Table:
    """What each package says of itself, of PyTorch its build as well, which the list of what is installed lacks."""
    rows = tuple((name, str(import_module(name).__version__)) for name in packages)
    return Table(("package", "version"), rows, "Versions", align="ll")
