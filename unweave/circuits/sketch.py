"""A sketch of a circuit: path patching backwards from the logits, level by level.

Wang et al. 2022 (arXiv 2211.00593), section 3, made mechanical:

1. level 1 are the heads with a direct effect on the answer, at the role that the metric reads;
2. the next level are the heads that act through the last level's heads: through their queries, at the role where
   these write, and through their keys and values, at the roles that they attend to. Heads that support the answer
   and heads that speak against it are followed apart: what acts through both would cancel;
3. a sender is kept where its mean effect is larger than a threshold and is told from 0 over the prompts: by the p-value
   of its sign flips, or by its interval if there are too few prompts, or clusters of them, for any p-value to be small.
   The p-value is not adjusted for the heads that are tried: with a few prompts that would leave out most of a circuit.
   It is the threshold that keeps chance out, and `evaluate` that says whether too much or too little was kept;
4. every kept sender's effect through each receiver alone makes the edges, of those that are told from 0 alike.

A node is a head at a role. Positions do not mix between a sender and a receiver's input, so both stand at one role.
Effects are shares of the gap between the baselines that the path carries: positive where the path supports the
answer. Nothing is drawn at random: the same prompts give the same sketch. Heads alone are sketched; MLPs stay live,
inside the paths.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import torch

from unweave.circuits.circuit import Circuit, Edge, Group
from unweave.circuits.senders import Senders
from unweave.errors import InputError, Interrupted
from unweave.methods.axes import several
from unweave.methods.heads import Head, head_name
from unweave.metrics.contrast import Contrast, check_pair
from unweave.progress import Progress, shown
from unweave.results.summary import summary

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class SketchRules:
    """What is kept.

    Args:
        threshold: the smallest mean effect of a sender through a level, as a share of the gap.
        edge_threshold: the same for a sender through one receiver.
        alpha: the largest p-value of a sender.
        attends: the smallest mean attention of a head to a role for its keys and values there to be followed.
        levels: how far back to go. Each level takes longer than the one before.
        screen: prompts on which all heads are tried first; only those whose effect reaches half the threshold in any
            of them are run on every prompt (see `unweave.circuits.senders`). 0 runs all heads on every prompt.
    """

    threshold: float = 0.02
    edge_threshold: float = 0.005
    alpha: float = 0.05
    attends: float = 0.1
    levels: int = 3
    screen: int = 4


@dataclass(frozen=True)
class Node:
    """A head at the role where it writes."""

    head: Head
    role: str


@dataclass(frozen=True)
class Step:
    """One input (`q`, `k` or `v`) of some heads at one role, to be followed backwards."""

    kind: str
    role: str
    receivers: tuple[Head, ...]


@dataclass
class _Found:
    """Nodes by level, those that support the answer, and edges, as they are found."""

    levels: dict[Node, int] = field(default_factory=dict)
    supporting: set[Node] = field(default_factory=set)
    edges: dict[tuple[str, str, str, str], Edge] = field(default_factory=dict)

    def enter(self, node: Node, level: int, row: xr.Dataset) -> bool:
        """Takes in a node with its effect; False where it was found before."""
        if node in self.levels:
            return False
        self.levels[node] = level
        if float(row["mean"]) < 0:  # corrupting it takes from the answer
            self.supporting.add(node)
        return True


def sketch(
    pair: Contrast,
    rules: SketchRules | None = None,
    roles: str | Sequence[str] | None = None,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> Circuit:
    """A circuit found by path patching backwards from the logits.

    Args:
        pair: the model, both sets of prompts, and the metric. More prompts tell smaller effects from 0; 16 or more.
        rules: thresholds, and the number of levels.
        roles: roles where keys and values are followed; all of the task's by default.
        memory, progress: as in `path_patch`.

    Returns:
        A circuit whose groups are the levels (`level 1 @end`), each with its roles, and whose edges carry effect, 95 %
        interval, input and role.

    Raises:
        InputError: a single prompt, a role that does not exist, or no head with a direct effect, with what was tried.
        Interrupted: Ctrl-C; `partial` is the circuit of what was found, or None.
    """
    check_pair(pair)
    if len(pair.prompts) < 2:
        raise InputError(
            "pair: 1 prompt is too few to tell an effect from 0; give at least 2 prompts, better 16 or more"
        )
    rules = rules or SketchRules()
    named = several(roles)
    for role in named or ():
        pair.prompts.role(role)
    found = _Found()
    with shown(progress, "sketching the circuit") as report:
        try:
            senders = Senders(pair, rules.threshold, rules.screen, memory)
            _search(senders, rules, _distinct(pair, named), found, report)
        except KeyboardInterrupt as stop:
            partial = _circuit(pair, rules, found) if found.levels else None
            raise Interrupted("interrupted; the circuit found so far is in .partial", partial) from stop
    return _circuit(pair, rules, found)


def _search(senders: Senders, rules: SketchRules, roles: Sequence[str], found: _Found, report: Progress | None) -> None:
    pair, end = senders.pair, senders.pair.metric.role
    table = summary(senders.direct(end))
    frontier = [Node(head, end) for head in _kept(table, rules.threshold, rules.alpha)]
    if not frontier:
        largest = float(abs(table["mean"]).max())
        raise InputError(
            f"sketch: no head has a direct effect of {rules.threshold:.1%} or more that is told from 0 over "
            f"{len(pair.prompts)} prompts (the largest is {largest:.1%}); lower threshold, or give more prompts"
        )
    for node in frontier:
        row = table.sel(layer=node.head[0], head=node.head[1])
        found.enter(node, 1, row)
        _add(found, node, "logits", "", end, row)
    for level in range(2, rules.levels + 1):
        steps = _steps(pair, frontier, roles, rules.attends, found.supporting)
        frontier = []
        for number, step in enumerate(steps):
            for node, row in _follow(senders, rules, step, found):
                if found.enter(node, level, row):
                    frontier.append(node)
            if report is not None:
                share = (level - 2 + (number + 1) / len(steps)) / (rules.levels - 1)
                report(100.0 * share, 100.0)
        if not frontier:
            break


def _follow(senders: Senders, rules: SketchRules, step: Step, found: _Found) -> list[tuple[Node, xr.Dataset]]:
    """The nodes that act through a step's receivers, each with its effect; their edges are added to what was found."""
    if max(layer for layer, _ in step.receivers) == 0:
        return []
    inputs = [(layer, head, step.kind) for layer, head in step.receivers]
    table = summary(senders.effects(inputs, step.role))
    effect = {head: table.sel(layer=head[0], head=head[1]) for head in _kept(table, rules.threshold, rules.alpha)}
    for layer, head, kind in inputs:
        earlier = [sender for sender in effect if sender[0] < layer]
        if not earlier:
            continue
        alone = effect
        if len(inputs) > 1:
            each = summary(senders.through([(layer, head, kind)], earlier, step.role))
            alone = {sender: each.sel(sender=head_name(sender)) for sender in earlier}
        for sender in earlier:
            if abs(float(alone[sender]["mean"])) >= rules.edge_threshold and _differs(alone[sender], rules.alpha):
                _add(found, Node(sender, step.role), head_name((layer, head)), kind, step.role, alone[sender])
    return [(Node(sender, step.role), row) for sender, row in effect.items()]


def _steps(
    pair: Contrast, frontier: Sequence[Node], roles: Sequence[str], attends: float, supporting: Collection[Node]
) -> list[Step]:
    """Inputs to follow, in a fixed order."""
    steps: dict[tuple[str, str, bool], list[Head]] = {}
    attention = _attention(pair, frontier, roles)
    for node in sorted(frontier, key=lambda node: (node.role, node.head)):
        steps.setdefault(("q", node.role, node in supporting), []).append(node.head)
        for role in roles:
            if attention[node, role] >= attends:
                for kind in ("k", "v"):
                    steps.setdefault((kind, role, node in supporting), []).append(node.head)
    return [Step(kind, role, tuple(dict.fromkeys(heads))) for (kind, role, _), heads in steps.items()]


def _attention(pair: Contrast, nodes: Sequence[Node], roles: Sequence[str]) -> dict[tuple[Node, str], float]:
    """Mean attention of each node from its role to every role, on the clean prompts."""
    run = pair.model.run(pair.prompts, keep=[("pattern", layer) for layer in sorted({node.head[0] for node in nodes})])
    rows = torch.arange(len(pair.prompts), device=pair.model.device)
    seen = {}
    for node in nodes:
        pattern = run["pattern", node.head[0]][rows, node.head[1], pair.prompts.role(node.role)]
        for role in roles:
            seen[node, role] = float(pattern[rows, pair.prompts.role(role)].mean())
    return seen


def _distinct(pair: Contrast, roles: Sequence[str] | None) -> list[str]:
    """The roles, but those before anything differs, and those that stand where an earlier one always stands."""
    kept: list[str] = []
    differs = (pair.prompts.tokens != pair.corrupted.tokens).cumsum(1) > 0
    if not pair.model.config.causal:  # nothing comes before
        differs = differs[:, -1:].expand_as(differs)
    rows = torch.arange(len(pair.prompts), device=differs.device)
    for role in roles or pair.prompts.roles:
        place = pair.prompts.role(role)
        if differs[rows, place].any() and not any(torch.equal(place, pair.prompts.role(other)) for other in kept):
            kept.append(role)
    return kept


def _kept(table: xr.Dataset, threshold: float, alpha: float) -> list[Head]:
    """Heads whose effect is large enough and told from 0, the largest first."""
    size = abs(table["mean"]).where(_differs(table, alpha) & (abs(table["mean"]) >= threshold), 0.0)
    heads = [(int(layer), int(head)) for layer, head in zip(*size.values.nonzero(), strict=True)]
    return sorted(heads, key=lambda head: (-float(size[head]), head))


def _differs(table: xr.Dataset, alpha: float) -> xr.DataArray:
    """Which effects are told from 0."""
    attainable = 0.5 ** (int(table.attrs["n_clusters"]) - 1) <= alpha  # all signs alike, one way or the other
    return table["p"] <= alpha if attainable else (table["low"] > 0) | (table["high"] < 0)


def _add(found: _Found, sender: Node, receiver: str, kind: str, role: str, row: xr.Dataset) -> None:
    """An edge, as the share of the gap that the path carries: what is lost when it is corrupted, its sign turned."""
    name = head_name(sender.head)
    effect, low, high = -float(row["mean"]), -float(row["high"]), -float(row["low"])
    found.edges[name, receiver, kind, role] = Edge(name, receiver, kind, effect, low, high, role)


def _circuit(pair: Contrast, rules: SketchRules, found: _Found) -> Circuit:
    """Every head in the group of the level where it was first found, with all its roles."""
    order = list(pair.prompts.roles)
    first: dict[Head, int] = {}
    where: dict[Head, list[str]] = {}
    for node, level in found.levels.items():
        first.setdefault(node.head, level)
        where.setdefault(node.head, []).append(node.role)
    groups: dict[tuple[int, tuple[str, ...]], list[Head]] = {}
    for head, level in first.items():
        groups.setdefault((level, tuple(sorted(where[head], key=order.index))), []).append(head)
    config = pair.model.config
    chosen = ", ".join(f"{rule.name} {getattr(rules, rule.name):g}" for rule in fields(rules))
    return Circuit(
        groups=tuple(
            Group(f"level {level} @{' '.join(roles)}", tuple(sorted(heads)), roles)
            for (level, roles), heads in sorted(groups.items())
        ),
        edges=tuple(_of_members(found.edges.values(), first)),
        model=config.name,
        shape=(config.n_layers, config.n_heads),
        task=str(pair.prompts.source.get("task", "")),
        notes=f"sketched by path patching on {len(pair.prompts)} prompts: {chosen}",
    )


def _of_members(edges: Iterable[Edge], heads: Iterable[Head]) -> list[Edge]:
    names = {head_name(head) for head in heads} | {"logits"}
    return [edge for edge in edges if edge.sender in names and edge.receiver in names]
