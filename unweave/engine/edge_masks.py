"""Runs in which only some edges are live: every other edge carries its sender's ablated value.

A receiver reads the ablated run's residual stream plus, for each edge that is kept, what the sender writes now minus
what it writes ablated. With all edges kept this is the clean run, with none the ablated one. Each head's query, key and
value read streams of their own (Conmy et al. 2023, arXiv 2304.14997; Hanna et al. 2024, arXiv 2403.17806).

Only what edges bring is computed. In the base run every receiver reads the ablated stream. A flight goes down the
layers with the changes of what senders write; a receiver is computed again if edges bring it any of them. So a circuit
of a few edges costs a few heads and MLPs, and changes that enter in the middle of the network cost what follows.
Several variants of the changes fly together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from unweave.engine.edge_graph import EdgeGraph, Mask, leading
from unweave.models.forward import (
    AttentionInputs,
    Part,
    attention_output,
    attention_z,
    halves,
    mlp,
    norm,
    project,
    split_qkv,
)
from unweave.models.run import Key
from unweave.models.weights import Weights

# Changes of what some senders write, or some receivers read, by their numbers in the graph.
Changes = Mapping[int, Float[Tensor, "variant prompt pos d_model"]]


class EdgeMaskRuns:
    """Runs of one batch of prompts.

    Args:
        embedded: the clean prompts' residual stream before the first block.
        ablated: of the ablated run `resid_pre` of layer 0, each layer's `z`, and `mlp_out` where there are MLPs.
        one_run: whether the ablated values are those of one run, so that a receiver of the ablated stream writes them.
        first: the position before which clean and ablated runs are alike.

    Attributes:
        sent: by sender, what it writes now minus what it writes ablated; a sender that writes the same has none.
        last: what the logits read, at the positions from `first` on.
    """

    def __init__(
        self,
        graph: EdgeGraph,
        weights: Weights,
        inputs: AttentionInputs,
        embedded: Float[Tensor, "prompt pos d_model"],
        ablated: Mapping[Key, Tensor],
        one_run: bool = False,
        first: int = 0,
    ) -> None:
        self.graph, self.weights, self.inputs, self.first = graph, weights, inputs, first
        config, stream = graph.config, ablated["resid_pre", 0]
        self._per_layer = config.n_heads + 2 * config.n_kv_heads + bool(config.d_mlp)
        self.sent: dict[int, Tensor] = {0: (embedded - stream)[:, first:]}
        self._reads: dict[int, Tensor] = {}
        self._streams: dict[tuple[int, Part], Tensor] = {}
        self._qkv: list[Tensor] = []
        self._prefix: list[tuple[Tensor, Tensor] | None] = []
        self._z: list[Tensor] = []
        self._mlps: list[Tensor] = []
        for layer, weights_here in enumerate(weights.layers):
            for half in filter(None, halves(config)):
                written = []
                for part in self._parts(half):
                    self._streams[layer, part] = stream[:, first:]
                    own = ablated["z" if part == "attention" else "mlp_out", layer]
                    write = self._base_heads if part == "attention" else self._base_mlp
                    changes = write(layer, stream, own)
                    self.sent |= {} if one_run else changes
                    written.append(attention_output(weights_here, own) if part == "attention" else own)
                stream = sum(written, stream)
        self.last = stream[:, first:]

    def stream(self, mask: Mask) -> Float[Tensor, "prompt pos d_model"]:
        """What the logits read in the circuit of these edges, at the positions from `first` on."""
        mask = mask & leading(mask, self.graph.feeds)
        return self.last + self.flight(mask, {number: change[None] for number, change in self.sent.items()})[0]

    def flight(
        self, mask: Mask, live: Changes, entering: Changes | None = None, keep: bool = False
    ) -> Float[Tensor, "variant prompt pos d_model"]:
        """The change of what the logits read.

        Args:
            mask: the edges that bring changes on; all lead to the logits.
            live: changes of what senders write, before the first layer.
            entering: changes of what receivers read.
            keep: make the run of the only variant the one that further flights change.
        """
        flown = _Changes(self.graph, mask, live, entering or {})
        for layer in range(self.graph.config.n_layers):
            for half in filter(None, halves(self.graph.config)):
                writes = (self._heads if part == "attention" else self._mlp for part in self._parts(half))
                written = [write(layer, flown, keep) for write in writes]
                for changes in written:
                    flown.add(changes)
                    for number, change in changes.items() if keep else ():
                        self.sent[number] = self.sent[number] + change[0] if number in self.sent else change[0]
        last = len(self.graph.receivers) - 1
        numbers, changes = flown.read([last])
        if keep and numbers:
            self.last = self.last + changes[0, :, 0]
        return changes[:, :, 0] if numbers else torch.zeros_like(flown.some)

    def _parts(self, half: Sequence[Part]) -> list[Part]:
        return [part for part in half if part == "attention" or self.graph.config.d_mlp]

    def _base_heads(
        self, layer: int, stream: Float[Tensor, "prompt pos d_model"], own: Float[Tensor, "prompt pos head d_head"]
    ) -> dict[int, Tensor]:
        config, weights, first = self.graph.config, self.weights.layers[layer], self.first
        qkv = project(config, weights, stream)
        z = attention_z(config, qkv, self.inputs)
        _, k, v = (part.transpose(1, 2)[:, :, :first] for part in split_qkv(config, qkv))
        self._prefix.append((self.inputs.rotated(k), v) if first else None)
        self._qkv.append(qkv.unflatten(-1, (-1, config.d_head))[:, first:])
        self._z.append(z[:, first:])
        changes = self._written(layer, range(config.n_heads), (z - own)[None, :, first:])
        return {number: change[0] for number, change in changes.items()}

    def _base_mlp(
        self, layer: int, stream: Float[Tensor, "prompt pos d_model"], own: Float[Tensor, "prompt pos d_model"]
    ) -> dict[int, Tensor]:
        self._mlps.append(mlp(self.graph.config, self.weights.layers[layer], stream[:, self.first :]))
        return {self._sender(layer, self.graph.config.n_heads): self._mlps[layer] - own[:, self.first :]}

    def _heads(self, layer: int, flown: "_Changes", keep: bool) -> Changes:
        """The changes of what a layer's heads write."""
        config, start = self.graph.config, layer * self._per_layer
        n_heads, share = config.n_heads, config.heads_per_kv
        numbers, changes = flown.read(range(start, start + n_heads + 2 * config.n_kv_heads))
        if not numbers:
            return {}
        parts = [number - start for number in numbers]
        own = torch.stack([self._read(number, layer, "attention") for number in numbers], dim=1)
        fused = self._project(layer, parts, own + changes)
        feeds = self.graph.feeds[numbers].any(0) & flown.sending
        heads = [head for head in range(n_heads) if feeds[self._sender(layer, head)]]
        groups = [head // share for head in heads]
        columns = [*heads, *(n_heads + g for g in groups), *(n_heads + config.n_kv_heads + g for g in groups)]
        few = replace(config, n_heads=len(heads), n_kv_heads=len(heads))
        n_variants, n_prompts = changes.shape[:2]
        runs = torch.arange(n_prompts, device=fused.device).repeat(n_variants)
        prefix = self._prefix[layer]
        z = attention_z(
            few,
            fused[..., columns, :].flatten(0, 1).flatten(-2),
            self.inputs.take(runs),
            first=self.first,
            prefix=None if prefix is None else (prefix[0][runs][:, groups], prefix[1][runs][:, groups]),
        ).unflatten(0, (n_variants, n_prompts))
        change = z - self._z[layer][:, :, heads]
        if keep:
            self._reads |= dict(zip(numbers, (own + changes)[0].unbind(1), strict=True))
            self._qkv[layer] = fused[0]
            self._z[layer][:, :, heads] = z[0]
        return self._written(layer, heads, change)

    def _project(
        self, layer: int, parts: Sequence[int], read: Float[Tensor, "variant prompt part pos d_model"]
    ) -> Float[Tensor, "variant prompt pos every_part d_head"]:
        """A layer's queries, keys and values, where some of them read other streams."""
        config, weights = self.graph.config, self.weights.layers[layer]
        by_part = weights.w_qkv.unflatten(0, (-1, config.d_head))[list(parts)]
        made = einsum(norm(config, weights.norm1, read), by_part, "v n r p d, r e d -> v n p r e")
        if weights.b_qkv is not None:
            made = made + weights.b_qkv.unflatten(0, (-1, config.d_head))[list(parts)]
        fused = self._qkv[layer].expand(len(read), -1, -1, -1, -1).clone()
        fused[..., list(parts), :] = made
        return fused

    def _written(
        self, layer: int, heads: Sequence[int], change: Float[Tensor, "variant prompt pos head d_head"]
    ) -> dict[int, Tensor]:
        """What changes of `z` change of what heads write."""
        w_o = self.weights.layers[layer].w_o.unflatten(1, (-1, change.shape[-1]))[:, list(heads)]
        written = einsum(change, w_o, "v n p h e, d h e -> h v n p d")
        return {self._sender(layer, head): written[n] for n, head in enumerate(heads)}

    def _mlp(self, layer: int, flown: "_Changes", keep: bool) -> Changes:
        """The change of what a layer's MLP writes."""
        number = (layer + 1) * self._per_layer - 1
        numbers, changes = flown.read([number])
        if not numbers:
            return {}
        read = self._read(number, layer, "mlp") + changes[:, :, 0]
        out = mlp(self.graph.config, self.weights.layers[layer], read)
        change = out - self._mlps[layer]
        if keep:
            self._reads[number], self._mlps[layer] = read[0], out[0]
        return {self._sender(layer, self.graph.config.n_heads): change}

    def _read(self, receiver: int, layer: int, part: Part) -> Float[Tensor, "prompt pos d_model"]:
        return self._reads.get(receiver, self._streams[layer, part])

    def _sender(self, layer: int, head: int) -> int:
        """A head's number, or, after the last head, the MLP's."""
        return 1 + layer * (self.graph.config.n_heads + bool(self.graph.config.d_mlp)) + head


class _Changes:
    """Changes of what senders write, on their way to receivers, all in one tensor."""

    def __init__(self, graph: EdgeGraph, mask: Mask, live: Changes, entering: Changes) -> None:
        (self.some, *_) = [*live.values(), *entering.values()]
        self.mask, self.entering, self.sending = mask, entering, mask.any(1)
        fed = graph.feeds[list(entering)].any(0).nonzero()
        first = 0 if live else int(fed[0]) if len(fed) else len(graph.senders)
        self._senders: list[int] = []
        self._values = self.some.new_empty(len(live) + int(self.sending[first:].sum()), *self.some.shape)
        self.add(live)

    def add(self, changes: Changes) -> None:
        """Changes of senders that edges bring on."""
        for number, change in changes.items():
            if self.sending[number]:
                self._values[len(self._senders)] = change
                self._senders.append(number)

    def read(self, receivers: Sequence[int]) -> tuple[list[int], Float[Tensor, "variant prompt receiver pos d_model"]]:
        """The receivers that are brought changes, and these."""
        kept = self.mask[self._senders][:, list(receivers)]
        brought = zip(receivers, kept.any(0).tolist(), strict=True)
        numbers = [number for number, any_edge in brought if any_edge or number in self.entering]
        kept = self.mask[self._senders][:, numbers].to(self.some)
        total = einsum(kept, self._values[: len(self._senders)], "s r, s v n p d -> v n r p d")
        for place, number in enumerate(numbers):
            if number in self.entering:
                total[:, :, place] += self.entering[number]
        return numbers, total
