"""The circuit as a value: heads and MLPs in named groups, the roles where each group counts, weighted edges.

A circuit is what is claimed of a model on a task (Wang et al. 2022, arXiv 2211.00593): these heads, each at
these positions, do it. `unweave.circuits.evaluate` tests the claim; `unweave.circuits.files` has the form of its file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

from unweave.errors import InputError
from unweave.nodes import Edge, Head, Node, head_name, listed, read_node, whole

if TYPE_CHECKING:
    import xarray as xr

    from unweave.methods.head_types import HeadTypes
    from unweave.metrics.contrast import Contrast
    from unweave.models.config import Config
    from unweave.models.model import Model

Everywhere = Literal["all"]


@final
@dataclass(frozen=True)
class Group:
    """Heads `(layer, head)` and MLPs (layers) of one kind, and the roles where they count, or "all" positions.

    Heads may be given as "9.6" too, and lists in place of tuples: they are kept as annotated.

    Raises:
        InputError: a head that is no head.
    """

    name: str
    heads: tuple[Head, ...]
    roles: tuple[str, ...] | Everywhere = "all"
    mlps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", tuple(read_head(head) for head in listed(self.heads, "heads")))
        object.__setattr__(self, "mlps", tuple(whole("mlps", layer) for layer in self.mlps))
        if not isinstance(self.roles, str):
            object.__setattr__(self, "roles", tuple(self.roles))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Its heads and MLPs as nodes, at no place of their own."""
        return (*(Node("z", *head) for head in self.heads), *(Node("mlp", layer) for layer in self.mlps))


@final
@dataclass(frozen=True)
class Circuit:
    """Groups, edges, and the model and task that they are claimed of.

    Args:
        groups: at least one head in all; no head twice.
        edges: between members of the circuit, from the embeddings and to the logits.
        model: the name of the model; "" for any.
        shape: its numbers of layers and heads; (0, 0) for any.
        task: the name of the task.
        notes: where the circuit came from.
        minimality: for a head, the heads K without which it is shown to matter (see `unweave.circuits.minimality`);
            a head that is not there is tried without the others of its group.
        attrs: how the edges' effects were measured: `metric`, `unit`, `better`, `gap` (of which they are shares),
            `chosen_on` and `measured_on` (numbers of prompts), `halves`.
        keeps: what is claimed: "nodes" (these heads, whatever lies between them; edges are evidence) or "edges" (these
            edges of heads and MLPs, and no other).

    Raises:
        InputError: an empty circuit, a head, MLP or group named twice, an edge of what is not in it, or that runs
            backwards.
    """

    groups: tuple[Group, ...]
    edges: tuple[Edge, ...] = ()
    model: str = ""
    shape: tuple[int, int] = (0, 0)
    task: str = ""
    notes: str = ""
    minimality: Mapping[Head, tuple[Head, ...]] = field(default_factory=dict)
    attrs: Mapping[str, str | int | float] = field(default_factory=dict)
    keeps: Literal["nodes", "edges"] = "nodes"

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(self.groups))
        object.__setattr__(self, "edges", tuple(self.edges))
        strange = [group for group in self.groups if not isinstance(group, Group)]
        if strange:
            raise InputError(f"groups: expected uw.Group('name mover', [(9, 9)], ['end']), got {strange[0]!r}")
        if self.keeps not in ("nodes", "edges"):
            raise InputError(f"keeps: expected 'nodes' or 'edges', got {self.keeps!r}")
        if not (self.edges if self.keeps == "edges" else self.heads):
            raise InputError(
                "circuit: it is empty; give at least one group with at least one head"
                if self.keeps == "nodes"
                else "circuit: it keeps edges, and has none"
            )
        _check_once("group", [group.name for group in self.groups])
        _check_once("head", [head_name(head) for head in self.heads])
        _check_once("MLP", [f"mlp {layer}" for layer in self.mlps])
        for group in self.groups:
            if group.roles != "all" and (isinstance(group.roles, str) or not group.roles):
                raise InputError(f"group {group.name!r}: roles: expected 'all' or roles such as ('end',)")
        members = {node for group in self.groups for node in group.nodes}
        for edge in self.edges:
            _check_edge(edge, members)
        named = [*self.minimality, *(head for others in self.minimality.values() for head in others)]
        self._check_members("minimality", named)
        for head, others in self.minimality.items():
            if head in others:
                raise InputError(f"minimality: K of {head_name(head)} holds the head itself; take it out")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Circuit:
        """A circuit from a JSON file, as `save` writes it, or the graph of EAP-IG and MIB (`unweave.circuits.eap_ig`).

        Raises:
            InputError: a file that cannot be read, an unknown or a missing key, an empty circuit, a head named twice.
        """
        from unweave.circuits.files import read_circuit

        return read_circuit(Path(path))

    @classmethod
    def published(cls, name: str) -> Circuit:
        """A circuit that comes with unweave: "ioi-gpt2-small", "ioi-gpt2-small-naive"."""
        from unweave.circuits.files import published

        return published(name)

    @classmethod
    def from_edges(
        cls,
        edges: xr.DataArray,
        n: int | None = None,
        *,
        threshold: float | None = None,
        share: float | None = None,
        by: str = "size",
        prune: bool = True,
    ) -> Circuit:
        """The circuit of the first edges that `uw.edges` found, with their effects and intervals.

        Args:
            edges: effects of edges, from the embeddings to the logits, sent at all positions. Of `how="verified"` the
                edges that were not run count with their score by response.
            n, threshold, share: how many edges: their number, all whose mean effect is as large, or a share of all.
            by: "size" (the largest effects first), "signed" (those that carry the answer most first), or "greedy" (from
                the logits backwards, always the largest edge into what is there).
            prune: leave out dead ends: edges on no way from the embeddings to the logits.

        Raises:
            InputError: not one of `n`, `threshold` and `share`, one out of range or that keeps none, or no result of
                edges.
        """
        from unweave.circuits.edge_circuits import circuit_of

        return circuit_of(edges, n, threshold, share, by, prune)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a JSON file, whole or not at all; the same circuit gives the same bytes. Returns its path."""
        from unweave.circuits.files import write_circuit

        return write_circuit(self, Path(path))

    def save_eap_ig(self, path: str | os.PathLike[str], model: Model, edges: xr.DataArray | None = None) -> Path:
        """Writes the JSON of EAP-IG and MIB: every edge of the model, those of the circuit `in_graph`.

        Args:
            model: the circuit's model.
            edges: the result of `uw.edges` whose mean effects are the scores; the circuit's own effects if left out, 0
                for the others.

        Raises:
            InputError: a circuit that keeps nodes or is of another model, or a file that cannot be written.
        """
        from unweave.circuits.eap_ig import write_graph

        return write_graph(self, Path(path), model, edges)

    @property
    def heads(self) -> tuple[Head, ...]:
        """All heads `(layer, head)`, group by group."""
        return tuple(head for group in self.groups for head in group.heads)

    @property
    def mlps(self) -> tuple[int, ...]:
        """Layers of all MLPs, group by group."""
        return tuple(layer for group in self.groups for layer in group.mlps)

    def group_of(self, head: Head) -> Group:
        """The group that a head is in. Raises InputError where it is in none."""
        for group in self.groups:
            if head in group.heads:
                return group
        raise InputError(f"head: {head_name(head)} is not in this circuit; it has {_names(self.heads)}")

    def without(self, heads: Iterable[Head]) -> Circuit:
        """The circuit without some of its heads, their edges, and groups that hold nothing any more.

        Raises:
            InputError: a head that is not in it, or no head left.
        """
        gone = set(heads)
        self._check_members("heads", sorted(gone))
        groups = tuple(replace(group, heads=_but(group.heads, gone)) for group in self.groups)
        nodes = {Node("z", *head) for head in gone}
        return replace(
            self,
            groups=tuple(group for group in groups if group.heads or group.mlps),
            edges=tuple(edge for each in self.edges for edge in _left(each, nodes)),
            minimality={head: _but(others, gone) for head, others in self.minimality.items() if head not in gone},
        )

    def named(self, roles: HeadTypes) -> Circuit:
        """The same heads at the same roles, in groups that say what they do; edges and all else are kept.

        A head gets the first of its names whose role is among those where its group counts: a head that inhibits S at
        the end is no such head in a circuit that keeps it only at S2.

        Args:
            roles: what `uw.heads.classify_heads` found. A head without a name that fits keeps its group.

        Returns:
            Groups in the order of the rules (`name mover`, …), then those that kept their names. Heads of one name that
            count at different roles are in groups of their own: `induction @S2`, `induction @S2 end`.
        """
        at, known = {rule.name: rule.at for rule in roles.rules}, {head.head: head for head in roles.heads}
        members: dict[tuple[str, tuple[str, ...] | Everywhere], list[Head]] = {}
        rest: list[Group] = []
        for group in self.groups:
            kept = []
            for head in group.heads:
                names = (known[head].name, *known[head].also) if head in known else ()
                fit = [name for name in names if name in at and (group.roles == "all" or at[name] in group.roles)]
                (members.setdefault((fit[0], group.roles), []) if fit else kept).append(head)
            if kept or group.mlps:
                rest.append(replace(group, heads=tuple(kept)))
        many, order = Counter(name for name, _ in members), list(at)
        made = []
        for (name, places), heads in sorted(members.items(), key=lambda item: order.index(item[0][0])):
            place = places if isinstance(places, str) else " ".join(places)
            made.append(Group(name if many[name] == 1 else f"{name} @{place}", tuple(sorted(heads)), places))
        return replace(self, groups=(*made, *rest))

    def check(self, pair: Contrast) -> None:
        """Raises InputError where `pair` has another model, or lacks a head or role of this circuit."""
        self.check_model(pair.model.config)
        for group in self.groups:
            for role in () if group.roles == "all" else group.roles:
                try:
                    pair.prompts.role(role)
                except InputError as error:
                    raise InputError(f"group {group.name!r}: {error}") from error

    def check_model(self, config: Config) -> None:
        """Raises InputError where the circuit is of another model than `config`, or names what this one lacks."""
        size = (config.n_layers, config.n_heads)
        if self.shape not in ((0, 0), size):
            raise InputError(
                f"circuit: it is of {self.model or 'a model'} with {self.shape[0]} layers x {self.shape[1]} heads, and "
                f"{config.name} has {size[0]} x {size[1]}; load the model that the circuit was found in"
            )
        if self.model and _plain(self.model) != _plain(config.name):
            raise InputError(
                f"circuit: it is of the model {self.model!r}, and this one is {config.name!r}; load that model, or say "
                f"that they are the same: dataclasses.replace(circuit, model={config.name!r}), or the name in its file"
            )
        beyond = [head for head in self.heads if not (0 <= head[0] < size[0] and 0 <= head[1] < size[1])]
        if beyond:
            raise InputError(
                f"circuit: {config.name} has no head {head_name(beyond[0])}; "
                f"its heads are 0.0 to {size[0] - 1}.{size[1] - 1}"
            )
        lost = [layer for layer in self.mlps if layer >= size[0] or not config.d_mlp]
        if lost:
            raise InputError(f"circuit: {config.name} has no MLP in layer {lost[0]}")

    def _check_members(self, argument: str, heads: Sequence[Head]) -> None:
        strange = [head for head in heads if head not in self.heads]
        if strange:
            raise InputError(f"{argument}: {head_name(strange[0])} is not in this circuit; it has {_names(self.heads)}")

    def __repr__(self) -> str:
        what = " of ".join(part for part in (self.task, self.model) if part)
        title = f"Circuit({what + ', ' if what else ''}{len(self.heads)} heads, {len(self.edges)} edges)"
        width = max((len(group.name) for group in self.groups), default=0)
        return "\n".join([title, *(f"  {group.name:<{width}}  {_members(group)}" for group in self.groups)])


def read_head(given: object) -> Head:
    """A head of any model, as users write it. Raises InputError with an example."""
    node = read_node(given, "head")
    if node.site != "z" or node.part is None or node.at is not None:
        raise InputError(f"head: {str(node)!r} is not a head; write (9, 6) or '9.6', layer first")
    return node.head


def _check_edge(edge: Edge, members: Collection[Node]) -> None:
    ends = (
        (edge.sender, ("embed", "pos_embed")),
        (edge.receiver, ("logits",)),
        *((other, ()) for other in edge.shared),
    )
    for node, outside in ends:
        if node not in members and node.site not in outside:
            raise InputError(f"edge {edge}: {node.short} is not in this circuit; add it to a group, or drop the edge")
    first, second = edge.sender, edge.receiver
    if first.kind.in_layers and second.kind.in_layers:
        same = first.layer == second.layer and (first.site, second.site) != ("z", "mlp_out")
        if first.layer > second.layer or same:
            raise InputError(f"edge {edge}: it runs backwards; a sender must write before its receiver reads")


def _members(group: Group) -> str:
    places = "all positions" if group.roles == "all" else ", ".join(group.roles)
    return f"{', '.join(node.short for node in group.nodes)} @ {places}"


def _plain(name: str) -> str:
    """A model's name without its owner on the hub or its folder, as "openai-community/gpt2" and "gpt2" are one."""
    return name.rstrip("/").rsplit("/", 1)[-1].lower()


def _names(heads: Iterable[Head]) -> str:
    return " ".join(map(head_name, sorted(heads)))


def _but(heads: Iterable[Head], gone: set[Head]) -> tuple[Head, ...]:
    return tuple(head for head in heads if head not in gone)


def _left(edge: Edge, gone: Collection[Node]) -> list[Edge]:
    """The edge without the heads that are gone: one that others receive too stays with them."""
    ends = [node for node in (edge.receiver, *edge.shared) if node not in gone]
    return [replace(edge, receiver=ends[0], shared=tuple(ends[1:]))] if ends and edge.sender not in gone else []


def _check_once(kind: str, names: Sequence[str]) -> None:
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise InputError(f"circuit: the {kind} {twice[0]} is named twice; name it once, in the group where it belongs")
