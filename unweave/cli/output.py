"""What the command writes: tables on stdout, files that are looked at before the work; and how its options are read."""

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from unweave.errors import InputError, Interrupted

if TYPE_CHECKING:
    import xarray

    from unweave.views.blocks import Table

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_BY_HEAD = {"z", "q", "k", "v", "pattern"}


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


def memory(text: str | None) -> int | float | None:
    """`--memory`: `2GB` and `500000000` as bytes, `0.3` as a share. Raises InputError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]b)?", text.strip().lower())
    if not found:
        raise InputError(f"--memory: expected bytes, a size such as 2GB, or a share such as 0.3, got {text!r}")
    number, unit = found[1], found[2] or ""
    return float(number) if "." in number and not unit else int(float(number) * _UNITS[unit])


def are_addresses(sites: Sequence[str]) -> bool:
    """Whether single places are named and not whole sites. Raises InputError for what is neither, or for both."""
    from unweave.methods.address import Address
    from unweave.models.sites import parse_site

    single = [" " in site.strip() for site in sites]
    for site in sites:
        parse_site(Address.parse(site).site if any(single) else site)
    return any(single)


def axes(over: str | None, sites: Sequence[str]) -> tuple[str, ...]:
    """`--over`: axis names between commas; layers by heads for what heads have, layers by roles for the rest."""
    if over is None:
        return ("layer", "head") if {site.rpartition("hook_")[2] for site in sites} <= _BY_HEAD else ("layer", "role")
    return tuple(name.strip() for name in over.split(","))


def give(
    result: "xarray.DataArray | xarray.Dataset | xarray.DataTree", out: Path | None, top: int | None = None
) -> None:
    """Keep a result where `out` says, and print it: the `top` largest rows, or all in their own order."""
    write(result, out)
    mark = "" if sys.stdout.isatty() else "# "  # so that programs can tell the table from what is said about it
    for line in heading(result):
        typer.echo(f"{mark}{line}")
    print_table(table(result, top))
    if out is not None:
        typer.echo(f"{mark}kept in {out}")


def write(result: "xarray.DataArray | xarray.Dataset | xarray.DataTree", out: Path | None) -> None:
    """The result as `.nc`, or its figures as `.html`."""
    if out is None:
        return
    if out.suffix == ".html":
        from unweave.views import report

        if "prompt" not in result.dims:
            raise InputError("--out: a summary has no figure, as its prompts are averaged; give the result itself")
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


def heading(result: "xarray.DataArray | xarray.Dataset | xarray.DataTree") -> list[str]:
    """What was asked of which model, and what the numbers mean."""
    from unweave.results.labels import number
    from unweave.views.wording import counted

    # A summary of several sites has its attributes in each of them.
    first = result if result.attrs else next(iter(dict(result).values()))
    attrs = first.attrs
    says = {key: str(value) for key, value in attrs.items()}
    prompts = f"{counted(int(says.get('n_prompts', 0)), 'prompt')}, corruption {says.get('corruption', '')}"
    lines = [f"{says.get('model', '')}: {says.get('method', '')}, task {says.get('task', '')}, {prompts}"]
    if "clean" in result.coords and "corrupted" in result.coords:
        clean, corrupted = (number(float(result.coords[side].mean())) for side in ("clean", "corrupted"))
        scores = f"{clean} on the clean prompts, {corrupted} on the corrupted ones"
        lines.append(f"mean {says.get('metric', 'metric')}: {scores} ({says.get('unit', '')})")
    if says.get("zero") and says.get("one"):
        lines.append(f"0: {says['zero']}; 1: {says['one']}")
    return [*lines, says["notes"]] if says.get("notes") else lines


def table(result: "xarray.DataArray | xarray.Dataset | xarray.DataTree", top: int | None) -> "Table":
    """The `top` largest cells, or every cell of a result with one axis in its own order."""
    from unweave.results import summary
    from unweave.results import top as largest
    from unweave.results.labels import number
    from unweave.views.blocks import Table
    from unweave.views.tables import top_table
    from unweave.views.wording import interval

    if top is not None:
        return top_table(largest(result, top))
    means = summary(result)  # type: ignore[arg-type]
    (dim,) = map(str, means["mean"].dims)
    columns = [means[name].to_numpy().tolist() for name in (dim, "mean", "low", "high")]
    rows = tuple((str(name), number(mean), interval(low, high)) for name, mean, low, high in zip(*columns, strict=True))
    return Table((dim, str(result.attrs["quantity"]), "95 % interval"), rows)


def print_table(table: "Table") -> None:
    """A table for people on a terminal; in a pipe, columns between tabs, a header first, for programs."""
    if sys.stdout.isatty():
        from rich.console import Console

        from unweave.views.tables import rich_table

        Console().print(rich_table(table))
        return
    for row in ((table.header[0] or "cell", *table.header[1:]), *table.rows):
        typer.echo("\t".join(cell.replace("\u00a0", " ").replace("−", "-") for cell in row))
