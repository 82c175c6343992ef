"""`unweave tasks`."""

import typer

from unweave.cli import output
from unweave.cli.terminal import stoppable


@stoppable
def run() -> None:
    """The tasks known by name, their corruptions, and the metrics."""
    from unweave.metrics import METRICS
    from unweave.tasks import TASKS
    from unweave.tasks.flips import NAMED
    from unweave.views.blocks import Table

    output.print_table(
        Table(
            ("task", "what is asked", "corruptions"),
            tuple((name, info.description, ", ".join(info.corruptions)) for name, info in TASKS.items()),
        )
    )
    output.print_table(Table(("corruption of ioi", "pattern"), tuple(NAMED.items())))
    output.print_table(
        Table(("metric", "what it is"), tuple((name, _first_line(kind)) for name, kind in METRICS.items()))
    )
    typer.echo("Or a file of pairs, .jsonl, .csv or .json, with clean, corrupted, answer and wrong in each line.")


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]
