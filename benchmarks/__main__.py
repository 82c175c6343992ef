"""`python -m benchmarks`: the table of both sides on the eight fixed prompts of indirect object identification."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

import unweave as uw
from benchmarks import by_hand, machine, table, theirs
from benchmarks.compare import Options, Row, compare
from benchmarks.sweeps import ABC, SWAP, SWEEPS, Paths, Sweep
from unweave.errors import InputError, UnweaveError
from unweave.models.default import KNOWN
from unweave.models.loading import DEFAULT_MODEL

QUICK_SAMPLE = 12


def main(
    sample: Annotated[int, typer.Option(min=0, help="Patches of each TransformerLens loop to run; 0 runs all.")] = 100,
    only: Annotated[list[str] | None, typer.Option(help="A sweep to run, instead of all; may be repeated.")] = None,
    corruption: Annotated[list[str] | None, typer.Option(help="swap or ABC, instead of both; may be repeated.")] = None,
    quick: Annotated[bool, typer.Option(help=f"{QUICK_SAMPLE} patches a loop, and each of ours once.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of ours, the median counts; fewer of a long one.")] = 3,
    memory: Annotated[float, typer.Option(min=0.05, help="Budget of our sweeps in gigabytes.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the random part of the patches.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the table as JSON here as well.")] = None,
) -> None:
    """Time unweave and TransformerLens side by side on SmolLM2-135M, float32 on the CPU."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    options = Options(
        sample=QUICK_SAMPLE if quick else sample,
        repeats=1 if quick else repeats,
        memory=int(memory * table.GIGA),
        seed=seed,
    )
    try:
        sweeps, corruptions = _chosen(only, corruption)
        rows = list(_rows(console, sweeps, corruptions, options))
        setting = machine.describe() | {"TransformerLens": theirs.version(), "unweave": uw.__version__}
        table.show(console, rows, setting)
        if out is not None:
            table.write(out, rows, setting)
    except (UnweaveError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if not all(row.agrees for row in rows):
        raise typer.Exit(1)


def _rows(console: Console, sweeps: list[Sweep | Paths], corruptions: list[str], options: Options) -> Iterator[Row]:
    torch.set_grad_enabled(False)
    with console.status("loading the model on both sides"):
        model, bridge, hf = _load()
    task = uw.tasks.ioi_fixed(model, bos=True)
    for corruption in corruptions:
        corrupted = task.corrupt(corruption)
        pair = uw.Contrast(model, task.prompts, corrupted, uw.LogitDiff())
        reference = theirs.prepare(bridge, task.prompts, corrupted)
        for sweep in sweeps:
            with console.status(f"{corruption}: {sweep.name}"):
                yield compare(pair, reference, hf, corruption, sweep, options)


def _load() -> tuple[uw.Model, Any, Any]:
    """The default model on our side and, from the same files, on the other and in transformers."""
    model = uw.load_model(DEFAULT_MODEL, device="cpu", dtype=torch.float32)
    folder = KNOWN[DEFAULT_MODEL].converted
    return model, theirs.load_bridge(folder), by_hand.load(folder)


def _chosen(only: list[str] | None, corruption: list[str] | None) -> tuple[list[Sweep | Paths], list[str]]:
    names, corruptions = [sweep.name for sweep in SWEEPS], [SWAP, ABC]
    for option, given, known in (("--only", only, names), ("--corruption", corruption, corruptions)):
        for name in given or ():
            if name not in known:
                raise InputError(f"{option}: expected one of {', '.join(known)}, got {name!r}")
    return [sweep for sweep in SWEEPS if not only or sweep.name in only], corruption or corruptions


if __name__ == "__main__":
    typer.run(main)
