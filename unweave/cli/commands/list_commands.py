"""The commands that list what is known by name."""

import typer

import unweave as uw
from unweave.cli.terminal import stoppable


@stoppable
def models() -> None:
    """The models known by name, and what else can be loaded."""
    from unweave.cli import output
    from unweave.models import default, families, shipped

    place = {model.name: f"fetched on first use, {model.n_bytes / 1e6:.0f} MB" for model in default.KNOWN.values()}
    place |= {model.name: "here" for model in default.KNOWN.values() if model.converted.is_dir()}
    rows = [
        (model.name, model.description, model.licence, place.get(model.name, "comes with unweave"))
        for model in (*default.KNOWN.values(), *shipped.SHIPPED.values())
    ]
    output.print_rows(("name", "what it is", "licence", "files"), rows)
    typer.echo(f"What is fetched is kept in {default.home()}; UNWEAVE_HOME names another folder.")
    names = ", ".join(families.FAMILIES)
    typer.echo(f"Also: a folder in Hugging Face layout, a .gguf file, or a hub id, of the families {names}.")


@stoppable
def tasks() -> None:
    """The tasks known by name, their corruptions, and the metrics."""
    from unweave.cli import output
    from unweave.tasks.flips import NAMED

    tasks = [(name, info.description, ", ".join(info.corruptions)) for name, info in uw.tasks.TASKS.items()]
    metrics = [(name, (kind.__doc__ or "").partition("\n")[0]) for name, kind in uw.metrics.METRICS.items()]
    output.print_rows(("task", "what is asked", "corruptions"), tasks)
    output.print_rows(("corruption of ioi", "pattern"), NAMED.items())
    output.print_rows(("metric", "what it is"), metrics)
    typer.echo("Or a file of pairs, .jsonl, .csv or .json, with clean, corrupted, answer and wrong in each line.")
