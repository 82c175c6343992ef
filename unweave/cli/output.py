"""What the command writes: tables on stdout, and files."""

import sys
from collections.abc import Iterable
from pathlib import Path

import typer
import xarray as xr
from rich.console import Console

import unweave as uw
from unweave.cli.heading import heading
from unweave.errors import Interrupted, UnweaveError
from unweave.results.labels import number
from unweave.results.summary import summaries
from unweave.studies.plan import finished
from unweave.views.blocks import Table
from unweave.views.certainty import too_few
from unweave.views.result_tables import rich_table, top_table
from unweave.views.wording import interval

Result = xr.DataArray | xr.Dataset | xr.DataTree


def give(result: Result, out: Path | None, top: int | None = None) -> None:
    """Keep a result where `out` says, and print it: the `top` largest rows, or all in their own order.

    It is printed too where it cannot be kept, since minutes of work may stand behind it.
    """
    try:
        write(result, out)
    except UnweaveError:
        _show(result, top)
        raise
    except KeyboardInterrupt:
        raise kept(Interrupted("", result), out or Path("result.nc")) from None
    _show(result, top)
    if out is not None:
        say(f"kept in {out}")


def _show(result: Result, top: int | None) -> None:
    for line in heading(result):
        say(line)
    if top is None:
        _show_in_order(result)
        return
    tables = summaries(result)
    rows = top_table(uw.top(tables, top))
    if not rows.rows:
        unknown = all(table["mean"].isnull().all() for table in tables.values())
        say("no value is known" if unknown else "every value is exactly 0")
    print_table(rows)
    few = too_few(list(tables.values()))
    if few:
        say(few)


def say(line: str) -> None:
    """A line about a table; in a pipe it begins with #, so that programs can tell it from the table."""
    typer.echo(f"{'' if sys.stdout.isatty() else '# '}{line}")


def write(result: Result, out: Path | None) -> None:
    """The result as `.nc`, or its figures as `.html`."""
    if out is None:
        return
    if out.suffix == ".html":
        uw.report([result], out)  # type: ignore[list-item]
    else:
        uw.save(result, out)


def kept(stop: Interrupted, out: Path) -> Interrupted:
    """The same interruption, once what was finished is in a file beside `out`, with the line that says so."""
    share = finished(stop.partial)
    if not share:
        return Interrupted("no patch was finished, so nothing is kept")
    place = out.with_name(f"{out.stem}.partial.nc")
    write(stop.partial, place)  # type: ignore[arg-type]
    return Interrupted(f"{share:.0%} of the patches were finished and are kept in {place}", stop.partial)


def _show_in_order(result: Result) -> None:
    """Every cell of a result with one axis."""
    means = uw.summary(result)  # type: ignore[arg-type]
    (dim,) = map(str, means["mean"].dims)
    columns = [means[name].to_numpy().tolist() for name in (dim, "mean", "low", "high")]
    rows = [(str(name), number(mean), interval(low, high)) for name, mean, low, high in zip(*columns, strict=True)]
    print_rows((dim, str(result.attrs["quantity"]), "95 % interval"), rows)


def print_table(table: Table) -> None:
    """A table for people on a terminal; in a pipe, columns between tabs, a header first, for programs."""
    if sys.stdout.isatty():
        Console().print(rich_table(table))
        return
    if table.title:
        say(table.title)
    for row in ((table.header[0] or "cell", *table.header[1:]), *table.rows):
        typer.echo("\t".join(cell.replace("\u00a0", " ").replace("−", "-") for cell in row))


def print_rows(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """A table of these rows."""
    print_table(Table(header, tuple(rows)))
