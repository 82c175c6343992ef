"""`unweave show`."""

from pathlib import Path
from typing import Annotated

import typer

from unweave.cli import circuits, output
from unweave.cli.options import Rows
from unweave.cli.terminal import stoppable


@stoppable
def run(
    file: Annotated[Path, typer.Argument(help="A result or an evaluation that was saved (.nc), or a circuit (.json).")],
    out: Annotated[Path | None, typer.Option(help="Write the figure to this .html file.")] = None,
    browse: Annotated[bool, typer.Option("--open", help="Open the figure in a browser.")] = False,
    top: Rows = 10,
) -> None:
    """A saved result or circuit: the largest values printed, and its figure.

    Example: unweave show heads.nc --top 20 --out heads.html
    """
    from unweave.results import load

    output.check_file(out, (".html",))
    result = circuits.read(str(file)) if file.suffix == ".json" else load(file)
    if browse and out is None:
        out = file.with_suffix(".html")
        output.check_file(out, (".html",))
    if circuits.is_circuit_or_score(result):
        circuits.show(result, out, top)
    else:
        output.write(result, out)  # type: ignore[arg-type]
        output.give(result, None, top)  # type: ignore[arg-type]
    if out is not None:
        output.say(f"kept in {out}")
    if browse and out is not None:
        typer.launch(out.resolve().as_uri())
