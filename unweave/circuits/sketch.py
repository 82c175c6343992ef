"""A sketch of a circuit: path patching backwards from the logits, level by level.

Wang et al. 2022 (arXiv 2211.00593), section 3, made mechanical:

1. level 1 are the heads with a direct effect on the answer, at the role that the metric reads;
2. the next level are the heads that act through the last level's heads: through their queries, at the role where
   these write, and through their keys and values, at the roles that they attend to. Heads that support the answer
   and heads that speak against it are followed apart: what acts through both would cancel;
3. a sender is kept if its mean effect is larger than a threshold and significantly different from 0: by the p-value of
   its sign flips, or by its interval if there are too few prompts, or clusters of them, for any p-value to be small.
   The p-value is not adjusted for the heads that are tried: with a few prompts that would leave out most of a circuit.
   It is the threshold that keeps chance out, and `evaluate` that says whether too much or too little was kept;
4. every kept sender's effect through each single receiver makes the edges, if it differs from 0 by the same rule.
   Key and value heads that query heads share receive once;
5. heads and edges are chosen on one half of the prompts, and edges have the effect that they have on the other
   (`unweave.circuits.halves`): the largest of many effects is too large on the prompts that it was chosen on.

A node is a head at a role. Positions do not mix between a sender and a receiver's input, so both stand at one role.
Roles that stand at one position of a prompt are one place, and count once: see `own_roles`. Effects are shares of the
gap between the baselines that the path carries: positive where the path supports the answer. Nothing is drawn at
random: the same prompts give the same sketch. Only heads are sketched; MLPs stay live, inside the paths.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product

import torch
import xarray as xr
from jaxtyping import Bool
from torch import Tensor

from unweave.circuits.circuit import Circuit, Group
from unweave.circuits.halves import halves, halves_attrs
from unweave.circuits.senders import Senders
from unweave.errors import InputError, Interrupted
from unweave.methods.role_attention import role_attention
from unweave.methods.targets import several
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.forward import looks_ahead
from unweave.nodes import Edge, Head, Node
from unweave.progress import Progress, shown


@dataclass(frozen=True)
class SketchOptions:
    """What `sketch` keeps.

    Args:
        threshold: the smallest mean effect of a sender through a level, as a share of the gap.
        edge_threshold: the same for a sender through one receiver.
        alpha: the largest p-value of a sender.
        attends: the smallest mean attention of a head to a role for its keys and values there to be followed.
        levels: how far back to go. Each level takes longer than the one before.
        screen: heads are run if the mean size of the effects that gradients estimate reaches this share of the
            threshold (see `unweave.circuits.senders`). 0 runs all heads, and so does a metric without gradient.
    """

    threshold: float = 0.02
    edge_threshold: float = 0.005
    alpha: float = 0.05
    attends: float = 0.1
    levels: int = 3
    screen: float = 0.5


@dataclass(frozen=True)
class Step:
    """Inputs of one kind (`q`, `k` or `v`) at one role, to be followed backwards together."""

    role: str
    inputs: tuple[Node, ...]


@dataclass(frozen=True)
class Seen:
    """Where a node was first met: its level, its effect on the prompts that chose it, and whether it supports the
    answer: whether the metric becomes worse when it is corrupted.
    """

    level: int
    size: float
    supports: bool


@dataclass
class _Found:
    """Nodes, who reads which input at which role, and effects of senders through inputs, as they are found."""

    nodes: dict[Node, Seen] = field(default_factory=dict)
    readers: dict[tuple[Node, str], list[Head]] = field(default_factory=dict)
    effects: dict[tuple[Head, Node | None, str], xr.Dataset] = field(default_factory=dict)

    def enter(self, node: Node, level: int, row: xr.Dataset) -> bool:
        """Takes in a node with its effect; False where it was found before."""
        if node in self.nodes:
            return False
        mean, attrs = float(row["mean"]), row.attrs
        change = mean * float(attrs["gap"]) * (1 if attrs["better"] == "higher" else -1)
        self.nodes[node] = Seen(level, abs(mean), change < 0)
        return True


def sketch(
    pair: Contrast,
    rules: SketchOptions | None = None,
    roles: str | Sequence[str] | None = None,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> Circuit:
    """A circuit found by path patching backwards from the logits.

    Args:
        pair: the model, both sets of prompts, and the metric. 16 prompts or more, for small effects.
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
            "pair: 1 prompt is too few for an effect to be significant; give at least 2 prompts, better 16 or more"
        )
    rules = rules or SketchOptions()
    named = several(roles)
    for role in named or ():
        pair.prompts.role(role)
    found, parts = _Found(), _halved(pair)
    own = own_roles(pair, named)
    search, report = (
        Senders(part, rules.screen * rules.threshold, memory, {role: rows[list(at)] for role, rows in own.items()})
        for part, at in parts
    )
    with shown(progress, "sketching the circuit") as tell:
        try:
            _search(search, report, rules, tuple(own), found, tell)
        except KeyboardInterrupt as stop:
            partial = _circuit(pair, search, report, rules, found) if found.nodes else None
            raise Interrupted("interrupted; the circuit found so far is in .partial", partial) from stop
    return _circuit(pair, search, report, rules, found)


def _halved(pair: Contrast) -> list[tuple[Contrast, Sequence[int]]]:
    """The pair on the prompts to choose on and on those to report on, with their numbers; whole where a half has no
    scale.
    """
    parts = halves(pair.prompts)
    whole = range(len(pair.prompts))
    if parts[0] == parts[1]:
        return [(pair, whole)] * 2
    try:
        return [(Contrast(pair.model, pair.prompts.take(at), pair.corrupted.take(at), pair.metric), at) for at in parts]
    except InputError:
        return [(pair, whole)] * 2


def own_roles(pair: Contrast, roles: Sequence[str] | None = None) -> dict[str, Bool[Tensor, " prompt"]]:
    """Of each role, the prompts where what is sent there is its own: not before anything differs, and not where
    another role stands. Roles without any are left out.

    Of roles that stand at one position, it is the metric's, else that at which something differs in more prompts, else
    the first.
    """
    differs = (pair.prompts.tokens != pair.corrupted.tokens).cumsum(1) > 0
    if looks_ahead(pair.model.config):  # nothing comes before
        differs = differs[:, -1:].expand_as(differs)
    rows = torch.arange(len(pair.prompts), device=differs.device)
    end, names = pair.metric.role, list(roles or pair.prompts.roles)
    reached = {role: differs[rows, pair.prompts.role(role)] for role in dict.fromkeys([end, *names])}
    own: dict[str, Bool[Tensor, " prompt"]] = {}
    for role in sorted(reached, key=lambda role: (role != end, -int(reached[role].sum()))):
        place = pair.prompts.role(role)
        others = [place == pair.prompts.role(other) for other in own]
        own[role] = reached[role] & ~torch.stack([torch.zeros_like(reached[role]), *others]).any(0)
    return {role: own[role] for role in reached if role == end or own[role].any()}


def _search(
    search: Senders, report: Senders, rules: SketchOptions, roles: Sequence[str], found: _Found, tell: Progress | None
) -> None:
    end = search.pair.metric.role
    config = search.pair.model.config
    heads = search.rows("logits", list(product(range(config.n_layers), range(config.n_heads))), end)
    rows = _kept(heads, rules.threshold, rules.alpha)
    if not rows:
        largest = max(map(_size, heads.values()))
        raise InputError(
            f"sketch: no head has a direct effect of {rules.threshold:.1%} or more, significantly different from 0 "
            f"over {len(search.pair.prompts)} prompts (the largest is {largest:.1%}); lower threshold, or add prompts"
        )
    frontier = [_node(head, end) for head in rows]
    for node, row in zip(frontier, rows.values(), strict=True):
        found.enter(node, 1, row)
    _report(search, report, None, end, rows, found)
    looks = _attention(search, roles)
    for level in range(2, rules.levels + 1):
        steps = _steps(search, frontier, looks, rules.attends, found)
        frontier = []
        for number, step in enumerate(steps):
            for node, row in _follow(search, report, rules, step, found):
                if found.enter(node, level, row):
                    frontier.append(node)
            if tell is not None:
                share = (level - 2 + (number + 1) / len(steps)) / (rules.levels - 1)
                tell(100.0 * share, 100.0)
        if not frontier:
            break


def _follow(
    search: Senders, report: Senders, rules: SketchOptions, step: Step, found: _Found
) -> list[tuple[Node, xr.Dataset]]:
    """The nodes that act through a step's inputs, each with its effect; their edges are added to what was found."""
    likely = search.likely(step.inputs, step.role)
    effect = _kept(search.rows(step.inputs, likely, step.role), rules.threshold, rules.alpha)
    for one in step.inputs:
        single = {sender: row for sender, row in effect.items() if sender[0] < one.layer}
        if len(step.inputs) > 1:
            single = search.rows([one], list(single), step.role)
        _report(search, report, one, step.role, _kept(single, rules.edge_threshold, rules.alpha), found)
    return [(_node(sender, step.role), row) for sender, row in effect.items()]


def _report(
    search: Senders,
    report: Senders,
    receiver: Node | None,
    role: str,
    rows: Mapping[Head, xr.Dataset],
    found: _Found,
) -> None:
    """Effects of chosen senders through one input (None: on the logits), on the prompts that did not choose them."""
    if report.pair is not search.pair:
        rows = report.rows("logits" if receiver is None else [receiver], list(rows), role)
    found.effects |= {(sender, receiver, role): row for sender, row in rows.items()}


def _attention(search: Senders, roles: Sequence[str]) -> xr.DataArray:
    """Mean attention of every head from each role to each role, on the clean prompts."""
    return role_attention(search.pair, roles, memory=search.memory).mean("prompt")


def _steps(search: Senders, frontier: Sequence[Node], looks: xr.DataArray, attends: float, found: _Found) -> list[Step]:
    """Inputs to follow, in a fixed order: each once, whoever reads it, with those that support the answer if any of
    its readers does. Nothing writes before the first layer.
    """
    share = search.pair.model.config.heads_per_kv
    steps: dict[tuple[str, str, bool], list[Node]] = {}
    for node in sorted(frontier, key=lambda node: (not found.nodes[node].supports, _role(node), node.head)):
        layer, head = node.head
        there = looks.sel(layer=layer, head=head, q_role=_role(node))
        roles = [str(role) for role in looks["k_role"].values if float(there.sel(k_role=role)) >= attends]
        reads = [(Node("q", layer, head), _role(node))]
        reads += [(Node(kind, layer, head // share), role) for role in roles for kind in ("k", "v")]
        for one, role in reads if layer else ():
            readers = found.readers.setdefault((one, role), [])
            if not readers:
                steps.setdefault((one.site, role, found.nodes[node].supports), []).append(one)
            if node.head not in readers:
                readers.append(node.head)
    return [Step(role, tuple(inputs)) for (_, role, _), inputs in steps.items()]


def _node(head: Head, role: str) -> Node:
    """A head at the role where it writes."""
    return Node("z", *head, at=role)


def _role(node: Node) -> str:
    return str(node.at)


def _kept(rows: Mapping[Head, xr.Dataset], threshold: float, alpha: float) -> dict[Head, xr.Dataset]:
    """Heads whose effect is large enough and significantly different from 0, the largest first. 0 is never enough."""
    kept = {head: row for head, row in rows.items() if 0 < _size(row) >= threshold and _differs(row, alpha)}
    return dict(sorted(kept.items(), key=lambda one: (-_size(one[1]), one[0])))


def _size(row: xr.Dataset) -> float:
    return abs(float(row["mean"]))


def _differs(row: xr.Dataset, alpha: float) -> bool:
    """Whether an effect is significantly different from 0."""
    attainable = 0.5 ** (int(row.attrs["n_clusters"]) - 1) <= alpha  # all signs alike, one way or the other
    return bool(row["p"] <= alpha if attainable else (row["low"] > 0) | (row["high"] < 0))


def _circuit(pair: Contrast, search: Senders, report: Senders, rules: SketchOptions, found: _Found) -> Circuit:
    """Every head in the group of the level where it was first found and of its sign there, with all its roles."""
    order = list(pair.prompts.roles)
    nodes: dict[Head, list[Node]] = {}
    for node in found.nodes:
        nodes.setdefault(node.head, []).append(node)
    groups: dict[tuple[int, bool, tuple[str, ...]], list[Head]] = {}
    for head, its in nodes.items():
        first = min((found.nodes[node] for node in its), key=lambda seen: (seen.level, -seen.size))
        roles = tuple(sorted((_role(node) for node in its), key=order.index))
        groups.setdefault((first.level, not first.supports, roles), []).append(head)
    config, metric = pair.model.config, pair.metric
    same = report.pair is search.pair
    chosen, measured = len(search.pair.prompts), len(report.pair.prompts)
    how = "the same prompts, so effects are too large" if same else f"the other {measured}"
    values = ", ".join(f"{rule.name} {getattr(rules, rule.name):g}" for rule in fields(rules))
    return Circuit(
        groups=tuple(
            Group(f"level {level}{' against' * against} @{' '.join(roles)}", tuple(sorted(heads)), roles)
            for (level, against, roles), heads in sorted(groups.items())
        ),
        edges=tuple(_edges(found, nodes)),
        model=config.name,
        shape=(config.n_layers, config.n_heads),
        task=str(pair.prompts.source.get("task", "")),
        notes=f"sketched by path patching on {len(pair.prompts)} prompts: {values}; "
        f"chosen on {chosen}, effects measured on {how}",
        attrs={
            "metric": metric.name,
            "unit": metric.unit,
            "better": "higher" if metric.higher_is_better else "lower",
            "gap": report.pair.gap,
            **halves_attrs(chosen, measured, same),
        },
    )


def _edges(found: _Found, heads: Collection[Head]) -> list[Edge]:
    """The edges between heads of the circuit. An effect is what the answer loses when the path is corrupted: the mean
    with its sign turned, unless the corrupted prompts score better than the clean ones.
    """
    edges = []
    for (sender, receiver, role), row in found.effects.items():
        sign = -1 if float(row.attrs["gap"]) * (1 if row.attrs["better"] == "higher" else -1) > 0 else 1
        effect, low, high = sign * float(row["mean"]), *sorted(sign * float(row[end]) for end in ("low", "high"))
        writer = Node("z", *sender)
        if sender in heads and receiver is None:
            edges.append(Edge(writer, Node("logits"), "", effect, low, high, role))
        elif sender in heads and receiver is not None:
            first, *others = (Node("z", *head) for head in found.readers[receiver, role])
            edges.append(Edge(writer, first, receiver.site, effect, low, high, role, tuple(others)))
    return edges
