"""The naive way: one whole run a patch, with `model.run` and edits. The runs are checked in `tests/models`."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import torch
from torch import Tensor

import unweave as uw
from tests.oracle.sweeps import within
from unweave.metrics.metric import read_logits
from unweave.models.sites import SITES, n_heads_at

Head = tuple[int, int]


def sides(pair: uw.Contrast, direction: str) -> tuple[uw.Prompts, uw.Prompts]:
    """Recipient and donor."""
    return (pair.corrupted, pair.prompts) if direction == "denoise" else (pair.prompts, pair.corrupted)


def effect(pair: uw.Contrast, direction: str, edits: Sequence[uw.Edit]) -> Tensor:
    """The effect of edits of the recipient, one a prompt."""
    logits = read_logits(pair.model.run(sides(pair, direction)[0], edits=edits), pair.metric, pair.prompts)
    return pair.effect(pair.metric.score(logits, pair.prompts, pair.reference), direction)


def places(pair: uw.Contrast, axis: str) -> list[Tensor]:
    """Positions of each prompt, for each coordinate of a position axis."""
    if axis == "role":
        return [pair.prompts.role(role) for role in pair.prompts.roles]
    return [torch.full((len(pair.prompts),), pos) for pos in range(pair.prompts.tokens.shape[1])]


def sweep(pair: uw.Contrast, site: str, over: tuple[str, ...], direction: str) -> Tensor:
    """Effects `[prompt, *over]` of single patches, as `uw.patch` orders them."""
    config, (recipient, donor) = pair.model.config, sides(pair, direction)
    ours, theirs = (pair.model.run(prompts, keep=site) for prompts in (recipient, donor))
    size = {"head": n_heads_at(config, SITES[site]) or 0, "neuron": config.d_mlp}
    axes: list[Iterable] = [range(config.n_layers)]
    axes += [range(size[name]) if name in size else places(pair, name) for name in over[1:]]
    found = []
    for layer, *at in product(*axes):
        where = dict(zip(over[1:], at, strict=True))
        value = taken(ours[site, layer], theirs[site, layer], site, where)
        found.append(effect(pair, direction, [uw.Edit(site, layer, value)]))
    table = torch.stack(found, 1).unflatten(1, [len(list(axis)) for axis in axes])
    return within(table, over, pair.prompts.lengths)


def taken(ours: Tensor, theirs: Tensor, site: str, where: Mapping[str, int | Tensor]) -> Tensor:
    """The recipient's value with the donor's at one place, written entry by entry."""
    value, every = ours.clone(), slice(None)
    part = where.get("head", where.get("neuron", every))
    place = next((where[name] for name in ("pos", "role", "q_pos") if name in where), None)
    for row in range(len(ours)):
        pos = every if place is None else int(place[row])  # type: ignore[index]
        source = int(where["k_pos"][row]) if "k_pos" in where else every  # type: ignore[index]
        index = (row, part, pos, source) if SITES[site].rows == "attention" else (row, pos, part)
        index = index[:2] if SITES[site].rows == "resid" else index
        value[index] = theirs[index]
    return value


class Paths:
    """Path patching in three whole runs a sender, every attention output held by an edit."""

    def __init__(self, pair: uw.Contrast, direction: str, mlps: str = "live") -> None:
        self.pair, self.direction, self.config = pair, direction, pair.model.config
        self.recipient, donor = sides(pair, direction)
        keep = ["z", "q", "k", "v", "resid_pre", *(["mlp_out"] if self.config.d_mlp else [])]
        self.ours, self.theirs = (pair.model.run(prompts, keep=keep) for prompts in (self.recipient, donor))
        self.frozen = [uw.Edit("z", n, self.ours["z", n]) for n in range(self.config.n_layers)]
        if mlps == "frozen":
            self.frozen += [uw.Edit("mlp_out", n, self.ours["mlp_out", n]) for n in range(self.config.n_layers)]

    def sent(self, head: Head, at: Tensor | None) -> list[uw.Edit]:
        """The run in which a head sends the donor's output and nothing else moves."""
        layer, number = head
        value = self.theirs["z", layer][:, :, number]
        if at is None:
            return [*self.frozen, uw.Edit("z", layer, value, head=number)]
        return [*self.frozen, uw.Edit("z", layer, value[torch.arange(len(at)), at], head=number, pos=at)]

    def to_logits(self, head: Head, at: Tensor | None = None) -> Tensor:
        return effect(self.pair, self.direction, self.sent(head, at))

    def to_inputs(
        self, head: Head, receivers: Sequence[tuple[int, int, str] | str], at: Tensor | None = None
    ) -> Tensor:
        """The effect through inputs of heads and MLPs, read in that run and put into the recipient's."""
        keep = ["q", "k", "v", *(["mlp_pre"] if self.config.d_mlp else [])]
        read = self.pair.model.run(self.recipient, keep=keep, edits=self.sent(head, at))
        share, edits = self.config.heads_per_kv, []
        for receiver in receivers:
            if isinstance(receiver, str):
                layer, kind, part = int(receiver.removeprefix("mlp ")), "mlp_pre", None
                value = read[kind, layer]
            else:
                layer, number, kind = receiver
                part = number if kind == "q" else number // share
                value = read[kind, layer][:, :, part]
            value = value if at is None else value[torch.arange(len(at)), at]
            edits.append(uw.Edit(kind, layer, value, head=part, pos=at))
        return effect(self.pair, self.direction, edits)

    def to_live_inputs(self, head: Head, receivers: Sequence[tuple[int, int, str]], at: Tensor | None = None) -> Tensor:
        """As `to_inputs`, with attention frozen by `q k v` outside the receivers, which then act on each other."""
        share, frozen, rows = self.config.heads_per_kv, [], torch.arange(len(self.recipient))
        for layer in range(self.config.n_layers):
            for kind in "qkv":
                parts = range(self.ours[kind, layer].shape[2])
                live = {
                    n if kind == "q" else n // share for where, n, name in receivers if (where, name) == (layer, kind)
                }
                frozen += [
                    uw.Edit(kind, layer, self.ours[kind, layer][:, :, n], head=n) for n in parts if n not in live
                ]
        layer, number = head
        value = self.theirs["z", layer][:, :, number]
        value = value if at is None else value[rows, at]
        sent = [*frozen, uw.Edit("z", layer, value, head=number, pos=at)]
        read = self.pair.model.run(self.recipient, keep=["q", "k", "v"], edits=sent)
        edits = []
        for layer, number, kind in receivers:
            part = number if kind == "q" else number // share
            edits.append(uw.Edit(kind, layer, read[kind, layer][:, :, part], head=part))
        return effect(self.pair, self.direction, edits)
