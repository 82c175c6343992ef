"""The commands. Each checks what can be checked beforehand, asks one method, and prints what it found."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.exceptions import TyperException

from unweave import __version__
from unweave.cli import output
from unweave.cli.question import DEFAULT_MODEL, Device, Dtype, ModelName, Question, Seed, asking
from unweave.cli.terminal import MISTAKE, fail, stoppable
from unweave.errors import Interrupted, UnweaveError

app = typer.Typer(
    help="Finds the circuit that a transformer language model uses for a task, and tests it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
study = typer.Typer(help="A whole investigation, and its report.", no_args_is_help=True)
app.add_typer(study, name="study")

Out = Annotated[Path | None, typer.Option(help="Keep the result: .nc to go on with, .html to look at.")]
Rows = Annotated[int, typer.Option("--top", min=1, help="How many rows to print.")]


def main() -> None:
    """The command, from the shell's arguments to an exit status."""
    try:
        status = app(prog_name="unweave", standalone_mode=False)
    except (UnweaveError, OSError) as error:
        fail(error)
    except TyperException as error:
        # Without a message the help has been printed in its place.
        message = error.format_message()
        if message:
            fail(message.replace(": Value error, ", ": "))
        status = MISTAKE
    raise SystemExit(status if isinstance(status, int) else 0)


@app.callback(invoke_without_command=True)
def _unweave(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"unweave {__version__}")
        raise typer.Exit


@study.command("ioi")
@stoppable
def _study_ioi(
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
    """Indirect object identification: whether the model does it, where the answer comes from, and the report."""
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


@app.command("patch")
@stoppable
@asking
def _patch(
    sites: Annotated[
        list[str],
        typer.Argument(
            help="Sites to sweep over (z, resid_pre, …), or single places in quotes: 'z 23.3' 'resid_pre 5 @S2'."
        ),
    ],
    question: Question,
    over: Annotated[
        str | None, typer.Option(help="Axes of the sweep: layer,head or layer,pos or layer,role or layer,head,role …")
    ] = None,
    direction: Annotated[
        Literal["denoise", "noise"],
        typer.Option(help="denoise: clean values into the corrupted run; noise: the other way round."),
    ] = "denoise",
    memory: Annotated[
        str | None,
        typer.Option(help="What the sweep may hold: 2GB, or a share of what is free, 0.3; half of that, if left out."),
    ] = None,
    out: Out = None,
    top: Rows = 10,
) -> None:
    """Activation patching: the effect of every single patch, the largest printed."""
    from unweave.methods.patching import patch, patch_at

    output.check_file(out)
    budget = output.memory(memory)
    single = output.are_addresses(sites)
    pair = question.contrast()
    try:
        if single:
            result = patch_at(pair, sites, direction, budget)
        else:
            asked = sites if len(sites) > 1 else sites[0]
            result = patch(pair, asked, output.axes(over, sites), direction, budget)
    except Interrupted as stop:
        raise output.kept(stop, out or Path("patch.nc")) from None
    output.give(result, out, top)


@app.command("lens")
@stoppable
@asking
def _lens(
    question: Question,
    mid: Annotated[bool, typer.Option("--mid/--no-mid", help="Read between attention and MLP too.")] = True,
    out: Out = None,
) -> None:
    """Logit lens: the answer that the residual stream holds after every layer."""
    from unweave.methods.attribution import logit_lens

    output.check_file(out)
    output.give(logit_lens(question.contrast(), mid), out)


@app.command("attribute")
@stoppable
@asking
def _attribute(
    question: Question,
    by: Annotated[
        Literal["component", "layer", "head", "neuron"], typer.Option(help="The parts that share out the answer.")
    ] = "head",
    out: Out = None,
    top: Rows = 10,
) -> None:
    """Direct logit attribution: what each part adds to the answer by itself, the largest printed."""
    from unweave.methods.attribution import attribute

    output.check_file(out)
    output.give(attribute(question.contrast(), by), out, top)


@app.command("show")
@stoppable
def _show(
    file: Annotated[Path, typer.Argument(help="A result that was saved (.nc).")],
    out: Annotated[Path | None, typer.Option(help="Write the figure to this .html file.")] = None,
    browse: Annotated[bool, typer.Option("--open", help="Open the figure in a browser.")] = False,
    top: Rows = 10,
) -> None:
    """A saved result: the largest values printed, and its figure."""
    from unweave.results import load

    output.check_file(out, (".html",))
    result = load(file)
    if browse and out is None:
        out = file.with_suffix(".html")
        output.check_file(out, (".html",))
    output.give(result, out, top)
    if browse and out is not None:
        typer.launch(out.resolve().as_uri())


@app.command("models")
def _models() -> None:
    """The models known by name, and what else can be loaded."""
    output.models()


@app.command("tasks")
def _tasks() -> None:
    """The tasks known by name, their corruptions, and the metrics."""
    output.tasks()
