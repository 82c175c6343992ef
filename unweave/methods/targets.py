"""What methods run over: nodes as users name them, checked, as grids of patched runs with the shape of the result.

Three ways to name nodes become a `ResultGrid`:

- axes: `over` is a tuple of axis names (or `"layer, head"`), or a mapping from axis to the coordinates wanted:
  `{"layer": [20, 21], "role": None}`, where None stands for all, and a single coordinate for a list of it. Axes are
  `layer`; `head` (`kv_head` where keys and values are grouped) or `neuron`; and one of `pos`, `role`, `q_pos` (a
  pattern's destination) with `k_pos` (its source);
- a list of nodes, each or several together one patched run (see `unweave.nodes`);
- a word for all of a kind: `heads`, `mlps`, `layers`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.patches import NodeGrid
from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.models.sites import (
    PATCHABLE,
    check_head,
    check_layer,
    check_neuron,
    check_pos,
    check_site,
    n_heads_at,
    node_of,
    parts_of,
)
from unweave.nodes import Head, Node, Site, check_once, joint_name, listed, read_nodes, site_named
from unweave.results.top import Row, Top

# One node as a user writes it; one or several, also as the rows of an array; and several together in a list of lists.
NodeName = str | Node | Sequence[SupportsIndex | str] | np.ndarray | Tensor | Row
Nodes = NodeName | Sequence[NodeName] | Top
JointNodes = Nodes | Sequence[Nodes]
Over = str | Sequence[str] | Mapping[str, SupportsIndex | str | Sequence[SupportsIndex] | Sequence[str] | None]

PLACES = ("pos", "role", "q_pos")
# In the order in which a patch's variants run.
AXES = ("layer", "head", "kv_head", "neuron", *PLACES, "k_pos")


@dataclass(frozen=True)
class ResultGrid:
    """Patched runs, a node or several each, and the axes of the result that they fill.

    Args:
        axes: each axis's coordinates, in the order of the result.
        patches: the runs, numbered without gaps.
        order: the axes in the order in which the runs are numbered.
    """

    axes: Mapping[str, Sequence]
    patches: tuple[NodeGrid, ...]
    order: tuple[str, ...] = ()

    @property
    def variants(self) -> slice:
        """The numbers of its runs."""
        return slice(self.patches[0].offset, self.patches[-1].offset + self.patches[-1].size)

    def table(self, values: Float[Tensor, "variant prompt"]) -> Tensor:
        """The runs' numbers, out of those of all that ran, `[prompt *axes]`."""
        order = self.order or tuple(self.axes)
        found = values[self.variants].T.unflatten(1, [len(self.axes[name]) for name in order])
        return found.permute(0, *(1 + order.index(name) for name in self.axes))


def grid_over(config: Config, prompts: Prompts, name: str, over: Over, start: int = 0) -> ResultGrid:
    """One site of one model over axes, its runs numbered from `start` on.

    Raises:
        InputError: a site, an axis or a coordinate that does not exist, or a site that cannot be patched.
    """
    site, layer = site_named(name)
    if layer is not None:
        raise InputError(
            f"sites: {name!r} names one layer; give the site ({site.name}), or use patch_at for '{site.name} {layer}'"
        )
    if site.name not in PATCHABLE:
        raise InputError(f"sites: {site.name} cannot be patched; choose among {' '.join(PATCHABLE)}")
    check_site(config, site)
    names = over.replace(",", " ").split() if isinstance(over, str) else over
    named = names if isinstance(names, Mapping) else dict.fromkeys(names)
    wanted = {("head" if name == "kv_head" else name): several(chosen) for name, chosen in named.items()}
    _check_axes(config, site, wanted)
    shared = site.rows == "kv_head" and config.grouped
    coords: dict[str, tuple] = {
        "kv_head" if axis == "head" and shared else axis: _coordinates(config, prompts, site, axis, chosen)
        for axis, chosen in wanted.items()
    }
    parts = next((coords[axis] for axis in ("head", "kv_head", "neuron") if axis in coords), None)
    places = next((_positions(prompts, axis, coords[axis]) for axis in PLACES if axis in coords), None)
    sources = _positions(prompts, "k_pos", coords["k_pos"]) if "k_pos" in coords else None
    one = NodeGrid(site.name, 0, 0, parts, places, sources)
    patches = tuple(replace(one, layer=layer, offset=start + n * one.size) for n, layer in enumerate(coords["layer"]))
    return ResultGrid(coords, patches, tuple(sorted(coords, key=AXES.index)))


def grids_over(config: Config, prompts: Prompts, sites: str | Sequence[str], over: Over) -> dict[str, ResultGrid]:
    """Each of one or several sites over axes, by its name, the runs of all numbered on. Raises InputError for none."""
    found, n_runs = dict[str, ResultGrid](), 0
    for name in [sites] if isinstance(sites, str) else sites:
        grid = grid_over(config, prompts, name, over, n_runs)
        if found.setdefault(grid.patches[0].site, grid) is grid:
            n_runs = grid.variants.stop
    if not found:
        raise InputError("sites: none was given; choose among resid_pre attn_out mlp_out z q k v pattern …")
    return found


def grid_of(
    config: Config,
    prompts: Prompts,
    joints: Mapping[str, Sequence[Node]],
    roles: Sequence[str] = (),
    axis: str = "address",
) -> ResultGrid:
    """A run for each set of nodes by name, which are patched together; at all of `roles` if their own place is None."""
    patches: list[NodeGrid] = []
    for offset, nodes in enumerate(joints.values()):
        members = tuple(
            patch
            for node in nodes
            for part in parts_of(config, node)
            for patch in ([_grid_at(prompts, replace(part, at=role)) for role in roles] or [_grid_at(prompts, part)])
        )
        patches.append(replace(members[0], offset=offset, also=members[1:]))
    return ResultGrid({axis: list(joints)}, tuple(patches))


def several(chosen: object) -> Sequence | None:
    """Coordinates of an axis, a single one as a list of it."""
    single = isinstance(chosen, str) or not hasattr(chosen, "__len__")
    return None if chosen is None else [chosen] if single else list(chosen)  # pyright: ignore[reportArgumentType]


def head_of(config: Config, head: NodeName) -> Head:
    """One head of a model: layer, counted from the front, and number. Raises InputError for what is none."""
    return _head(node_of(config, head, "heads", among=("z", "q", "pattern", "result")), head)


def heads_of(config: Config, heads: Nodes) -> tuple[Head, ...]:
    """Heads of this model, in the order given; of a key/value head, the query heads that share it.

    Raises:
        InputError: no head, one that the model lacks, or one that is named twice.
    """
    found = []
    for given in listed(heads, "heads"):
        node = node_of(config, given, "heads", among=("z", "q", "k", "v", "pattern", "result"))
        layer, number = _head(node, given)
        share = config.heads_per_kv if node.kind.rows == "kv_head" else 1
        found += [(layer, number * share + place) for place in range(share)]
    if isinstance(heads, Top):  # of several sites and places it names a head several times
        found = list(dict.fromkeys(found))
    if not found:
        raise InputError(f"heads: expected a list such as [(9, 6), '9.9'], got {heads!r}")
    check_once([Node("z", *head).short for head in found], "heads")
    return tuple(found)


def shared_note(config: Config, sites: Collection[str]) -> str:
    """What a result says of keys and values that query heads share; empty where no such site is among `sites`."""
    if not config.grouped or not {"k", "v"} & set(sites):
        return ""
    return f"heads of k and v are key/value heads, each shared by {config.heads_per_kv} query heads"


def joints_of(config: Config, given: Any, argument: str, among: Sequence[str]) -> list[tuple[Node, ...]]:
    """What was named, in the order given, each a node or several together. Raises InputError as `node_of`."""
    return [
        tuple(node_of(config, node, argument, among=among) for node in read_nodes(each, argument))
        for each in listed(given, argument)
    ]


def by_name(config: Config, joints: Sequence[tuple[Node, ...]], argument: str) -> dict[str, tuple[Node, ...]]:
    """Nodes by the names of what is taken together. Raises InputError for none, and for one that is named twice."""
    if not joints or not all(joints):
        raise InputError(f"{argument}: none was given; write a list such as [(9, 6), 'mlp 3'], or one node")
    singles = tuple(node for nodes in joints if len(nodes) == 1 for node in nodes)
    for nodes in (singles, *joints):
        check_once([str(part) for node in nodes for part in parts_of(config, node)], argument)
        placed = next((node for node in nodes if node.at is not None), None)
        if placed is not None:
            raise InputError(f"{argument}: {str(placed)!r} names a place; write '{replace(placed, at=None)}' and at=")
    check_once([joint_name(nodes) for nodes in joints], argument)
    return {joint_name(nodes): nodes for nodes in joints}


def _check_axes(config: Config, site: Site, wanted: Mapping[str, Sequence | None]) -> None:
    unknown = [name for name in wanted if name not in AXES]
    if unknown:
        raise InputError(f"over: {unknown[0]!r} is not an axis; the axes are {', '.join(AXES)}")
    if "layer" not in wanted:
        raise InputError("over: a sweep runs over layers; write over=('layer', …), or give nodes to patch_at")
    if sum(name in wanted for name in PLACES) > 1:
        raise InputError("over: pos, role and q_pos are three ways to name a position; choose one")
    if "head" in wanted and n_heads_at(config, site) is None:
        raise InputError(f"over: {site.name} has no heads; the sites with heads are q k v z pattern")
    if "neuron" in wanted and site.name != "mlp_post":
        raise InputError(f"over: {site.name} has no neurons; use the site mlp_post")
    if site.name != "pattern" and ("q_pos" in wanted or "k_pos" in wanted):
        raise InputError(f"over: q_pos and k_pos are a pattern's axes; {site.name} has pos or role")
    if "k_pos" in wanted and "q_pos" not in wanted:
        raise InputError("over: k_pos needs q_pos too: ('layer', 'head', 'q_pos', 'k_pos')")


def _coordinates(
    config: Config, prompts: Prompts, site: Site, name: str, chosen: Sequence | None
) -> tuple[int, ...] | tuple[str, ...]:
    if chosen is not None and len(chosen) == 0:
        raise InputError(f"over: {name} was given no coordinate; leave it None for all")
    if name == "role":
        roles = tuple(prompts.roles) if chosen is None else tuple(chosen)
        for role in roles:
            prompts.role(role)
        return roles
    n_pos = prompts.tokens.shape[1]
    count, check = {
        "layer": (config.n_layers, lambda given: check_layer(config, given)),
        "head": (n_heads_at(config, site) or 0, lambda given: check_head(config, site, given)),
        "neuron": (config.d_mlp, lambda given: check_neuron(config, given)),
    }.get(name, (n_pos, lambda given: check_pos(n_pos, given, name)))
    return tuple(range(count)) if chosen is None else tuple(check(given) for given in chosen)


def _positions(prompts: Prompts, name: str, coords: Sequence) -> Int[Tensor, "place prompt"]:
    """Positions of each prompt: a role's own, or the same for all."""
    if name == "role":
        return torch.stack([prompts.role(role).cpu() for role in coords])
    return torch.tensor(coords)[:, None].expand(-1, len(prompts))


def _grid_at(prompts: Prompts, node: Node) -> NodeGrid:
    """The engine's form of one node; what the embeddings write is what the first layer reads."""
    place = None
    if isinstance(node.at, str):
        place = prompts.role(node.at).cpu()[None]
    elif node.at is not None:
        pos = check_pos(prompts.tokens.shape[1], node.at, f"address {node}")
        place = torch.full((1, len(prompts)), pos)
    site, layer = ("resid_pre", 0) if node.site == "embed" else (node.site, node.layer)
    return NodeGrid(site, layer, 0, None if node.part is None else (node.part,), place)


def _head(node: Node, given: object) -> Head:
    if node.part is None:
        raise InputError(f"heads: {given!r} is not a head; write (9, 6) or '9.6', layer first")
    return node.head
