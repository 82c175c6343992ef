"""`unweave study TASK`: a whole investigation, and its report."""

from pathlib import Path
from typing import Annotated

import typer

from unweave.cli import output
from unweave.cli.options import DEFAULT_MODEL, Device, Dtype, ModelName, Seed
from unweave.cli.terminal import stoppable

study = typer.Typer(help="A whole investigation, and its report.", no_args_is_help=True)


@study.command("ioi")
@stoppable
def ioi(
    model: ModelName = DEFAULT_MODEL,
    prompts: Annotated[int | None, typer.Option(min=2, help="How many prompts to make.")] = None,
    seed: Seed = 0,
    corruption: Annotated[str, typer.Option(help="How prompts are corrupted: see `unweave tasks`.")] = "swap",
    bos: Annotated[bool, typer.Option("--bos/--no-bos", help="A beginning-of-sequence token in front.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for the report and the results.")] = Path("report"),
    device: Device = None,
    dtype: Dtype = "float32",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer prompts and sweeps, in a quarter of the time.")] = False,
) -> None:
    """Indirect object identification: whether the model does it, where the answer comes from, and the report.

    Example: unweave study ioi --quick --out short
    """
    from unweave.studies.ioi import study_ioi
    from unweave.studies.ioi_subject import IoiSettings

    output.check_folder(out)
    settings = IoiSettings(
        model=model,
        prompts=prompts,
        seed=seed,
        corruption=corruption,
        out=out,
        device=device,
        dtype=dtype,
        bos=bos,
        quick=quick,
    )
    study_ioi(settings, typer.echo)
