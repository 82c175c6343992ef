"""Knockouts: what is lost when activations of the clean run are replaced by zero, a mean, or another prompt's.

Wang et al. 2022 (arXiv 2211.00593) for means by template. Steps:

1. `unweave.methods.replacement` makes the values that replace them.
2. Every head in turn: one sweep, whose donor has these values at the positions asked for. A list: one patch for each
   of its members. A list in the list is one patch of several, later ones seeing what the earlier ones changed.
3. Scores become effects of the clean run: 0 is unharmed.

A query that is zero, and a key that is zero, are the same knockout: all scores are 0, and attention is uniform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from unweave.engine.context import GivenDonor, MaskedDonor, RunDonor, context_of
from unweave.engine.executor import execute
from unweave.engine.patches import patch_runs
from unweave.errors import InputError
from unweave.methods.effect_scale import check_measure, measure_attrs, normalize
from unweave.methods.replacement import Replacement, replacement_of, replacing
from unweave.methods.result_noise import noise_runs
from unweave.methods.targets import JointNodes, ResultGrid, by_name, grid_of, grid_over, joints_of, shared_note
from unweave.methods.to_xarray import Attrs, finished, to_xarray
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.models.run import Edit, where
from unweave.models.sites import parts_of
from unweave.nodes import Node, joint_name
from unweave.progress import Progress
from unweave.registry import WITHOUT, Claim, Method, register

KNOCKOUT = register(
    Method(
        "knockout",
        WITHOUT,
        claim=Claim(
            does=("is missed most", "are missed most"),
            change=("{instead} in place of its {noun}", "{instead} in place of their {noun}"),
            restored=("", "costs"),
            corrupted=("", "costs"),
            against="without {name} the answer {gains}",
            none="No {noun} is missed with {instead} in its place",
            one="Not significantly different from 0 with {instead} in its place",
        ),
        asked=lambda says, dims: _asked(says, dims),
    )
)

At = str | Sequence[str] | None


def knockout(
    pair: Contrast,
    heads: JointNodes | None = None,
    how: str | Replacement = "zero",
    at: At = None,
    joint: bool = False,
    measure: str = "effect",
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
    source: str | Prompts | None = None,
) -> xr.DataArray:
    """Effects of knocking activations out of the clean run.

    Args:
        pair: the model, both sets of prompts, and the metric.
        heads: a kind, each of which is knocked out in turn: `"heads"` (their `z`, also when left out), `"q"`, `"k"`,
            `"v"`, `"pattern"`, `"result"`, `"mlps"`, `"attn_out"`, `"layers"`; or one or a list of `(9, 6)`, `"9.6"`,
            `"q 9.6"`, `"v 9.kv1"`, `"mlp 3"`, `"layer 3"`, which are knocked out one by one. A list in the list, or
            `"9.6 + mlp 3"`, is knocked out together.
        how: `"zero"`, `"mean"` (over prompts by position), `"template"` (over the prompts of a template by position),
            `"resample"` (the prompt's of the same number), `"gaussian"`; or a `Replacement` with a seed, or with
            templates of one prompt kept.
        at: a role, or roles that are knocked out together; None for all positions. For a pattern, the destination.
        joint: knock the whole list out together, as a list in a list.
        measure: `"effect"`: (m - clean) / (mean clean - mean corrupted), 0 unharmed, -1 as bad as corrupted; `"drop"`:
            (m - clean) / mean clean, -1 nothing left; `"change"`: m - clean, in the metric's unit.
        memory, progress: as in `patch`.
        source: the prompts that means and resampled values are taken from: `"corrupted"` (if left out), `"clean"`, or
            others.

    Returns:
        `[prompt, layer, head]` (`kv_head` where keys and values are grouped), `[prompt, layer]` for MLPs and layers, or
        `[prompt, address]` for a list. NaN is the metric's own, and `notes` says of how many runs.

    Raises:
        InputError: a target, role or option that does not exist, a target named twice, reference prompts that do not
            fit, a template of one prompt (see `Replacement`).
        Interrupted: Ctrl-C; `partial` holds what was finished.
    """
    check_pair(pair)
    fill = replacement_of(how, source)
    _check(pair, heads, joint, measure)
    plan = _plan(pair, "z" if heads is None else heads, at, joint)
    if plan.noisy and fill.how == "gaussian":
        runs, note = noise_runs(pair, plan.chosen, fill.seed, mask_of(pair, at)), ""
    else:
        values, note = replacing(pair, plan.keys(pair.model.config), fill, memory)
        donor, mask = GivenDonor(values), mask_of(pair, at) if plan.masked else None
        if mask is not None:  # joint patches name their positions themselves
            donor = MaskedDonor(donor, RunDonor(pair.prompts, pair.clean_run), mask)
        runs = patch_runs(context_of(pair, "noise", donor), plan.grid.patches)
    scores = execute(runs, memory, progress, "knocking out")
    notes = [note, *_notes(pair, plan, uniform=fill.how == "zero" and at is None), scores.note()]
    attrs = {**_attrs(pair, fill, at, plan), "notes": "; ".join(filter(None, notes))}
    return finished(_result(pair, plan, scores.values, measure, attrs), scores.stopped)


# Every node of one of these kinds is knocked out in turn; the plurals are words for the same.
KINDS = ("z", "q", "k", "v", "pattern", "result", "attn_out", "mlp_out", "layer")
_WORDS = {"heads": "z", "mlp": "mlp_out", "mlps": "mlp_out", "layers": "layer"}


@dataclass(frozen=True)
class Plan:
    """A knockout's runs: what each of them replaces, and the result's axes.

    `masked` runs replace what the mask of positions says; the others name their positions themselves.
    """

    grid: ResultGrid
    kind: str
    chosen: tuple[tuple[Node, ...], ...]
    masked: bool = False

    def keys(self, config: Config) -> list[tuple[str, int]]:
        """Sites and layers that are replaced."""
        return keys_of(config, [node for nodes in self.chosen for node in nodes])

    @property
    def noisy(self) -> bool:
        """Whether heads are replaced in the residual stream, where a Gaussian is another one than in `z`."""
        return any(node.site == "result" for nodes in self.chosen for node in nodes)


def keys_of(config: Config, nodes: Sequence[Node]) -> list[tuple[str, int]]:
    """Sites and layers of a run that nodes stand for."""
    return list(dict.fromkeys((part.site, part.layer) for node in nodes for part in parts_of(config, node)))


def knockouts_of(config: Config, heads: JointNodes) -> dict[str, tuple[Node, ...]]:
    """Knockouts by name, in the order given, each of one node, or of several together.

    Raises:
        InputError: no node, one that cannot be read or that the model lacks, or one that is named twice.
    """
    joints = joints_of(config, heads, "heads", KINDS)
    whole = [node for nodes in joints for node in nodes if node.part is None and node.kind.rows != "resid"]
    if whole:
        raise InputError(
            f"heads: {str(whole[0])!r} names no head; write '{whole[0]}.0', or 'attn_out {whole[0].layer}'"
        )
    return by_name(config, joints, "heads")


def one_knockout(config: Config, heads: JointNodes) -> tuple[Node, ...]:
    """What is knocked out together: `[(9, 6), "9.9"]`. Raises InputError as `knockouts_of`, and for several lists."""
    knockouts = knockouts_of(config, heads)
    if len(knockouts) > 1 and any(len(nodes) > 1 for nodes in knockouts.values()):
        raise InputError(
            f"heads: expected one knockout, all of it together, got several: {', '.join(knockouts)}; give one list"
        )
    return tuple(node for nodes in knockouts.values() for node in nodes)


def edits_of(
    pair: Contrast, targets: Sequence[Node], given: Mapping[tuple[str, int], Tensor], at: At, rows: range
) -> list[Edit]:
    """The knockout of all targets at once as edits of a plain run of some prompts, whose values are given."""
    places = [pair.prompts.role(role)[rows.start : rows.stop] for role in roles_of(pair, at)] or [None]
    edits = []
    for node in (part for target in targets for part in parts_of(pair.model.config, target)):
        value = given[node.site, node.layer]
        for place in places:
            whole = Edit(node.site, node.layer, value, head=node.part, pos=place)
            edits.append(replace(whole, value=value[where(whole, len(rows), value.device)]))
    return edits


def roles_of(pair: Contrast, at: At) -> tuple[str, ...]:
    """The roles of `at`, each checked. Raises InputError for one that the task lacks, or that is named twice."""
    if at is None:
        return ()
    roles = (at,) if isinstance(at, str) or not isinstance(at, Sequence) else tuple(at)
    if not roles:
        raise InputError("at: no role was given; leave it out for all positions")
    for number, role in enumerate(roles):
        pair.prompts.role(role)
        if role in roles[:number]:
            raise InputError(f"at: role {role!r} is named twice")
    return roles


def mask_of(pair: Contrast, at: At) -> Tensor | None:
    """`[prompt pos]`: the positions that are replaced; None for all."""
    roles = roles_of(pair, at)
    if not roles:
        return None
    mask = torch.zeros(pair.prompts.tokens.shape, dtype=torch.bool, device=pair.model.device)
    rows = torch.arange(len(pair.prompts), device=mask.device)
    for role in roles:
        mask[rows, pair.prompts.role(role)] = True
    return mask


def _check(pair: Contrast, heads: object, joint: bool, measure: str) -> None:
    check_measure(pair, measure)
    if joint and (heads is None or _is_kind(heads)):
        raise InputError("joint: it takes a list of what is knocked out together, heads=[(9, 6), (9, 9)]")


def _is_kind(heads: object) -> bool:
    """Whether a word names every target of a kind, and not a target by its numbers."""
    return isinstance(heads, str) and not any(letter.isdecimal() for letter in heads)


def _plan(pair: Contrast, heads: JointNodes, at: At, joint: bool) -> Plan:
    config, roles = pair.model.config, roles_of(pair, at)
    if _is_kind(heads):
        return _in_turn(pair, _WORDS.get(str(heads), str(heads)), roles)
    chosen = knockouts_of(config, heads)
    if joint:
        nodes = one_knockout(config, heads)
        chosen = {joint_name(nodes): nodes}
    placed = {joint_name(_at(nodes, roles)): nodes for nodes in chosen.values()}
    kinds = {node.name for nodes in chosen.values() for node in nodes}
    kind = kinds.pop() if len(kinds) == 1 else "addresses"
    return Plan(grid_of(config, pair.prompts, placed, roles), kind, tuple(chosen.values()))


def _at(nodes: Sequence[Node], roles: Sequence[str]) -> list[Node]:
    return [replace(node, at=role) for node in nodes for role in roles] or list(nodes)


def _in_turn(pair: Contrast, kind: str, roles: Sequence[str]) -> Plan:
    """Every node of a kind, each on its own."""
    config = pair.model.config
    if kind not in KINDS:
        raise InputError(f"heads: {kind!r} cannot be knocked out; choose among {' '.join([*KINDS, *_WORDS])}")
    if kind == "layer":
        layers = range(config.n_layers)
        chosen = {str(node): (node,) for node in (Node(kind, layer) for layer in layers)}
        grid = replace(grid_of(config, pair.prompts, chosen, roles), axes={"layer": layers})
        return Plan(grid, kind, tuple(chosen.values()))
    site = "z" if kind == "result" else kind
    over = ("layer",) if kind in ("attn_out", "mlp_out") else ("layer", "head")
    grid = grid_over(config, pair.prompts, site, over)
    parts = [coords for axis, coords in grid.axes.items() if axis != "layer"] or [(None,)]
    nodes = tuple((Node(kind, layer, part),) for layer in grid.axes["layer"] for part in parts[0])
    return Plan(grid, nodes[0][0].name, nodes, masked=True)


def _result(
    pair: Contrast, plan: Plan, values: Float[Tensor, "variant prompt"], measure: str, attrs: Attrs
) -> xr.DataArray:
    numbers = normalize(pair, values.to(pair.clean_scores.device), "noise", measure)
    return to_xarray(pair, plan.grid.table(numbers), plan.grid.axes, {**attrs, **measure_attrs(measure)})


def _attrs(pair: Contrast, how: Replacement, at: At, plan: Plan) -> dict[str, str | int | list[str]]:
    return KNOCKOUT.attrs(
        site=plan.kind,
        **how.attrs,
        noise_seed=how.seed if how.how == "gaussian" else -1,
        at=list(roles_of(pair, at)),
    )


def _asked(says: Mapping[str, str], dims: tuple[str, ...]) -> str:
    """How it was asked, in a line."""
    kind = {"mlp": "MLP", "layer": "layer"}.get(says["site"], f"head's {says['site']}")
    return (f"every {kind} in turn, " if "layer" in dims else "") + replaced(says)


def replaced(says: Mapping[str, str]) -> str:
    """What was knocked out together, what replaces it, and where."""
    of = f" of the {says['source']} prompts" if says["source"] in ("clean", "corrupted") else ""
    whom = says.get("knocked_out", "").replace(", ", " + ")
    whom += " together, " if "+" in whom else ", " if whom else ""
    return f"{whom}replaced by: {says['how']}{of}, at {says['at'] or 'all positions'}"


def _notes(pair: Contrast, plan: Plan, uniform: bool) -> list[str]:
    """What shared heads, and zeros at all positions (`uniform`), make of a knockout of queries, keys or values."""
    sites = {site for site, _ in plan.keys(pair.model.config)}
    same = "zero queries, and zero keys that they meet, are one knockout, uniform attention, not two pieces of evidence"
    return [shared_note(pair.model.config, sites)] + [same] * (uniform and bool(sites & {"q", "k"}))
