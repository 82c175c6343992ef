"""The command that shows what was saved."""

from pathlib import Path
from typing import Annotated

import typer

import unweave as uw
from unweave.cli.options import Rows, check_file
from unweave.cli.terminal import stoppable


@stoppable
def show(
    file: Annotated[Path, typer.Argument(help="A result or an evaluation that was saved (.nc), or a circuit (.json).")],
    out: Annotated[Path | None, typer.Option(help="Write the figure to this .html file.")] = None,
    browse: Annotated[bool, typer.Option("--open", help="Open the figure in a browser.")] = False,
    top: Rows = 10,
) -> None:
    """A saved result or circuit: the largest values printed, and its figure.

    Example: unweave show heads.nc --top 20 --out heads.html
    """
    check_file(out, (".html",))
    from unweave.cli import circuit_output, output

    result = circuit_output.read(str(file)) if file.suffix == ".json" else uw.load(file)
    if browse and out is None:
        out = file.with_suffix(".html")
        check_file(out, (".html",))
    if circuit_output.is_circuit_or_score(result):
        circuit_output.show(result, out, top)
    else:
        output.write(result, out)  # type: ignore[arg-type]
        output.give(result, None, top)  # type: ignore[arg-type]
    if out is not None:
        output.say(f"kept in {out}")
    if browse and out is not None:
        typer.launch(out.resolve().as_uri())
