"""The command of a whole investigation, and its report."""

from pathlib import Path
from typing import Annotated

import typer

from unweave.cli.options import DEFAULT_MODEL, Corruption, Device, Dtype, asked, check_folder
from unweave.cli.terminal import NOT_DONE, fail, stoppable


@stoppable
def study(
    task: Annotated[
        str,
        typer.Argument(help="A name (see `unweave tasks`), `palindrome`, or your file of pairs: .jsonl, .csv, .json."),
    ],
    model: Annotated[
        str | None,
        asked(
            help=f"A name (see `unweave models`), a folder, a file or a hub id; {DEFAULT_MODEL}, if left out, and for "
            "`palindrome` the classifier of that name."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        asked(help="Only for `palindrome`: a JSON file with the shape of a state dict; the usual shape, if left out."),
    ] = None,
    prompts: Annotated[
        int | None,
        asked(min=1, help="How many prompts to sweep; `palindrome`: the most of any kind."),
    ] = None,
    seed: Annotated[
        int | None,
        asked(help="Seed of the prompts that are made; the study's own, if left out."),
    ] = None,
    corruption: Corruption = None,
    bos: Annotated[
        bool | None,
        asked("--bos/--no-bos", help="A beginning-of-sequence token in front; as the task has it, if neither."),
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
    options = dict(locals())
    from unweave.studies import study as studies

    settings = studies.Settings(**options)
    studies.check(settings)
    check_folder(out)
    shortfall = studies.study(settings, typer.echo).shortfall
    if shortfall:
        said = f"nothing was swept, as there is nothing to explain: {shortfall}; --anyway goes on"
        fail(said, status=NOT_DONE)
