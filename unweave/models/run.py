"""A run: one forward pass, the activations kept of it, and the edits made in it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.forward import forward, unembed
from unweave.models.prompts import Prompts
from unweave.models.sites import check_layer, check_pos, check_site, node_of
from unweave.models.weights import Weights
from unweave.nodes import SITES, Node, Site, read_node, site_named

Keep = str | tuple[str, SupportsIndex] | Callable[[str], bool]
Key = tuple[str, int]


@dataclass(frozen=True, eq=False)
class Edit:
    """ "At this node: this tensor." `Edit("z", 9, value, head=6)` or `Edit("z 9.6", value=value)`; None is all of it.

    `value` is a number, or broadcasts to what is selected: `[prompt pos d_model]` of a residual site, `[prompt pos head
    d_head]` of `q k v z`, `[prompt head q_pos k_pos]` of `scores` and `pattern` (where `pos` is the destination),
    `[prompt pos d_mlp]` of the MLP's sites; with `head`, `pos` or `neuron` given, that axis is gone. `pos` is one
    position, counted from 0, or one for each prompt: `prompts.role("end")` is each prompt's last token. A prompt that
    is too short for the one position is not edited there.
    """

    site: str | Node
    layer: SupportsIndex | None = None
    value: Tensor | float | None = None
    head: SupportsIndex | None = None
    pos: int | str | Tensor | None = None
    neuron: SupportsIndex | None = None

    def __post_init__(self) -> None:
        if self.value is None:
            raise InputError(
                "value: an edit needs one: uw.Edit('z', 9, value=0.0, head=6), uw.Edit('z 9.6', value=0.0)"
            )
        if self.head is not None and self.neuron is not None:
            raise InputError(f"neuron: a node has one part, got head={self.head} and neuron={self.neuron}")
        node = read_node(self.site, "site") if self.layer is None else self._node()
        site = node.kind
        if self.neuron is not None and site.rows != "neuron":
            raise InputError(f"neuron: {site.name} has no neurons; mlp_pre and mlp_post have")
        if self.head is not None and site.rows == "neuron":
            raise InputError(f"head: {site.name} has no heads, but neurons: write neuron={self.head}")
        own = {"site": site.name, "layer": node.layer, "pos": node.at if self.pos is None else self.pos}
        if node.part is not None:
            own |= {"neuron" if site.rows == "neuron" else "head": node.part}
        for name, value in own.items():
            object.__setattr__(self, name, value)

    def _node(self) -> Node:
        part = self.neuron if self.head is None else self.head
        at = None if isinstance(self.pos, Tensor) else self.pos
        return Node(str(self.site), self.layer, part, at)  # pyright: ignore[reportArgumentType]

    @property
    def node(self) -> Node:
        """Its place, without a tensor of positions."""
        return self._node()

    def __repr__(self) -> str:
        pos = f", pos={_short(self.pos)}" if isinstance(self.pos, Tensor) else ""
        return f"Edit({str(self.node)!r}, value {_short(self.value)}{pos})"


def _short(value: object) -> str:
    """A number as it is, and of a tensor its shape."""
    return str([*value.shape]) if isinstance(value, Tensor) else str(value)


def where(edit: Edit, n_prompts: int, device: torch.device) -> tuple:
    """The index of an edit's place in its site's tensor."""
    every = slice(None)
    pos = every if edit.pos is None else edit.pos
    prompts = torch.arange(n_prompts, device=device) if isinstance(edit.pos, Tensor) else every
    part = edit.head if edit.head is not None else edit.neuron
    last = every if part is None else part
    return (prompts, last, pos) if edit.node.kind.rows == "attention" else (prompts, pos, last)


def replaced(edit: Edit, value: Tensor) -> Tensor:
    """`value` with the edit made, in new storage. Raises InputError where the edit's value does not fit."""
    out = value.clone()
    try:
        out[where(edit, value.shape[0], value.device)] = torch.as_tensor(edit.value).to(value)
    except (RuntimeError, IndexError) as error:
        raise InputError(
            f"edits: the value of shape {_short(edit.value)} does not fit {edit.node} in its site of shape "
            f"{tuple(value.shape)}, pos={edit.pos}: {error}"
        ) from error
    return out


def placed(edit: Edit, prompts: Prompts) -> Edit:
    """The edit with the positions of its role.

    Raises InputError for a position that no prompt has; and, of one for each prompt, that this prompt lacks.
    """
    if edit.pos is None:
        return edit
    if isinstance(edit.pos, str):
        return replace(edit, pos=prompts.role(edit.pos))
    if not isinstance(edit.pos, Tensor) or not edit.pos.ndim:
        check_pos(int(prompts.lengths.max()), edit.pos)
        return edit
    if edit.pos.shape != prompts.lengths.shape:
        raise InputError(f"pos: expected one for each of the {len(prompts)} prompts, got {[*edit.pos.shape]}")
    for number, (pos, length) in enumerate(zip(edit.pos.tolist(), prompts.lengths.tolist(), strict=True)):
        check_pos(length, pos, f"pos of prompt {number + 1}")
    return edit


class Recorder:
    """A tap that makes the edits and keeps the sites asked for. Sites that are neither pass untouched."""

    def __init__(self, config: Config, keep: Iterable[Key], edits: Sequence[Edit] = ()) -> None:
        self.wanted = frozenset(keep)
        self.kept: dict[Key, Tensor] = {}
        self._edits: dict[Key, list[Edit]] = {}
        for edit in edits:
            node = node_of(config, edit.node, "edits", among=tuple(SITES))
            self._edits.setdefault((node.site, node.layer), []).append(edit)

    def __call__(self, site: str, layer: int, value: Tensor) -> Tensor:
        for edit in self._edits.get((site, layer), ()):
            value = replaced(edit, value)
        if (site, layer) in self.wanted:
            self.kept[site, layer] = value
        return value


def keys_to_keep(config: Config, keep: Keep | Iterable[Keep]) -> list[Key]:
    """The (site, layer) pairs that `keep` names: sites, TransformerLens names, (site, layer), predicates, or "all"."""
    keys: dict[Key, None] = {}
    for entry in _entries(keep):
        keys.update(dict.fromkeys(_keys_of(config, entry)))
    return list(keys)


def _entries(keep: Keep | Iterable[Keep]) -> list[Keep]:
    """`keep` as a list. A pair of a name and a number is one entry; any other tuple is a list of entries."""
    if isinstance(keep, str) or callable(keep):
        return [keep]
    if isinstance(keep, tuple) and len(keep) == 2 and isinstance(keep[0], str) and isinstance(keep[1], SupportsIndex):
        return [(keep[0], keep[1])]
    return list(keep)  # type: ignore[arg-type]


def _keys_of(config: Config, entry: Keep) -> list[Key]:
    if callable(entry) or entry == "all":
        names = {(site.name, layer): site.lens_name.format(layer) for site, layer in _sites_of(config)}
        return [key for key, name in names.items() if entry == "all" or entry(name)]  # type: ignore[operator]
    name, layer = (entry, None) if isinstance(entry, str) else entry
    site, named_layer = site_named(name)
    check_site(config, site)
    layer = named_layer if named_layer is not None else layer
    if not site.in_layers:
        return [(site.name, -1)]
    return (
        [(site.name, check_layer(config, layer))]
        if layer is not None
        else [(site.name, index) for index in range(config.n_layers)]
    )


def _sites_of(config: Config) -> list[tuple[Site, int]]:
    """Every (site, layer) that this model has."""
    present = []
    for site in SITES.values():
        try:
            check_site(config, site)
        except InputError:
            continue
        present += [(site, layer) for layer in (range(config.n_layers) if site.in_layers else (-1,))]
    return present


@dataclass(frozen=True, eq=False)
class Run:
    """One forward pass: `run["z", 9]`, `run["blocks.9.attn.hook_z"]`, `run["z"]` (all layers stacked), `run.logits`."""

    config: Config
    weights: Weights
    prompts: Prompts
    kept: Mapping[Key, Tensor]
    final: Float[Tensor, "prompt pos d_model"]

    @cached_property
    def logits(self) -> Float[Tensor, "prompt pos d_vocab_out"]:
        """Logits at every position, made when first asked for, in float32 or wider."""
        return unembed(self.weights, self.final)

    def logits_at(self, role: str = "end") -> Float[Tensor, "prompt d_vocab_out"]:
        """Logits at one role of each prompt, in float32 or wider."""
        rows = torch.arange(len(self.prompts), device=self.final.device)
        return unembed(self.weights, self.final[rows, self.prompts.role(role).to(rows.device)])

    def __getitem__(self, key: str | tuple[str, SupportsIndex]) -> Tensor:
        name, layer = (key, None) if isinstance(key, str) else key
        site, named_layer = site_named(name)
        layer = named_layer if named_layer is not None else layer
        if not site.in_layers:
            return self._kept(site.name, -1)
        if layer is not None:
            return self._kept(site.name, check_layer(self.config, layer))
        return torch.stack([self._kept(site.name, index) for index in range(self.config.n_layers)])

    def __repr__(self) -> str:
        sites = list(dict.fromkeys(site for site, _ in self.kept))
        return f"Run({self.config.name!r}, {self.prompts!r}, kept: {' '.join(sites) or 'nothing'})"

    def _kept(self, site: str, layer: int) -> Tensor:
        if (site, layer) not in self.kept:
            kept = sorted({name for name, _ in self.kept}) or ["nothing"]
            place = f"{site} of layer {layer}" if layer >= 0 else site
            raise InputError(f"{place} was not kept; pass keep=[{site!r}] to model.run (kept: {', '.join(kept)})")
        return self.kept[site, layer]


def run_model(
    config: Config, weights: Weights, prompts: Prompts, keep: Iterable[Key] = (), edits: Sequence[Edit] = ()
) -> Run:
    """One forward pass over `prompts`, with edits made and activations kept."""
    recorder = Recorder(config, keep, [placed(edit, prompts) for edit in edits])
    with torch.no_grad():
        final = forward(config, weights, prompts.tokens, recorder, prompts.lengths)
    return Run(config, weights, prompts, recorder.kept, final)
