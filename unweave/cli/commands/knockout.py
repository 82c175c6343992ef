"""`unweave knockout`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from unweave.cli import output, reading
from unweave.cli.options import Memory, Out, Rows
from unweave.cli.question import Question, asking
from unweave.cli.terminal import stoppable
from unweave.errors import InputError, Interrupted

ALL = "all"


@stoppable
@asking
def run(
    question: Question,
    heads: Annotated[
        str | None,
        typer.Option(
            help="Heads one by one, '9.9, q 10.0', or several together, '9.9 + mlp 3'; of k and v key/value heads. "
            "Or a kind, each in turn: z q k v pattern result."
        ),
    ] = None,
    mlps: Annotated[str | None, typer.Option(help="Layers whose MLP goes, one by one: '3, 4'; or all.")] = None,
    layers: Annotated[str | None, typer.Option(help="Layers that go as a whole, one by one: '3, 4'; or all.")] = None,
    how: Annotated[
        Literal["zero", "mean", "template", "resample", "gaussian"] | None,
        typer.Option(
            help="What stands in: zero (if left out), the mean over the prompts or over those of a template by "
            "position, the value of the prompt of the same number, noise."
        ),
    ] = None,
    source: Annotated[
        Literal["clean", "corrupted"] | None,
        typer.Option(help="Whose means or values stand in: the corrupted prompts' (if left out) or the clean ones'."),
    ] = None,
    lone: Annotated[
        Literal["refuse", "keep"],
        typer.Option(help="A template of one prompt, whose mean is that prompt: refuse it, or keep it as it is."),
    ] = "refuse",
    at: Annotated[
        str | None, typer.Option(help="Roles (named positions) where it goes: 'S2, end'; all, if left out.")
    ] = None,
    measure: Annotated[
        Literal["effect", "drop", "change"],
        typer.Option(
            help="effect: share of the gap between clean and corrupted; drop: share of the clean score; "
            "change: in the metric's unit."
        ),
    ] = "effect",
    backups: Annotated[
        bool,
        typer.Option(
            "--backups", help="Which other heads step in without --heads '9.9 + 10.0' (how: mean, if left out)."
        ),
    ] = False,
    memory: Memory = None,
    out: Out = None,
    top: Rows = 10,
) -> None:
    """Knockouts: what the answer loses without some heads, MLPs or layers; without a list, without every head in turn.

    Example: unweave knockout --heads '23.3, 20.0, 23.3 + 20.0' --how mean --at end
    """
    from unweave.methods.backup import backup_heads
    from unweave.methods.knockout import knockout
    from unweave.methods.replacement import replacement_of

    output.check_file(out)
    budget = reading.memory(memory)
    targets = targets_of(heads, mlps, layers)
    roles = None if at is None else reading.names(at, "--at")
    if backups:
        _check_backups(heads, targets, measure)
    fill = replace(replacement_of(how or ("mean" if backups else "zero"), source), lone=lone)
    pair = question.contrast()
    if backups:
        output.give(backup_heads(pair, list(targets), fill, roles), out, top)
        return
    try:
        result = knockout(pair, targets, fill, roles, measure=measure, memory=budget)
    except Interrupted as stop:
        raise output.kept(stop, out or Path("knockout.nc")) from None
    output.give(result, out, top)


def targets_of(heads: str | None, mlps: str | None, layers: str | None) -> str | Sequence[str]:
    """What goes: a kind, of which each goes in turn, or a list. Raises InputError for both, and for several kinds."""
    from unweave.methods.knockout import KINDS
    from unweave.nodes import read_nodes

    given = {"--heads": heads, "--mlps": mlps, "--layers": layers}
    listed = {option: reading.names(text, option) for option, text in given.items() if text is not None}
    kinds = {"--heads": "z", "--mlps": "mlp", "--layers": "layer"}
    turns = [option for option, found in listed.items() if found == (ALL,)]
    if heads in (*KINDS, "mlp"):
        turns.append("--heads")
        kinds["--heads"] = heads
    if turns and len(listed) > 1:
        raise InputError(f"{turns[0]}: all of a kind go in turn, so nothing else can go with them; give it alone")
    if turns or not listed:
        return kinds[turns[0] if turns else "--heads"]
    for name in listed.get("--heads", ()):
        read_nodes(name, "--heads")
    for option in ("--mlps", "--layers"):
        _check_numbers(listed.get(option, ()), option)
    word = {"--heads": "", "--mlps": "mlp ", "--layers": "layer "}
    return [f"{word[option]}{name}" for option, found in listed.items() for name in found]


def _check_numbers(found: Sequence[str], option: str) -> None:
    wrong = next((name for name in found if not name.lstrip("-").isdecimal()), None)
    if wrong is not None:
        raise InputError(f"{option}: expected numbers of layers such as '3, 4', or all, got {wrong!r}")


def _check_backups(heads: str | None, targets: str | Sequence[str], measure: str) -> None:
    from unweave.nodes import read_nodes

    named = [] if isinstance(targets, str) else [node for target in targets for node in read_nodes(target, "--heads")]
    if heads is None or isinstance(targets, str) or any(node.site != "z" or node.part is None for node in named):
        raise InputError("--backups: it takes heads alone: --heads 9.9, or several together, --heads '9.9 + 10.0'")
    if len(targets) > 1:
        raise InputError(f"--backups: it is of one knockout; write --heads '{' + '.join(targets)}' for all together")
    if measure != "effect":
        raise InputError("--backups: the result is the growth of other heads; drop --measure")
