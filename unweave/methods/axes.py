"""What a sweep runs over: the axes that a user names, checked once and turned into the engine's sheets.

`over` is a tuple of axis names (or `"layer, head"`), or a mapping from axis to the coordinates wanted: `{"layer": [20,
21], "role": None}`, where None stands for all, and a single coordinate for a list of it. Axes are `layer`; `head`
(`kv_head` where keys and values are grouped) or `neuron`; and one of `pos`, `role`, `q_pos` (a pattern's destination)
with `k_pos` (its source).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.engine.grid import NodeGrid
from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.models.sites import Site, check_head, check_layer, check_neuron, check_pos, n_heads_at

Over = str | Sequence[str] | Mapping[str, SupportsIndex | str | Sequence[SupportsIndex] | Sequence[str] | None]

PLACES = ("pos", "role", "q_pos")
AXES = ("layer", "head", "neuron", *PLACES, "k_pos")


@dataclass(frozen=True)
class Axes:
    """The axes of one site's sweep: `names` as the user ordered them, and each axis's coordinates."""

    site: Site
    names: tuple[str, ...]
    coords: Mapping[str, tuple[int, ...] | tuple[str, ...]]

    @property
    def shape(self) -> tuple[int, ...]:
        """In the order of the engine's sheets: layer, part, place, source, as far as the sweep has them."""
        return tuple(len(self.coords[name]) for name in self.engine_order)

    @property
    def engine_order(self) -> tuple[str, ...]:
        rank = {"layer": 0, "head": 1, "kv_head": 1, "neuron": 1, "pos": 2, "role": 2, "q_pos": 2, "k_pos": 3}
        return tuple(sorted(self.names, key=rank.__getitem__))


def axes_of(config: Config, prompts: Prompts, site: Site, over: Over) -> Axes:
    """`over` for one site of one model. Raises InputError for an axis or a coordinate that does not exist."""
    names = over.replace(",", " ").split() if isinstance(over, str) else over
    named = names if isinstance(names, Mapping) else dict.fromkeys(names)
    wanted = {("head" if name == "kv_head" else name): several(chosen) for name, chosen in named.items()}
    _check_names(config, site, wanted)
    coords: dict[str, tuple] = {}
    for name, chosen in wanted.items():
        label = "kv_head" if name == "head" and site.rows == "kv_head" and config.grouped else name
        coords[label] = _coordinates(config, prompts, site, name, chosen)
    return Axes(site, tuple(coords), coords)


def _check_names(config: Config, site: Site, wanted: Mapping[str, Sequence | None]) -> None:
    unknown = [name for name in wanted if name not in AXES]
    if unknown:
        raise InputError(f"over: {unknown[0]!r} is not an axis; the axes are {', '.join(AXES)}")
    if "layer" not in wanted:
        raise InputError("over: a sweep runs over layers; write over=('layer', …), or give a list of addresses")
    if sum(name in wanted for name in PLACES) > 1:
        raise InputError("over: pos, role and q_pos are three ways to name a position; choose one")
    if "head" in wanted and n_heads_at(config, site) is None:
        raise InputError(f"over: {site.name} has no heads; the sites with heads are q k v z pattern")
    if "neuron" in wanted and site.name != "mlp_post":
        raise InputError(f"over: {site.name} has no neurons; use the site mlp_post")
    if site.name != "pattern" and ("q_pos" in wanted or "k_pos" in wanted):
        raise InputError(f"over: q_pos and k_pos are a pattern's axes; {site.name} has pos or role")
    if "k_pos" in wanted and "q_pos" not in wanted:
        raise InputError("over: k_pos needs q_pos beside it: ('layer', 'head', 'q_pos', 'k_pos')")


def several(chosen: object) -> Sequence | None:
    """Coordinates of an axis, a single one as a list of it."""
    single = isinstance(chosen, str) or not hasattr(chosen, "__len__")
    return None if chosen is None else [chosen] if single else list(chosen)  # pyright: ignore[reportArgumentType]


def _coordinates(
    config: Config, prompts: Prompts, site: Site, name: str, chosen: Sequence | None
) -> tuple[int, ...] | tuple[str, ...]:
    if chosen is not None and len(chosen) == 0:
        raise InputError(f"over: {name} was given no coordinate; leave it None for all")
    if name == "layer":
        return tuple(range(config.n_layers)) if chosen is None else tuple(check_layer(config, n) for n in chosen)
    if name == "head":
        n_heads = n_heads_at(config, site) or 0
        return tuple(range(n_heads)) if chosen is None else tuple(check_head(config, site, n) for n in chosen)
    if name == "neuron":
        return tuple(range(config.d_mlp)) if chosen is None else tuple(check_neuron(config, n) for n in chosen)
    if name == "role":
        names = tuple(prompts.roles) if chosen is None else tuple(chosen)
        for role in names:
            prompts.role(role)
        return names
    n_pos = prompts.tokens.shape[1]
    return tuple(range(n_pos)) if chosen is None else tuple(check_pos(n_pos, place, name) for place in chosen)


def places_of(prompts: Prompts, name: str, coords: Sequence) -> Int[Tensor, "place prompt"]:
    """Positions of each prompt: a role's own, or the same for all."""
    if name == "role":
        return torch.stack([prompts.role(role).cpu() for role in coords])
    return torch.tensor(coords)[:, None].expand(-1, len(prompts))


def grids_of(axes: Axes, prompts: Prompts, offset: int) -> list[NodeGrid]:
    """One sheet a layer, numbered from `offset`."""
    coords = axes.coords
    part = next((coords[name] for name in ("head", "kv_head", "neuron") if name in coords), None)
    place = next((places_of(prompts, name, coords[name]) for name in PLACES if name in coords), None)
    source = places_of(prompts, "k_pos", coords["k_pos"]) if "k_pos" in coords else None
    one = NodeGrid(axes.site.name, 0, 0, part, place, source)  # type: ignore[arg-type]
    return [
        NodeGrid(axes.site.name, layer, offset + n * one.size, one.parts, place, source)  # type: ignore[arg-type]
        for n, layer in enumerate(coords["layer"])
    ]
