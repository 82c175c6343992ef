"""Names for heads of the indirect-object task, each with the numbers that earn it.

The classes of Wang et al. 2022 (arXiv 2211.00593), by rules over measures (means over prompts, words or
sequences):

    direct              own contribution to the logit difference, as a share of the size of the clean one
    right, wrong        of it, to the right and to the wrong answer, each against the mean name; it is their difference
    effect              of the corrupted prompts' output of the head at the end: 0 unharmed, -1 as bad as corrupted
    indirect            the effect beyond its direct part
    through movers      effect on the queries of name movers and subject suppressors of later layers (path patching)
    end to IO, …        attention from role to role on the clean prompts; S is S1 and S2
    copying, …          share of the task's names that the OV circuit raises (lowers) to their own top five
    duplicate token, …  attention on repeated random tokens (`head_scores`, with `bos` as the prompts have it)
    growth, after       contribution gained, and had, when all name movers found are replaced by their mean at the end

A head gets the first name whose rule holds; other names that hold too are listed with it. What a rule reads of
contributions and effects (`EFFECTS`) must also be significantly different from 0, adjusted for the heads that meet the
rule's other bounds. The subject suppressor is not of that paper: it looks at the subject, and writes against it. The
rules state what a head does, not that the task needs it: test that by knocking out the groups.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from unweave.engine.reading import read_at
from unweave.errors import InputError
from unweave.methods.attribution import ANSWERS, Reading, by_head, candidates_of, reading_of, split_readings
from unweave.methods.backup import growth_of, knockout_attribution
from unweave.methods.copying import copying_scores
from unweave.methods.head_scores import head_scores
from unweave.methods.patching import patch
from unweave.methods.path_patching import path_patch
from unweave.methods.role_attention import role_attention
from unweave.methods.targets import Nodes, heads_of
from unweave.methods.to_xarray import to_xarray
from unweave.metrics import LogitDiff
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.precision import without_autocast
from unweave.models.run import Key
from unweave.nodes import Head, head_name
from unweave.progress import Progress, part, shown
from unweave.registry import DOES, Method, register
from unweave.results.summary import significant, summary

HEAD_TYPES = register(Method("head roles", DOES))

# Measures that chance can make: they count where they differ significantly from 0.
EFFECTS = ("direct", "wrong", "through movers", "growth")
# Runs of the model that `classify_heads` reports apart, and what each is given: memory= and progress=.
N_STEPS = 7
Options = dict[str, Any]
ROLES = ("IO", "S1", "S1+1", "S2", "end")
MOVER, SUPPRESSOR, OTHER = "name mover", "subject suppressor", "other"
# Where a measure is attention on the task: from, to.
LOOKS = {
    "end to S1": ("end", "S1"),
    "end to IO": ("end", "IO"),
    "end to S2": ("end", "S2"),
    "S2 to S1": ("S2", "S1"),
    "S2 to S1+1": ("S2", "S1+1"),
    "S1+1 to S1": ("S1+1", "S1"),
}


@final
@dataclass(frozen=True)
class HeadTypeThresholds:
    """Thresholds of the rules.

    Args:
        looks: least attention from role to role.
        direct: least size of the direct contribution, as a share of the clean logit difference.
        indirect: least size of the effect through the queries of movers.
        copies: least share of names in their own top five.
        pattern: least attention on repeated random tokens.
        growth: least growth of a backup head, as a share of the clean logit difference.
        n_tokens, n_sequences, seed: of the repeated random tokens.
    """

    looks: float = 0.3
    direct: float = 0.03
    indirect: float = 0.03
    copies: float = 0.5
    pattern: float = 0.3
    growth: float = 0.02
    n_tokens: int = 25
    n_sequences: int = 10
    seed: int = 0


@dataclass(frozen=True)
class Rule:
    """A name, the role at which its heads act, and bounds of the measures: `(measure, least, most)`.

    `shown` are measures that are listed with those that are bounded.
    """

    name: str
    at: str
    bounds: tuple[tuple[str, float, float], ...]
    shown: tuple[str, ...] = ()

    def holds(self, measures: Mapping[str, float]) -> bool:
        """Whether every measure lies within its bounds."""
        return all(least <= measures[name] <= most for name, least, most in self.bounds)

    def __str__(self) -> str:
        parts = []
        for name, least, most in self.bounds:
            bound = f"{name} at least {least:g}" if most == math.inf else f"{name} at most {most:g}"
            parts.append(f"{bound} and significant" if name in EFFECTS else bound)
        return f"{self.name}: {', '.join(parts)}"


def rules_of(limits: HeadTypeThresholds) -> tuple[Rule, ...]:
    """The rules, in the order in which they are tried."""
    top = math.inf

    def looks(way: str) -> tuple[str, float, float]:
        return (way, limits.looks, top)

    copies, opposes = ("copying", limits.copies, top), ("negative copying", limits.copies, top)
    supports, both = ("direct", limits.direct, top), ("right", "wrong", "effect")
    return (
        Rule(MOVER, "end", (supports, looks("end to IO"), copies), both),
        Rule(SUPPRESSOR, "end", (supports, looks("end to S"), opposes, ("wrong", -top, -limits.direct)), both),
        Rule("negative name mover", "end", (("direct", -top, -limits.direct), looks("end to IO"), opposes), both),
        Rule("S-inhibition", "end", (looks("end to S2"), ("through movers", -top, -limits.indirect))),
        Rule("duplicate token", "S2", (looks("S2 to S1"), ("duplicate token", limits.pattern, top))),
        Rule("induction", "S2", (looks("S2 to S1+1"), ("induction", limits.pattern, top))),
        Rule("previous token", "S1+1", (looks("S1+1 to S1"), ("previous token", limits.pattern, top))),
        Rule(
            "backup name mover",
            "end",
            (("growth", limits.growth, top), ("after", 0.0, top), looks("end to IO"), copies),
        ),
    )


@dataclass(frozen=True)
class NamedHead:
    """A head's name, the role where it acts, the measures that its rule reads, and other names that hold too.

    `intervals` are those of the measures over prompts.
    """

    head: Head
    name: str
    at: str
    evidence: Mapping[str, float]
    also: tuple[str, ...] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __str__(self) -> str:
        spread = {name: f" ({low:.2f} to {high:.2f})" for name, (low, high) in self.intervals.items()}
        numbers = ", ".join(f"{name} {value:.2f}{spread.get(name, '')}" for name, value in self.evidence.items())
        also = f" (also {', '.join(self.also)})" if self.also else ""
        return f"{head_name(self.head)}  {self.name}: {numbers}{also}"


@final
@dataclass(frozen=True, eq=False)
class HeadTypes:
    """What `classify_heads` found. `measures` holds every measure of every head, by prompt, word or sequence."""

    heads: tuple[NamedHead, ...]
    rules: tuple[Rule, ...]
    measures: xr.Dataset

    @property
    def groups(self) -> dict[str, tuple[Head, ...]]:
        """Nodes by name, in the order of the rules; names without a head are left out."""
        names = [rule.name for rule in self.rules] + [OTHER]
        found = {name: tuple(head.head for head in self.heads if head.name == name) for name in names}
        return {name: heads for name, heads in found.items() if heads}

    def __str__(self) -> str:
        return "\n".join(map(str, self.heads)) or "no head was named"

    __repr__ = __str__


@without_autocast
def classify_heads(
    pair: Contrast,
    heads: Nodes | None = None,
    rules: HeadTypeThresholds | None = None,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> HeadTypes:
    """Names for the heads of the indirect-object task.

    Args:
        pair: model, indirect-object prompts with the roles IO, S1, S1+1, S2 and end, and the logit difference.
        heads: the heads to name, each of which is listed, as `other` where no rule holds; by default every head, of
            which those with a name are listed.
        rules: thresholds.
        memory, progress: as in `patch`.

    Returns:
        The heads with their names and the evidence for them; `.groups` gives heads by name.

    Raises:
        InputError: prompts that lack a role, another metric, a head that does not exist or is named twice.
    """
    check_pair(pair)
    _check(pair)
    config = pair.model.config
    limits = HeadTypeThresholds() if rules is None else rules
    every = tuple((layer, head) for layer in range(config.n_layers) for head in range(config.n_heads))
    wanted = every if heads is None else heads_of(config, heads)
    tried = rules_of(limits)
    with shown(progress, "naming heads") as report:
        each = [{"memory": memory, "progress": part(report, step, N_STEPS)} for step in range(N_STEPS)]
        measures = _measures(pair, limits, each[:-2])
        movers, others = (_earners(rule, measures) for rule in tried[:2])
        looks = measures["end to S2"]
        measures["through movers"] = _bare(_through(pair, {*movers, *others}, looks, limits.looks, each[-2]))
        measures = measures.assign(_backup(pair, movers, each[-1]))
    earned = {rule.name: _earners(rule, measures) for rule in tried}
    means = {str(name): _mean(array).values for name, array in measures.items()}
    named = []
    for head in wanted:
        rules_of_head = [rule for rule in tried if head in earned[rule.name]]
        named.append(_named(head, rules_of_head, {name: float(mean[head]) for name, mean in means.items()}, measures))
    kept = named if heads is not None else [head for head in named if head.name != OTHER]
    rank = {rule.name: number for number, rule in enumerate(tried)}
    kept.sort(key=lambda head: (rank.get(head.name, len(rank)), head.head))
    return HeadTypes(tuple(kept), tried, measures)


def _check(pair: Contrast) -> None:
    missing = [role for role in ROLES if role not in pair.prompts.roles]
    if missing:
        raise InputError(
            f"pair: heads are named by where they look on the indirect-object task, and these prompts have no role "
            f"{', '.join(missing)}; take uw.tasks.ioi, or give the prompts roles={{'{missing[0]}': …}}"
        )
    if pair.metric != LogitDiff(pair.metric.role):
        raise InputError(f"pair: heads are named by their logit difference, got {pair.metric.name}; use uw.LogitDiff()")


def _earners(rule: Rule, measures: xr.Dataset) -> list[Head]:
    """The heads for which a rule holds. Whether effects are significant is asked of those that meet its other bounds,
    which are not chosen by their effects.
    """
    within = {
        name: (means >= least) & (means <= most)
        for name, least, most in rule.bounds
        for means in [_mean(measures[name]).values]
    }
    asked = np.all([cells for name, cells in within.items() if name not in EFFECTS], axis=0)
    held = asked & np.all(list(within.values()), axis=0)
    for name in (name for name in within if name in EFFECTS and asked.any()):
        cells = measures[name].stack(address=("layer", "head")).reset_index("address", drop=True)
        held[asked] &= significant(summary(cells.isel(address=asked.ravel())))
    return [(int(layer), int(head)) for layer, head in np.argwhere(held)]


def _mean(measure: xr.DataArray) -> xr.DataArray:
    """Over prompts, words or sequences."""
    return measure.mean(str(measure.dims[0]))


def _named(head: Head, rules: Sequence[Rule], means: Mapping[str, float], measures: xr.Dataset) -> NamedHead:
    """A head under the first of the rules that hold."""
    if not rules:
        return NamedHead(head, OTHER, "", dict(means))
    first, *others = rules
    evidence = {name: means[name] for name in dict.fromkeys([*(name for name, _, _ in first.bounds), *first.shown])}
    over_prompts = [measures[name][:, head[0], head[1]] for name in evidence if "prompt" in measures[name].dims]
    tables = {str(values.name): summary(values) for values in over_prompts}
    intervals = {name: (float(table["low"]), float(table["high"])) for name, table in tables.items()}
    return NamedHead(head, first.name, first.at, evidence, tuple(rule.name for rule in others), intervals)


def _measures(pair: Contrast, limits: HeadTypeThresholds, each: Sequence[Options]) -> xr.Dataset:
    """All measures but those of backup heads, `[prompt | word | sequence, layer, head]`."""
    found = _direct_and_indirect(pair, each[:3])
    looks = role_attention(pair, ROLES, **each[3])
    for name, (source, target) in LOOKS.items():
        found[name] = looks.sel(q_role=source, k_role=target, drop=True)
    found["end to S"] = found["end to S1"] + found["end to S2"]
    copied, bos = copying_scores(pair.model, candidates_of(pair.prompts)), pair.prompts.bos
    scores = head_scores(pair.model, limits.n_tokens, limits.n_sequences, limits.seed, bos, **each[4])
    scores = scores.rename(prompt="sequence")
    for table in (copied, scores):
        found |= {str(name): table.sel(score=name, drop=True) for name in table.coords["score"].values}
    own = ("method", "quantity", "unit", "zero", "one")
    attrs = {name: value for name, value in looks.attrs.items() if name not in own}
    return xr.Dataset({name: _bare(array) for name, array in found.items()}, attrs=HEAD_TYPES.attrs(**attrs))


def _bare(array: xr.DataArray) -> xr.DataArray:
    """Without coordinates that no dimension carries, so that measures of different origin stand in one table.

    What intervals read stays: which prompts belong together, and how they score.
    """
    kept = (*array.dims, "cluster", "clean", "corrupted")
    return array.reset_coords([name for name in array.coords if name not in kept], drop=True)


def _direct_and_indirect(pair: Contrast, each: Sequence[Options]) -> dict[str, xr.DataArray]:
    config, at = pair.model.config, pair.prompts.role(pair.metric.role)
    last, heads = ("resid_post", config.n_layers - 1), [("z", layer) for layer in range(config.n_layers)]
    sides = zip((pair.prompts, pair.corrupted), each[:2], strict=True)
    clean, corrupted = (read_at(pair.model, side, [*heads, last], at, **options) for side, options in sides)
    whole = reading_of(pair.model, clean[last], pair.prompts)
    # Of only two names each lies as far from their mean as the other.
    parts = split_readings(pair.model, clean[last], pair.prompts) if len(candidates_of(pair.prompts)) > 2 else ()

    def written(reading: Reading, x: Mapping[Key, Tensor]) -> Float[Tensor, "prompt layer head"]:
        return torch.stack([by_head(pair.model, reading, x[key], key[1]) for key in heads], 1)

    own, axes = written(whole, clean), {"layer": range(config.n_layers), "head": range(config.n_heads)}
    end, scale = pair.metric.role, abs(float(pair.clean_scores.mean()))
    effect = patch(pair, "z", {**dict.fromkeys(axes), "role": [end]}, "noise", **each[2]).sel(role=end)
    shares = {"direct": own, **dict.fromkeys(ANSWERS, torch.full_like(own, float("nan")))}
    shares |= {name: written(part, clean) for name, part in zip(ANSWERS, parts, strict=False)}
    found = {name: to_xarray(pair, values / scale, axes, {}) for name, values in shares.items()}
    effect = math.copysign(1, pair.gap) * effect
    moved = to_xarray(pair, (written(whole, corrupted) - own) / abs(pair.gap), axes, {})
    return found | {"effect": effect, "indirect": effect - moved}


def _through(
    pair: Contrast, movers: Collection[Head], looks: xr.DataArray, least: float, options: Options
) -> xr.DataArray:
    """Effects through the movers' queries, of heads that look at S2 and come before a mover; NaN for all others.

    Like every measure, positive if it favors the right answer, also if the model prefers the wrong one (a gap below 0).
    """
    last = max((layer for layer, _ in movers), default=0)
    tried = [
        (layer, head) for layer, head in np.argwhere(looks.mean("prompt").values >= least).tolist() if layer < last
    ]
    effects = xr.full_like(looks, np.nan, dtype=np.float64)
    if tried:
        queries = [(layer, head, "q") for layer, head in sorted(movers)]
        found = path_patch(pair, queries, tried, at=pair.metric.role, **options)
        for place, (layer, head) in enumerate(tried):
            effects[:, layer, head] = math.copysign(1, pair.gap) * found.values[:, place]
    return effects


def _backup(pair: Contrast, movers: Sequence[Head], options: Options) -> dict[str, xr.DataArray]:
    """Growth, and the contribution afterwards, without all name movers; 0 where there is none."""
    config = pair.model.config
    if not movers:
        axes = {"layer": range(config.n_layers), "head": range(config.n_heads)}
        none = to_xarray(pair, torch.zeros(len(pair.prompts), config.n_layers, config.n_heads), axes, {})
        return {"growth": _bare(none), "after": _bare(none)}
    parts = knockout_attribution(pair, movers, "mean", pair.metric.role, **options)
    return {"growth": _bare(growth_of(parts, movers)), "after": _bare(parts.sel(run="after", drop=True))}
