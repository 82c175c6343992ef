"""`unweave study TASK`: a whole investigation, and its report."""

from pathlib import Path
from typing import Annotated

import typer

from unweave.cli import output
from unweave.cli.options import ASKED, DEFAULT_MODEL, Corruption, Device, Dtype, ModelName
from unweave.cli.terminal import NOT_DONE, fail, stoppable


@stoppable
def run(
    task: Annotated[
        str, typer.Argument(help="A name (see `unweave tasks`), or your file of pairs: .jsonl, .csv, .json.")
    ],
    model: ModelName = DEFAULT_MODEL,
    prompts: Annotated[
        int | None, typer.Option(min=1, help="How many prompts to sweep.", rich_help_panel=ASKED)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the prompts that are made; 0, if left out.", rich_help_panel=ASKED),
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

    Exit status 1: the model does not do the task, so that nothing was swept.

    Example: unweave study ioi --quick --out short
    """
    from unweave.studies.study import study
    from unweave.studies.subject import Settings, check_name

    check_name(task)
    output.check_folder(out)
    settings = Settings(
        task=task,
        model=model,
        prompts=prompts,
        seed=seed,
        corruption=corruption,
        out=out,
        device=device,
        dtype=dtype,
        bos=bos,
        quick=quick,
        anyway=anyway,
    )
    outcome = study(settings, typer.echo)
    if outcome.shortfall:
        said = f"the model does not do the task, so nothing was swept: {outcome.shortfall}; --anyway goes on"
        fail(said, status=NOT_DONE)
