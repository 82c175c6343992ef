"""The commands of single methods: each reads its options into a call of the function of `unweave` that it names."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import typer

import unweave as uw
from unweave.cli.options import Lone, listed, places
from unweave.cli.question import method_command
from unweave.errors import InputError
from unweave.nodes import check_once, read_nodes, site_named

Method = Callable[..., Any]
Denoise = Annotated[
    Literal["denoise", "noise"],
    typer.Option(help="denoise: clean values into the corrupted run; noise: the other way round."),
]
Noise = Annotated[
    Literal["noise", "denoise"],
    typer.Option(help="noise: corrupted values into the clean run; denoise: the other way round."),
]
Measure = Annotated[
    Literal["effect", "drop", "change"],
    typer.Option(
        help="effect: share of the gap between clean and corrupted; drop: share of the clean score; "
        "change: in the metric's unit."
    ),
]
_BY_HEAD = {"z", "q", "k", "v", "pattern"}


@method_command()
def attribute(
    by: Annotated[
        Literal["component", "layer", "head", "neuron"], typer.Option(help="The parts that share out the answer.")
    ] = "head",
) -> Method:
    """Direct logit attribution: what each part adds to the answer by itself, the largest printed.

    Example: unweave attribute --by component --prompts 16
    """
    return partial(uw.attribute, by=by)


@method_command(rows=None)
def lens(
    mid: Annotated[bool, typer.Option("--mid/--no-mid", help="Read between attention and MLP too.")] = True,
    norm: Annotated[
        Literal["final", "own"], typer.Option(help="The norm's scale: of the last stage, or of each stage itself.")
    ] = "final",
) -> Method:
    """Logit lens: the answer that the residual stream holds after every layer; all in their order without --top.

    Example: unweave lens --task ioi-fixed --out lens.html
    """
    return partial(uw.logit_lens, mid=mid, norm=norm)


@method_command()
def edges(
    how: Annotated[
        Literal["verified", "exact", "local", "gradient", "integrated", "integrated activations", "both ends"],
        typer.Option(
            help="exact: a run for each edge; gradient: EAP; integrated: EAP-IG; local: the receiver exactly, the "
            "rest linear; verified: the largest by gradient or local, exactly, and a random sample of the others."
        ),
    ] = "verified",
    senders: Annotated[str | None, listed("Where edges begin: 'embed, 20.0, mlp 3'; everything, if left out.")] = None,
    receivers: Annotated[
        str | None, listed("Where they end: 'q 23.3, v 23.1, mlp 3, logits' (k, v: of key/value heads).")
    ] = None,
    at: Annotated[str | None, typer.Option(help="A role where senders send; all positions, if left out.")] = None,
    direction: Noise = "noise",
    verify: Annotated[
        int, typer.Option(min=1, help="How many of the largest edges are run, with --how verified.")
    ] = 1000,
    control: Annotated[int, typer.Option(min=0, help="How many others, drawn at random, are run as a control.")] = 500,
) -> Method:
    """Edges: how much each component acts through what it writes to each later one.

    Example: unweave edges --how exact --receivers 'q 23.3' --prompts 16
    """
    options = {"how": how, "direction": direction, "verify": verify, "control": control}
    return partial(uw.edges, senders=senders, receivers=receivers, at=at, **options)


@method_command()
def path(
    receivers: Annotated[
        str,
        typer.Option(
            help="Where paths end: logits, or inputs together: '8.10 q, 8.1 v, mlp 9' (k, v: of key/value heads)."
        ),
    ] = "logits",
    senders: Annotated[
        str,
        typer.Option(
            help="Where they begin: heads or mlps, each in turn, or a list: '9.6, mlp 3, embed'; 9.6+9.9 send together."
        ),
    ] = "heads",
    at: Annotated[
        str | None,
        typer.Option(
            help="A role (a named position such as end) where both stand, or the sender's and the receiver's, S2:end; "
            "all positions, if left out."
        ),
    ] = None,
    direction: Noise = "noise",
    mlps: Annotated[
        Literal["live", "frozen"],
        typer.Option(help="live: paths go through MLPs, as in arXiv 2211.00593; frozen: only the direct edge."),
    ] = "live",
    attention: Annotated[
        Literal["z", "qkv"],
        typer.Option(help="What is held in other heads: z, their outputs, as there; qkv, their inputs."),
    ] = "z",
    measure: Measure = "effect",
) -> Method:
    """Path patching: how much each sender acts through chosen receivers, all other heads held as they were.

    Example: unweave path --receivers '23.3 q' --at end --prompts 16
    """
    to = places(receivers, "--receivers", ("logits",), ("q", "k", "v", "mlp_out"))
    begin = places(senders, "--senders", ("heads", "mlps"), ("z", "mlp_out", "embed"))
    options = {"direction": direction, "mlps": mlps, "attention": attention, "measure": measure}
    return partial(uw.path_patch, receivers=to, senders=begin, at=_sides(at), **options)


def _sides(text: str | None) -> str | tuple[str | None, str | None] | None:
    """A role, or `sender's:receiver's`, where nothing before or after the colon is all positions."""
    if text is None:
        return None
    if not text.strip(" :") or text.count(":") > 1:
        raise InputError(f"--at: expected a role, or two as in S2:end, got {text!r}")
    if ":" not in text:
        return text.strip()
    sends, _, receives = text.partition(":")
    return sends.strip() or None, receives.strip() or None


@method_command()
def patch(
    sites: Annotated[
        list[str],
        typer.Argument(
            help="Sites to sweep over: resid_pre, resid_mid, resid_post, attn_out, mlp_out, or of heads z (output), "
            "q, k, v, pattern. Or single places in quotes: 'z 23.3' 'resid_pre 5 @S2' 'z 23.3 + z 20.0' (together)."
        ),
    ],
    over: Annotated[
        str | None,
        listed(
            "Axes of the sweep: layer,head or layer,pos or layer,role or layer,head,role …, where a role is a "
            "named position such as S2; if left out, layer,head of heads and layer,role of the rest."
        ),
    ] = None,
    direction: Denoise = "denoise",
) -> Method:
    """Activation patching: the effect of every single patch, the largest printed.

    Example: unweave patch z --over layer,head --prompts 16 --out heads.html
    """
    single = any(" " in site.strip() for site in sites)
    for site in sites:
        _ = read_nodes(site, "sites") if single else site_named(site)
    check_once([" ".join(site.split()) for site in sites], "sites")
    if single and over is not None:
        raise InputError(f"--over: single places such as {sites[0]!r} have no axes to sweep over; leave it out")
    if single:
        return partial(uw.patch_at, addresses=sites, direction=direction)
    of_heads = {site.rpartition("hook_")[2] for site in sites} <= _BY_HEAD
    axes = over or ("layer", "head" if of_heads else "role")
    return partial(uw.patch, sites=sites if len(sites) > 1 else sites[0], over=axes, direction=direction)


@method_command()
def knockout(
    heads: Annotated[
        str | None,
        listed(
            "Heads one by one, '9.9, q 10.0', or several together, '9.9 + mlp 3'; of k and v key/value heads. "
            "Or a kind, each in turn: z q k v pattern result."
        ),
    ] = None,
    mlps: Annotated[str | None, listed("Layers whose MLP goes, one by one: '3, 4'; or all.")] = None,
    layers: Annotated[str | None, listed("Layers that go as a whole, one by one: '3, 4'; or all.")] = None,
    how: Annotated[
        Literal["zero", "mean", "template", "resample", "gaussian"] | None,
        typer.Option(
            help="What replaces them: zero (if left out), the mean over the prompts or over those of a template by "
            "position, the value of the prompt of the same number, noise."
        ),
    ] = None,
    source: Annotated[
        Literal["clean", "corrupted"] | None,
        typer.Option(
            help="Whose means or values replace them: the corrupted prompts' (if left out) or the clean ones'."
        ),
    ] = None,
    lone: Lone = "refuse",
    at: Annotated[str | None, listed("Roles (named positions) where it goes: 'S2, end'; all, if left out.")] = None,
    measure: Measure = "effect",
    backups: Annotated[
        bool,
        typer.Option(
            "--backups", help="Which other heads step in without --heads '9.9 + 10.0' (how: mean, if left out)."
        ),
    ] = False,
) -> Method:
    """Knockouts: what the answer loses without some heads, MLPs or layers; without a list, without every head in turn.

    Example: unweave knockout --heads '23.3, 20.0, 23.3 + 20.0' --how mean --at end
    """
    targets = _targets({"--heads": heads, "--mlps": mlps, "--layers": layers})
    if backups:
        _check_backups(targets, measure)
    from unweave.methods.replacement import replacement_of

    fill = replace(replacement_of(how or ("mean" if backups else "zero"), source), lone=lone)
    if backups:
        return partial(uw.heads.backup_heads, knocked_out=list(targets), how=fill, at=at)
    return partial(uw.knockout, heads=targets, how=fill, at=at, measure=measure)


# Of each option that names what goes: the kind that goes in turn, and what a place's name begins with.
_GOING = {"--heads": ("z", ""), "--mlps": ("mlp", "mlp "), "--layers": ("layer", "layer ")}


def _targets(given: dict[str, Any]) -> str | list[str]:
    """What goes: a kind, of which each goes in turn, or a list. Raises InputError for both, and for several kinds."""
    given = {option: found for option, found in given.items() if found is not None}
    turns = {option: _GOING[option][0] for option, found in given.items() if found == ("all",)}
    if len(given.get("--heads", ())) == 1 and not any(letter.isdigit() for letter in given["--heads"][0]):
        turns["--heads"] = given["--heads"][0].replace("all", "z")
    if turns and len(given) > 1:
        raise InputError(f"{min(turns)}: all of a kind go in turn, so nothing else can go with them; give it by itself")
    if turns or not given:
        return next(iter(turns.values()), "z")
    for option, found in given.items():
        for name in found:
            if option == "--heads":
                read_nodes(name, option)
            elif not name.lstrip("-").isdecimal():
                raise InputError(f"{option}: expected numbers of layers such as '3, 4', or all, got {name!r}")
    return [f"{_GOING[option][1]}{name}" for option, found in given.items() for name in found]


def _check_backups(targets: str | list[str], measure: str) -> None:
    nodes = [] if isinstance(targets, str) else [node for target in targets for node in read_nodes(target, "--heads")]
    if not nodes or any(node.site != "z" or node.part is None for node in nodes):
        raise InputError("--backups: it takes only heads: --heads 9.9, or several together, --heads '9.9 + 10.0'")
    if len(targets) > 1:
        raise InputError(f"--backups: it is of one knockout; write --heads '{' + '.join(targets)}' for all together")
    if measure != "effect":
        raise InputError("--backups: the result is the growth of other heads; drop --measure")
