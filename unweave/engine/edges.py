"""Edges, exactly: a receiver reads its stream plus a sender's change, and all that follows is live.

1. Recipient and donor are recorded for a batch of prompts. What a sender changes is its output in the donor's run minus
   that in the recipient's (`Changes`).
2. What a receiver writes, if it reads its stream plus that change, is computed by itself (`responses`): a query, key or
   value changes the attention of its heads, an MLP its output.
3. This response is a change of the stream that enters the wavefront after the receiver; of the logits it is the
   sender's change itself, where the metric reads.

At a role a sender's change is sent at that position only. Half of the memory budget is for the recording and the
changes of a batch of prompts, an eighth for responses, a quarter for the runs in flight.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.context import AffectedSpan, PatchContext, last_attention
from unweave.engine.edge_graph import INPUTS, EdgeGraph
from unweave.engine.executor import Batch, Portion, Runs, WorkItem
from unweave.engine.memory import recording_bytes, row_budget
from unweave.engine.recording import Recording, record, sites_to_keep
from unweave.engine.wavefront import EnteringRuns
from unweave.models.config import Config
from unweave.models.forward import attention_z, looks_ahead, mlp_neurons, project, read_by, stage_read
from unweave.models.run import Key
from unweave.nodes import Node

# More senders at once make no product faster, and an item whose runs do not all fit is computed again.
MOST_SENDERS = 64


@dataclass(frozen=True)
class Changes:
    """What some senders change in one prompt, at consecutive positions from `first` on."""

    first: int
    values: Float[Tensor, "sender pos d_model"]

    @property
    def positions(self) -> range:
        return range(self.first, self.first + self.values.shape[1])

    def some(self, senders: Int[Tensor, " chosen"]) -> "Changes":
        """Those of some of the senders."""
        return replace(self, values=self.values[senders.to(self.values.device)])


def changes_of(graph: EdgeGraph, recording: Recording, prompt: int, positions: range) -> Changes:
    """The changes of all senders, in the graph's order, at some positions of a prompt."""
    config, at = graph.config, slice(positions.start, positions.stop)
    values, heads = [recording.difference("resid_pre", 0)[prompt, None, at]], tuple(range(config.n_heads))
    for layer in range(config.n_layers):
        values.append(recording.written_by_heads(layer, recording.difference("z", layer)[prompt, at], False, heads))
        values += [recording.difference("mlp_out", layer)[prompt, None, at]] if config.d_mlp else []
    return Changes(positions.start, torch.cat(values))


def sent(config: Config, receiver: Node, changes: Changes, span: AffectedSpan, place: int | None) -> Changes:
    """The changes as a receiver reads them: at `place` only if it is given, and at all positions that its output may
    change at, which are others too for keys, values, and attention that sees both ways."""
    if place is None:
        return changes
    elsewhere = receiver.site in ("k", "v") or (receiver.site == "q" and looks_ahead(config))
    at = read_by(config, place, span.positions) if elsewhere else range(place, place + 1)
    values = changes.values.new_zeros(len(changes.values), len(at), changes.values.shape[2])
    if place in changes.positions and place in at:
        values[:, place - at.start] = changes.values[:, place - changes.first]
    return Changes(at.start, values)


def record_edges(graph: EdgeGraph, context: PatchContext, prompts: range) -> Recording:
    """What edges need of both runs."""
    return record(graph.config, context.weights, context.own, context.donor, prompts, *kept_for_edges(graph))


def kept_for_edges(graph: EdgeGraph) -> tuple[list[Key], list[Key]]:
    """Sites and layers that are kept of both runs, and of the recipient as well."""
    layers = range(graph.config.n_layers)
    sent = [("resid_pre", 0), *(("z", layer) for layer in layers)]
    sent += [("mlp_out", layer) for layer in layers] if graph.config.d_mlp else []
    return sent, [("q", layer) for layer in layers]


def edge_bytes(graph: EdgeGraph, n_pos: int, itemsize: int) -> int:
    """What one prompt takes: both recordings, and the changes of all senders."""
    kept = [key for keys in sites_to_keep(graph.config, *kept_for_edges(graph)) for key in keys]
    changes = len(graph.senders) * n_pos * graph.config.d_model * itemsize
    return recording_bytes(graph.config, n_pos, kept, itemsize) + 2 * changes


def response_bytes(config: Config, n_pos: int, itemsize: int) -> int:
    """What the response to one sender holds at its widest: of all heads of a layer, or of an MLP."""
    attention = (6 * config.n_heads + 8 * config.n_kv_heads) * config.d_head + 4 * config.n_heads * n_pos
    return n_pos * (4 * config.d_model + max(attention, 3 * config.d_mlp)) * max(itemsize, 4)


@dataclass(frozen=True)
class Responses:
    """What receivers of one prompt write if they read their stream plus a change.

    The receiver's own output is computed in the same products, as one more run, so that what a change does not touch
    stays as it is, to the bit or to rounding.
    """

    graph: EdgeGraph
    recording: Recording
    prompt: int

    def of_neurons(self, layer: int, changes: Changes) -> Float[Tensor, "sender pos d_mlp"]:
        """The change of an MLP's activations."""
        stream = self._read(stage_read(self.graph.config, "mlp", layer), changes)
        post = mlp_neurons(self.graph.config, self.recording.weights.layers[layer], stream)
        return post[1:] - post[0]

    def of_heads(
        self, site: str, layer: int, parts: Sequence[int], changes: Changes
    ) -> Float[Tensor, "sender pos head d_head"]:
        """The change of `z` of the heads that read the queries, keys or values `parts`, part by part.

        It is there at the positions of the changes; what reads a key or value at other positions is left out.
        """
        config, recording, e = self.graph.config, self.recording, self.graph.config.d_head
        share = 1 if site == "q" else config.heads_per_kv
        heads = [part * share + n for part in parts for n in range(share)]
        groups = [head // config.heads_per_kv for head in heads] if site == "q" else list(parts)
        n_runs, at = len(changes.values) + 1, slice(changes.first, changes.positions.stop)
        blocks = {"q": heads, "k": groups, "v": groups}
        runs = {
            name: recording.recipient[name, layer][self.prompt, at][:, which].expand(n_runs, -1, -1, -1)
            for name, which in blocks.items()
        }
        stream = self._read(stage_read(config, "attention", layer), changes)
        first = {"q": 0, "k": config.n_heads, "v": config.n_heads + config.n_kv_heads}[site]
        columns = torch.cat([torch.arange((first + n) * e, (first + n + 1) * e) for n in blocks[site]])
        runs[site] = project(config, self.recording.weights.layers[layer].of_columns(columns), stream)
        fused = torch.cat([x if x.ndim == 3 else x.flatten(-2) for x in (runs[name] for name in INPUTS)], dim=-1)
        prefix = None
        if changes.first:
            keys, values = (x[self.prompt, groups, : changes.first] for x in recording.prefix(layer))
            prefix = keys.expand(n_runs, -1, -1, -1), values.expand(n_runs, -1, -1, -1)
        few = replace(config, n_heads=len(heads), n_kv_heads=len(groups))
        inputs = recording.inputs.take(slice(self.prompt, self.prompt + 1), at.stop)
        z = attention_z(few, fused, inputs, first=changes.first, prefix=prefix)
        return z[1:] - z[0]

    def written(self, receiver: Node, changes: Changes) -> Float[Tensor, "sender pos d_model"]:
        """The change of what a receiver writes to the stream; of the logits, what they read."""
        if receiver.site == "logits":
            return changes.values
        weights = self.recording.weights.layers[receiver.layer]
        if receiver.site == "mlp_out":
            assert weights.w_out is not None
            return F.linear(self.of_neurons(receiver.layer, changes), weights.w_out)
        assert receiver.part is not None
        change = self.of_heads(receiver.site, receiver.layer, [receiver.part], changes)
        width = change.shape[2] * change.shape[3]
        return F.linear(change.flatten(2), weights.w_o[:, receiver.part * width : (receiver.part + 1) * width])

    def _read(self, stage: int, changes: Changes) -> Float[Tensor, "run pos d_model"]:
        """The stream before a stage as it is, and with each change."""
        own = self.recording.stream(stage)[self.prompt, changes.first : changes.positions.stop]
        return torch.cat([own[None], own + changes.values])


def edge_runs(
    context: PatchContext,
    graph: EdgeGraph,
    edges: Sequence[tuple[int, int]],
    places: Int[Tensor, " prompt"] | None = None,
) -> Runs:
    """A run for each edge and prompt. `edges` are numbers of senders and receivers of the graph.

    `places[prompt]` is where senders send; None stands for all positions.
    """
    n_pos, itemsize = context.recipient.tokens.shape[1], context.itemsize

    def prepared(prompts: range, budget: int) -> Batch:
        recording, spans = record_edges(graph, context, prompts), context.spans(prompts)
        most = max(1, min(MOST_SENDERS, budget // 8 // response_bytes(context.config, n_pos, itemsize)))
        at = None if places is None else places[list(prompts)].tolist()
        batch = EdgeBatch(graph, edges, recording, spans, at, most)
        return Batch(recording, spans, row_budget(context.config, budget // 4, itemsize, n_pos), batch.portion)

    return Runs(context, len(edges), 2 * edge_bytes(graph, n_pos, itemsize), prepared)


@dataclass(frozen=True)
class EdgeBatch:
    """The runs of a batch of prompts, in one piece. Responses are computed for `most` senders at once."""

    graph: EdgeGraph
    edges: Sequence[tuple[int, int]]
    recording: Recording
    spans: Sequence[AffectedSpan]
    places: Sequence[int] | None
    most: int

    def portion(self, pieces: range) -> Portion:
        """Work items for each receiver, prompt, and some of the receiver's senders."""
        graph, by_receiver = self.graph, defaultdict(list)
        for variant, (sender, receiver) in enumerate(self.edges):
            by_receiver[receiver].append((variant, sender))
        changes = [changes_of(graph, self.recording, n, span.positions) for n, span in enumerate(self.spans)]
        items = []
        for number, edges in by_receiver.items():
            receiver = graph.receivers[number]
            for start in range(0, len(edges), self.most):
                variants, senders = torch.tensor(edges[start : start + self.most]).T
                for prompt, change in enumerate(changes):
                    run = partial(self._run, receiver, prompt, variants, change.some(senders))
                    items.append(WorkItem(graph.enters(receiver), prompt, variants, run))
        return Portion(torch.arange(len(self.edges)), items)

    def _run(
        self, receiver: Node, prompt: int, variants: Int[Tensor, " variant"], changes: "Changes"
    ) -> Iterator[EnteringRuns]:
        """The edges of one receiver that can matter."""
        graph, span = self.graph, self.spans[prompt]
        changes = sent(graph.config, receiver, changes, span, None if self.places is None else self.places[prompt])
        matters = changes.values.flatten(1).any(1).cpu()
        if not matters.any():
            return
        variants, changes = variants[matters], replace(changes, values=changes.values[matters])
        delta, first = Responses(graph, self.recording, prompt).written(receiver, changes), changes.first
        if graph.enters(receiver) > last_attention(graph.config):
            if span.read not in changes.positions:
                return
            at = span.read - first
            delta, first = delta[:, at : at + 1], span.read
        yield EnteringRuns(variants, prompt, first, delta)
