"""Knockouts: what is lost when activations of the clean run are replaced by zero, a mean, or another prompt's.

Wang et al. 2022 (arXiv 2211.00593) for means by template. Steps:

1. `unweave.methods.replacement` makes the values that stand in.
2. Every head in turn: one sweep, whose donor has these values at the positions asked for. A list: one patch for each
   of its members. A list in the list is one patch of several, later ones seeing what the earlier ones changed.
3. Scores become effects of the clean run: 0 is unharmed.

A query that is zero, and a key that is zero, are the same knockout: all scores are 0, and attention is uniform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.engine.context import context_of
from unweave.engine.donors import GivenDonor, MaskedDonor, RunDonor
from unweave.engine.executor import execute
from unweave.engine.grid import JointPatch, NodeGrid
from unweave.engine.patches import PatchRuns
from unweave.errors import InputError
from unweave.methods.frame import finished, labelled
from unweave.methods.heads import Knockouts, shared_note
from unweave.methods.knockout_targets import (
    Target,
    every_target,
    knockout_name,
    knockouts_of,
    one_knockout,
    singular,
    sites_of,
)
from unweave.methods.measures import check_measure, measure_attrs, measured
from unweave.methods.replacement import Replacement, replacement_of, replacing
from unweave.methods.result_noise import noise_runs
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.prompts import Prompts
from unweave.models.run import Edit, where
from unweave.models.sites import SITES, n_heads_at
from unweave.progress import Progress

if TYPE_CHECKING:
    import xarray as xr

At = str | Sequence[str] | None


def knockout(
    pair: Contrast,
    heads: Knockouts | None = None,
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
        values, note = replacing(pair, plan.keys, fill, memory)
        donor, mask = GivenDonor(values), mask_of(pair, at) if plan.sheets else None
        if mask is not None:  # joint patches name their positions themselves
            donor = MaskedDonor(donor, RunDonor(pair.prompts, pair.clean_run), mask)
        runs = PatchRuns(context_of(pair, "noise", donor), plan.sheets or plan.joints)
    scores = execute(runs, memory, progress, "knocking out")
    notes = [note, *_notes(pair, plan, uniform=fill.how == "zero" and at is None), scores.note()]
    attrs = {**_attrs(pair, fill, at, plan), "notes": "; ".join(filter(None, notes))}
    return finished(_result(pair, plan, scores.values, measure, attrs), scores.stopped)


@dataclass(frozen=True)
class Plan:
    """A knockout's targets, several of them at once in one run where `chosen` says so, and the result's axes.

    `sheets` run whatever the mask of positions is; `joints` name their positions themselves.
    """

    axes: Mapping[str, Sequence]
    kind: str
    chosen: tuple[tuple[Target, ...], ...]
    sheets: tuple[NodeGrid, ...] = ()
    joints: tuple[NodeGrid | JointPatch, ...] = ()

    @property
    def keys(self) -> list[tuple[str, int]]:
        """Sites and layers that are replaced."""
        listed = [(a.site, a.layer) for targets in self.chosen for target in targets for a in target.addresses]
        return list(dict.fromkeys([*((sheet.site, sheet.layer) for sheet in self.sheets), *listed]))

    @property
    def noisy(self) -> bool:
        """Whether heads are replaced in the residual stream, where a Gaussian is another one than in `z`."""
        return any(target.name.startswith("result ") for targets in self.chosen for target in targets)


def edits_of(pair: Contrast, targets: Sequence[Target], given: Mapping[tuple[str, int], Tensor], at: At) -> list[Edit]:
    """The knockout of all targets at once as edits of a plain run."""
    places = [pair.prompts.role(role) for role in roles_of(pair, at)] or [None]
    edits = []
    for address in (address for target in targets for address in target.addresses):
        value = given[address.site, address.layer]
        for place in places:
            whole = Edit(address.site, address.layer, value, head=address.part, pos=place)
            edits.append(replace(whole, value=value[where(whole, len(pair.prompts), value.device)]))
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


def _plan(pair: Contrast, heads: Knockouts, at: At, joint: bool) -> Plan:
    config = pair.model.config
    if _is_kind(heads):
        return _in_turn(pair, singular(str(heads)), at)
    chosen = (one_knockout(config, heads),) if joint else tuple(knockouts_of(config, heads))
    names = [knockout_name(targets) for targets in chosen]
    kinds = {target.name.split()[0] for targets in chosen for target in targets}
    kind = kinds.pop() if len(kinds) == 1 else "addresses"
    suffix = "".join(f" @{role}" for role in roles_of(pair, at))
    return Plan({"address": [name + suffix for name in names]}, kind, chosen, joints=_joints(pair, chosen, at))


def _in_turn(pair: Contrast, kind: str, at: At) -> Plan:
    """Every target of a kind, each on its own."""
    config = pair.model.config
    layers = range(config.n_layers)
    site, *more = sites_of(config, kind)
    n_heads = n_heads_at(config, SITES[site])
    if more:
        chosen = tuple((target,) for target in every_target(config, kind))
        return Plan({"layer": layers}, kind, chosen, joints=_joints(pair, chosen, at))
    if n_heads is None:
        return Plan({"layer": layers}, kind, (), tuple(NodeGrid(site, layer, layer) for layer in layers))
    heads = tuple(range(n_heads))
    results = [f"result {n}.{head}" for n in layers for head in heads] if kind == "result" else []
    chosen = tuple(knockouts_of(config, results)) if results else ()
    axis = "kv_head" if SITES[site].rows == "kv_head" and config.grouped else "head"
    sheets = tuple(NodeGrid(site, layer, layer * n_heads, heads) for layer in layers)
    return Plan({"layer": layers, axis: heads}, kind, chosen, sheets)


def _joints(pair: Contrast, chosen: Sequence[Sequence[Target]], at: At) -> tuple[NodeGrid | JointPatch, ...]:
    """One patch for each set of targets: a sheet where it is one activation at one place, else all places together."""
    places = [pair.prompts.role(role).cpu()[None] for role in roles_of(pair, at)] or [None]
    patches: list[NodeGrid | JointPatch] = []
    for offset, targets in enumerate(chosen):
        members = tuple(
            NodeGrid(a.site, a.layer, 0, None if a.part is None else (a.part,), place)
            for target in targets
            for a in target.addresses
            for place in places
        )
        patches.append(replace(members[0], offset=offset) if len(members) == 1 else JointPatch(members, offset))
    return tuple(patches)


def _result(
    pair: Contrast, plan: Plan, values: Float[Tensor, "variant prompt"], measure: str, attrs: Mapping[str, str | int]
) -> xr.DataArray:
    numbers = measured(pair, values.to(pair.clean.device), "noise", measure).T
    table = numbers.reshape(len(pair.prompts), *(len(coords) for coords in plan.axes.values()))
    return labelled(pair, table, plan.axes, {**attrs, **measure_attrs(measure)})


def _attrs(pair: Contrast, how: Replacement, at: At, plan: Plan) -> dict[str, str | int]:
    return {
        "method": "knockout",
        "site": plan.kind,
        **how.attrs,
        "noise_seed": how.seed if how.how == "gaussian" else -1,
        "at": " ".join(roles_of(pair, at)) or "all positions",
    }


def _notes(pair: Contrast, plan: Plan, uniform: bool) -> list[str]:
    """What shared heads, and zeros at all positions (`uniform`), make of a knockout of queries, keys or values."""
    sites = {site for site, _ in plan.keys}
    same = "zero queries, and zero keys that they meet, are one knockout, uniform attention, not two pieces of evidence"
    return [shared_note(pair.model.config, sites)] + [same] * (uniform and bool(sites & {"q", "k"}))
