"""`unweave show`."""

from pathlib import Path
from typing import Annotated

import typer

from unweave.cli import output
from unweave.cli.options import Rows
from unweave.cli.terminal import stoppable


@stoppable
def run(
    file: Annotated[Path, typer.Argument(help="A result that was saved (.nc).")],
    out: Annotated[Path | None, typer.Option(help="Write the figure to this .html file.")] = None,
    browse: Annotated[bool, typer.Option("--open", help="Open the figure in a browser.")] = False,
    top: Rows = 10,
) -> None:
    """A saved result: the largest values printed, and its figure."""
    from unweave.results import load

    output.check_file(out, (".html",))
    result = load(file)
    if browse and out is None:
        out = file.with_suffix(".html")
        output.check_file(out, (".html",))
    output.give(result, out, top)
    if browse and out is not None:
        typer.launch(out.resolve().as_uri())
