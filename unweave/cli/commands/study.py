"""`unweave study TASK`: a whole investigation, and its report."""

from pathlib import Path
from typing import Annotated

import typer

from unweave.cli import output
from unweave.cli.options import ASKED, DEFAULT_MODEL, Corruption, Device, Dtype
from unweave.cli.terminal import NOT_DONE, fail, stoppable


@stoppable
def run(
    task: Annotated[
        str,
        typer.Argument(help="A name (see `unweave tasks`), `palindrome`, or your file of pairs: .jsonl, .csv, .json."),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help=f"A name (see `unweave models`), a folder, a file or a hub id; {DEFAULT_MODEL}, if left out, and for "
            "`palindrome` the classifier of that name.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="`palindrome` alone: a JSON file with the shape of a state dict; the usual shape, if left out.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    prompts: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many prompts to sweep; `palindrome`: the most of any kind.", rich_help_panel=ASKED
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the prompts that are made; the study's own, if left out.", rich_help_panel=ASKED),
    ] = None,
    corruption: Corruption = None,
    bos: Annotated[
        bool | None,
        typer.Option(
            "--bos/--no-bos",
            help="A beginning-of-sequence token in front; as the task has it, if neither.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report and the results.")] = Path("report"),
    device: Device = None,
    dtype: Dtype = "float32",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer prompts and sweeps, in a quarter of the time.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Go on where the model does not do the task.")] = False,
) -> None:
    """A whole investigation: does the model do the task, where does the answer come from, by which circuit; a report.

    Exit status 1: nothing was swept, as the model does not do the task or the corruption takes nothing away.

    Example: unweave study ioi --quick --out short
    """
    from unweave.studies.study import Settings, check, study

    settings = Settings(
        task=task,
        model=model,
        config=config,
        prompts=prompts,
        seed=seed,
        corruption=corruption,
        bos=bos,
        out=out,
        device=device,
        dtype=dtype,
        quick=quick,
        anyway=anyway,
    )
    check(settings)
    output.check_folder(out)
    shortfall = study(settings, typer.echo).shortfall
    if shortfall:
        said = f"nothing was swept, as there is nothing to explain: {shortfall}; --anyway goes on"
        fail(said, status=NOT_DONE)
