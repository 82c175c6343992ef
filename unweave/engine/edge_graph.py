"""The graph of a model: what writes to the residual stream, what reads it, and which edges join them.

    senders      embed (token and position embeddings together), each head, each MLP
    receivers    each head's query; the key and the value of each key/value head; each MLP; the logits

An edge joins a sender to every receiver that reads the stream after the sender has written to it: in a serial block a
head to the MLP of its layer, in a parallel one not. A key or value that several query heads share is one receiver.

A dead end is an edge whose receiver leads to no logits, or whose sender nothing leads to from the embeddings. A head is
one node: what its query, key or value reads leads to what it writes. A key or value that heads share leads to each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool
from torch import Tensor

from unweave.models.config import Config
from unweave.models.forward import Part, stage_read, stage_written
from unweave.nodes import Node

INPUTS = ("q", "k", "v")
Mask = Bool[Tensor, "sender receiver"]


@dataclass(frozen=True)
class EdgeGraph:
    """Senders and receivers of a model, each in the order of the network."""

    config: Config

    @cached_property
    def senders(self) -> tuple[Node, ...]:
        config, found = self.config, [Node("embed")]
        for layer in range(config.n_layers):
            found += [Node("z", layer, head) for head in range(config.n_heads)]
            found += [Node("mlp", layer)] if config.d_mlp else []
        return tuple(found)

    @cached_property
    def receivers(self) -> tuple[Node, ...]:
        config, found = self.config, []
        shared = config.n_kv_heads < config.n_heads
        for layer in range(config.n_layers):
            found += [Node(s, layer, head, kv=shared and s != "q") for s in INPUTS for head in self.parts(s)]
            found += [Node("mlp", layer)] if config.d_mlp else []
        return (*found, Node("logits"))

    def parts(self, site: str) -> range:
        """The heads of a layer that receive: query heads, or key/value heads."""
        return range(self.config.n_heads if site == "q" else self.config.n_kv_heads)

    def receivers_of(self, layer: int) -> tuple[Node, ...]:
        """A layer's queries, keys, values, and its MLP if it has one: in the order of the fused projection."""
        return tuple(receiver for receiver in self.receivers if receiver.layer == layer)

    def written(self, sender: Node) -> int:
        """The first stage whose stream holds what a sender writes."""
        return 0 if sender.site == "embed" else stage_written(self.config, _part(sender), sender.layer)

    def read(self, receiver: Node) -> int:
        """The stage whose stream a receiver reads; of the logits, the one after the last block."""
        at_the_end = receiver.site == "logits"
        return 2 * self.config.n_layers if at_the_end else stage_read(self.config, _part(receiver), receiver.layer)

    def enters(self, receiver: Node) -> int:
        """The stage before which a change of what a receiver reads is in the stream again."""
        at_the_end = receiver.site == "logits"
        return 2 * self.config.n_layers if at_the_end else stage_written(self.config, _part(receiver), receiver.layer)

    @cached_property
    def sender_number(self) -> dict[Node, int]:
        return {sender: number for number, sender in enumerate(self.senders)}

    @cached_property
    def receiver_number(self) -> dict[Node, int]:
        return {receiver: number for number, receiver in enumerate(self.receivers)}

    @cached_property
    def joined(self) -> Mask:
        """Which senders are joined to which receivers."""
        written = torch.tensor([self.written(sender) for sender in self.senders])
        read = torch.tensor([self.read(receiver) for receiver in self.receivers])
        return written[:, None] <= read

    @cached_property
    def feeds(self) -> Bool[Tensor, "receiver sender"]:
        return feeds(self.senders, self.receivers, self.config.heads_per_kv)


def feeds(senders: Sequence[Node], receivers: Sequence[Node], share: int) -> Bool[Tensor, "receiver sender"]:
    """Which receivers are inputs of what writes as which senders: a key or value, of the `share` heads that read it."""
    number = {sender: n for n, sender in enumerate(senders)}
    found = torch.zeros(len(receivers), len(senders), dtype=torch.bool)
    for row, receiver in enumerate(receivers):
        heads = heads_of(receiver, share) if receiver.part is not None else [receiver]
        found[row, [number[node] for node in heads if node in number]] = True
    return found


def heads_of(receiver: Node, share: int) -> list[Node]:
    """The heads that read a query, key or value."""
    assert receiver.part is not None
    first, count = (receiver.part, 1) if receiver.site == "q" else (receiver.part * share, share)
    return [Node("z", receiver.layer, first + n) for n in range(count)]


def leading(mask: Mask, feeds: Bool[Tensor, "receiver sender"]) -> Bool[Tensor, " receiver"]:
    """Which receivers lead to the logits, which are the last one, by the edges of a mask."""
    found = torch.zeros(mask.shape[1], dtype=torch.bool)
    found[-1] = True
    while True:
        senders = (mask & found).any(1)
        more = found | (feeds & senders).any(1)
        if torch.equal(more, found):
            return found
        found = more


def without_dead_ends(mask: Mask, feeds: Bool[Tensor, "receiver sender"]) -> Mask:
    """The edges that stand on a way from the embeddings, the first sender, to the logits, the last receiver."""
    left = mask & leading(mask, feeds)
    while True:
        written = (feeds & left.any(0)[:, None]).any(0)  # something leads to the sender
        written[0] = True
        fewer = left & written[:, None]
        if torch.equal(fewer, left):
            return left & leading(left, feeds)
        left = fewer


def edge_name(sender: Node, receiver: Node) -> str:
    """`20.0 -> 23.3 q`, as an edge prints; the key or value of a shared key/value head is `5.kv1 k`."""
    return (
        f"{sender.short} -> {receiver.short} {receiver.site}"
        if receiver.site in INPUTS
        else (f"{sender.short} -> {receiver.short}")
    )


def _part(node: Node) -> Part:
    return "mlp" if node.site == "mlp_out" else "attention"
