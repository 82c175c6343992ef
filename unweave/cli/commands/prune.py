"""`unweave prune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unweave.cli import circuits, output, reading
from unweave.cli.options import Memory, Rows
from unweave.cli.question import Question, asking
from unweave.cli.terminal import stoppable
from unweave.errors import InputError, Interrupted

if TYPE_CHECKING:
    from unweave.circuits.circuit import Circuit


@stoppable
@asking
def run(
    question: Question,
    threshold: Annotated[
        float, typer.Option(help="The loss that keeps an edge: in nats by kl, a share of the gap by metric.")
    ] = 0.01,
    by: Annotated[
        Literal["kl", "metric"],
        typer.Option(help="The loss: the KL divergence of the clean run to the circuit's, or what the metric loses."),
    ] = "kl",
    start: Annotated[
        Path | None,
        typer.Option(
            help="What to prune: a circuit of edges (.json), or what `unweave edges --out` kept (.nc), of which the "
            "--first edges are taken. Left out: the whole model, which takes a trial for every edge."
        ),
    ] = None,
    first: Annotated[int, typer.Option(min=1, help="How many edges of --start, the largest first.")] = 1000,
    memory: Memory = None,
    out: Annotated[Path, typer.Option(help="The circuit's file.")] = Path("pruned.json"),
    top: Rows = 10,
) -> None:
    """A circuit of edges: every edge that costs less than a threshold is dropped, from the logits backwards (ACDC).

    Example: unweave prune --start edges.nc --first 500 --threshold 0.02 --by metric
    """
    from unweave.circuits.prune import prune

    output.check_file(out, (".json",))
    budget = reading.memory(memory)
    begun = None if start is None else _circuit(start, first)
    pair = question.contrast()
    try:
        found = prune(pair, threshold, by, start=begun, memory=budget)
    except Interrupted as stop:
        partial = out.with_name(f"{out.stem}.partial.json")
        stop.partial.save(partial)  # pyright: ignore[reportAttributeAccessIssue]
        raise Interrupted(f"the circuit pruned so far is kept in {partial}", stop.partial) from None
    try:
        found.save(out)
    finally:  # also where it cannot be kept: it was the work of minutes
        circuits.give(found, top)
    output.say(f"kept in {out}")


def _circuit(path: Path, first: int) -> "Circuit":
    from unweave.circuits.circuit import Circuit
    from unweave.results import load

    if path.suffix == ".json":
        return Circuit.load(path)
    if path.suffix != ".nc":
        raise InputError(f"--start: expected a file that ends in .json or .nc, got {path}")
    return Circuit.from_edges(load(path), first)  # pyright: ignore[reportArgumentType]
