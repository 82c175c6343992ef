"""What the command writes: tables on stdout, and files, looked at before the work."""

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from unweave.cli.heading import heading
from unweave.errors import InputError, Interrupted, UnweaveError

if TYPE_CHECKING:
    import xarray

    from unweave.views.blocks import Table


def check_folder(path: Path) -> None:
    """Makes the folder of `--out`. Raises InputError where it cannot be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        why = f"cannot write to the folder {path} ({error.strerror})"
        raise InputError(f"--out: {why}; name one that you may write to") from error


def check_file(path: Path | None, suffixes: tuple[str, ...] = (".nc", ".html")) -> None:
    """Raises InputError where `--out` has another suffix or cannot be written."""
    if path is None:
        return
    if path.suffix not in suffixes:
        raise InputError(f"--out: expected a file that ends in {' or '.join(suffixes)}, got {path}")
    if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"--out: {path} is a folder, or may not be written; name another file")
    check_folder(path.parent)


def give(
    result: "xarray.DataArray | xarray.Dataset | xarray.DataTree", out: Path | None, top: int | None = None
) -> None:
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


def _show(result: "xarray.DataArray | xarray.Dataset | xarray.DataTree", top: int | None) -> None:
    from unweave.results.summary import summaries
    from unweave.results.top import top as largest
    from unweave.views.certainty import too_few
    from unweave.views.result_tables import top_table

    for line in heading(result):
        say(line)
    if top is None:
        print_table(_in_order(result))
        return
    tables = summaries(result)
    rows = top_table(largest(tables, top))
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


def write(result: "xarray.DataArray | xarray.Dataset | xarray.DataTree", out: Path | None) -> None:
    """The result as `.nc`, or its figures as `.html`."""
    if out is None:
        return
    if out.suffix == ".html":
        from unweave.views import report

        report([result], out)  # type: ignore[list-item]
    else:
        from unweave.results import save

        save(result, out)


def kept(stop: Interrupted, out: Path) -> Interrupted:
    """The same interruption, once what was finished is in a file beside `out`, with the line that says so."""
    from unweave.studies.plan import finished

    share = finished(stop.partial)
    if not share:
        return Interrupted("no patch was finished, so nothing is kept")
    place = out.with_name(f"{out.stem}.partial.nc")
    write(stop.partial, place)  # type: ignore[arg-type]
    return Interrupted(f"{share:.0%} of the patches were finished and are kept in {place}", stop.partial)


def _in_order(result: "xarray.DataArray | xarray.Dataset | xarray.DataTree") -> "Table":
    """Every cell of a result with one axis."""
    from unweave.results import summary
    from unweave.results.labels import number
    from unweave.views.blocks import Table
    from unweave.views.wording import interval

    means = summary(result)  # type: ignore[arg-type]
    (dim,) = map(str, means["mean"].dims)
    columns = [means[name].to_numpy().tolist() for name in (dim, "mean", "low", "high")]
    rows = tuple((str(name), number(mean), interval(low, high)) for name, mean, low, high in zip(*columns, strict=True))
    return Table((dim, str(result.attrs["quantity"]), "95 % interval"), rows)


def print_table(table: "Table") -> None:
    """A table for people on a terminal; in a pipe, columns between tabs, a header first, for programs."""
    if sys.stdout.isatty():
        from rich.console import Console

        from unweave.views.result_tables import rich_table

        Console().print(rich_table(table))
        return
    if table.title:
        say(table.title)
    for row in ((table.header[0] or "cell", *table.header[1:]), *table.rows):
        typer.echo("\t".join(cell.replace("\u00a0", " ").replace("−", "-") for cell in row))
