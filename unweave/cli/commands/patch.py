"""`unweave patch`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unweave.cli import output, reading
from unweave.cli.options import Memory, Out, Rows
from unweave.cli.question import Question, asking
from unweave.cli.terminal import stoppable
from unweave.errors import InputError, Interrupted


@stoppable
@asking
def run(
    sites: Annotated[
        list[str],
        typer.Argument(
            help="Sites to sweep over: resid_pre, resid_mid, resid_post, attn_out, mlp_out, or of heads z (output), "
            "q, k, v, pattern. Or single places in quotes: 'z 23.3' 'resid_pre 5 @S2' 'z 23.3 + z 20.0' (together)."
        ),
    ],
    question: Question,
    over: Annotated[
        str | None,
        typer.Option(
            help="Axes of the sweep: layer,head or layer,pos or layer,role or layer,head,role …, where a role is a "
            "named position such as S2; if left out, layer,head of heads and layer,role of the rest."
        ),
    ] = None,
    direction: Annotated[
        Literal["denoise", "noise"],
        typer.Option(help="denoise: clean values into the corrupted run; noise: the other way round."),
    ] = "denoise",
    memory: Memory = None,
    out: Out = None,
    top: Rows = 10,
) -> None:
    """Activation patching: the effect of every single patch, the largest printed.

    Example: unweave patch z --over layer,head --prompts 16 --out heads.html
    """
    from unweave.methods.patching import patch, patch_at

    output.check_file(out)
    budget = reading.memory(memory)
    single = reading.are_nodes(sites)
    if single and over is not None:
        raise InputError(f"--over: single places such as {sites[0]!r} have no axes to sweep over; leave it out")
    pair = question.contrast()
    try:
        if single:
            result = patch_at(pair, sites, direction, budget)
        else:
            asked = sites if len(sites) > 1 else sites[0]
            result = patch(pair, asked, reading.axes(over, sites), direction, budget)
    except Interrupted as stop:
        raise output.kept(stop, out or Path("patch.nc")) from None
    output.give(result, out, top)
