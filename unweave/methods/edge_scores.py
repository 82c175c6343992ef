"""Scores of all edges of a model that need no run per edge: by gradient, and by each receiver's own response.

    gradient               d_u · dm/dx_v                                 EAP (Syed et al. 2023, arXiv 2310.10348)
    integrated             the same, the gradient averaged on the way    EAP-IG (Hanna et al. 2024, arXiv 2403.17806)
    local                  (out_v(x_v + d_u) - out_v(x_v)) · dm/d out_v  the receiver exactly, all after it linear

`d_u` is what the sender writes in the donor's run minus that in the recipient's, `x_v` what the receiver reads in the
recipient's run, `m` the metric. A score is the change of the metric that it predicts, in the metric's unit.

On its way from recipient to donor the gradient is taken at (see `points`):

    recipient     the recipient's run
    inputs        runs whose token embeddings are k/n of the way from the donor's to the recipient's, k = 0 … n - 1
    activations   runs in which one layer's heads, one MLP or the embeddings are k/n of that way, k = 1 … n
    ends          the recipient's and the donor's run
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.engine.context import PatchContext, RunDonor
from unweave.engine.edge_graph import INPUTS, EdgeGraph
from unweave.engine.edges import Changes, Responses, changes_of, edge_bytes, record_edges, response_bytes, sent
from unweave.engine.gradients import Gradients, at_inputs, gradient_bytes, gradients, keys_at_outputs
from unweave.engine.memory import in_portions
from unweave.engine.recording import Recording
from unweave.models.precision import without_autocast
from unweave.models.run import Key
from unweave.nodes import Node

Table = Float[Tensor, "prompt sender receiver"]


@dataclass(frozen=True)
class EdgeScores:
    """Scores of all pairs of senders and receivers, 0 for those that no edge joins."""

    gradient: Table
    local: Table | None = None


@without_autocast
def edge_scores(
    context: PatchContext,
    graph: EdgeGraph,
    wanted: Bool[Tensor, "sender receiver"],
    places: Int[Tensor, " prompt"] | None,
    budget: int,
    told: Callable[[int], None],
    path: str = "recipient",
    steps: int = 5,
    local: bool = False,
) -> EdgeScores:
    """The scores of all edges, local ones of those that are `wanted`; `told` hears of the prompts that are done."""
    n_pos, itemsize = context.recipient.tokens.shape[1], context.itemsize
    one = edge_bytes(graph, n_pos, itemsize) + gradient_bytes(context)
    one += 2 * len(graph.receivers) * n_pos * graph.config.d_model * itemsize
    found: list[list[Tensor]] = [[], []]
    # Of responses the gradient is taken one product before the stream.
    sites = ("z", "mlp_post") if graph.config.d_mlp else ("z",)
    outputs = [(site, layer) for layer in range(graph.config.n_layers) for site in sites]

    def run(prompts: range) -> None:
        batch = _Batch(context, graph, prompts, record_edges(graph, context, prompts), places, budget)
        slopes = gradients(context, prompts, [*keys_at_outputs(graph), *outputs])
        made = [batch.gradient(batch.mean_slopes(path, steps, slopes))]
        made += [batch.local(slopes, wanted)] if local else []
        for table, part in zip(found, made, strict=False):
            table.append(part)
        told(prompts.stop)

    in_portions(len(context.recipient), budget // 2 // one, run)
    return EdgeScores(torch.cat(found[0]), torch.cat(found[1]) if local else None)


@dataclass(frozen=True)
class _Batch:
    """Some prompts, with the recordings of both their runs."""

    context: PatchContext
    graph: EdgeGraph
    prompts: range
    recording: Recording
    places: Int[Tensor, " prompt"] | None
    budget: int

    def changes(self) -> Iterator[tuple[int, Changes]]:
        """Of each prompt, what all senders change at the positions that can matter."""
        for n, span in enumerate(self.context.spans(self.prompts)):
            yield n, changes_of(self.graph, self.recording, n, span.positions)

    def read(self, receiver: Node, n: int, changes: Changes) -> Changes:
        """The changes of a prompt as a receiver reads them."""
        place = None if self.places is None else int(self.places[self.prompts[n]])
        (span,) = self.context.spans(self.prompts[n : n + 1])
        return sent(self.graph.config, receiver, changes, span, place)

    def mean_slopes(self, path: str, steps: int, at_recipient: Gradients) -> Float[Tensor, "prompt receiver pos d"]:
        """The gradient at each receiver's input, averaged over the points of a path."""
        if path == "recipient":
            return at_inputs(self.context, self.graph, at_recipient)
        total, count = torch.zeros(()), 0
        for given in self.points(path, steps):
            found = gradients(self.context, self.prompts, keys_at_outputs(self.graph), given)
            total, count = total + at_inputs(self.context, self.graph, found), count + 1
        return total / count

    def points(self, path: str, steps: int) -> Iterator[dict[Key, Tensor]]:
        """What the recipient's run is given at each point."""
        context, recording, number = self.context, self.recording, list(self.prompts)
        assert isinstance(context.donor, RunDonor)
        sides = context.donor.prompts, context.recipient
        embedded = [context.weights.w_e[side.tokens[number]] for side in sides]
        ends = {("embed", -1): (embedded[0], embedded[1])}
        if path == "activations":
            for layer in range(self.graph.config.n_layers):
                for site in ("z", "mlp_out") if self.graph.config.d_mlp else ("z",):
                    ends[site, layer] = recording.donor[site, layer], recording.recipient[site, layer]
        shares = {
            "ends": [0.0, 1.0],
            "inputs": [step / steps for step in range(steps)],
            "activations": [(step + 1) / steps for step in range(steps)],
        }[path]
        for key, (donor, own) in ends.items():
            for share in shares:
                yield {key: donor + share * (own - donor)}

    def gradient(self, slopes: Float[Tensor, "prompt receiver pos d_model"]) -> Table:
        """Changes times gradients."""
        joined, rows = self.graph.joined.to(slopes.device), []
        for n, whole in self.changes():
            changes = self.read(Node("logits"), n, whole)
            at = slice(changes.first, changes.positions.stop)
            rows.append(einsum(changes.values, slopes[n, :, at], "s p d, r p d -> s r") * joined)
        return torch.stack(rows)

    def local(self, found: Gradients, wanted: Bool[Tensor, "sender receiver"]) -> Table:
        """Each receiver's response times the gradient at its output; of the logits, the change of the score."""
        graph, stream = self.graph, self.recording.stream(0)
        table = stream.new_zeros(len(self.prompts), *graph.joined.shape)
        most = max(1, self.budget // 8 // response_bytes(graph.config, stream.shape[1], self.context.itemsize))
        columns = {receiver: number for number, receiver in enumerate(graph.receivers)}
        for n, whole in self.changes():
            responses = Responses(graph, self.recording, n)
            for layer in range(graph.config.n_layers):
                for site in (*INPUTS, *(["mlp"] if graph.config.d_mlp else [])):
                    first = Node(site, layer) if site == "mlp" else Node(site, layer, 0)
                    number = 1 if site == "mlp" else len(graph.parts(site))
                    column = slice(columns[first], columns[first] + number)
                    senders, changes = wanted[:, column].any(1).nonzero()[:, 0], self.read(first, n, whole)
                    for some in senders.split(most) if len(senders) else ():
                        table[n, some, column] = self._through(responses, site, layer, changes.some(some), found)
            table[n, :, -1] = self._to_logits(n, self.read(graph.receivers[-1], n, whole))
        return table

    def _through(
        self, responses: Responses, site: str, layer: int, changes: Changes, found: Gradients
    ) -> Float[Tensor, "sender part"]:
        """Of all receivers of one kind in a layer."""
        n, at = responses.prompt, slice(changes.first, changes.positions.stop)
        if site == "mlp":
            slope = found.slopes["mlp_post", layer][n, at]
            return einsum(responses.of_neurons(layer, changes), slope, "s p d, p d -> s")[:, None]
        parts = self.graph.parts(site)
        change = responses.of_heads(site, layer, parts, changes)
        slope = found.slopes["z", layer][n, at]
        return einsum(change, slope, "s p h e, p h e -> s h").unflatten(1, (len(parts), -1)).sum(2)

    def _to_logits(self, n: int, changes: Changes) -> Float[Tensor, " sender"]:
        """The change of the score, if the logits read the changes."""
        (span,), row = self.context.spans(self.prompts[n : n + 1]), self.prompts[n]
        if span.read not in changes.positions:
            return changes.values.new_zeros(len(changes.values))
        stream = self.recording.stream(2 * self.graph.config.n_layers)[n, span.read]
        streams = torch.cat([stream[None], stream + changes.values[:, span.read - changes.first]])
        scores = self.context.score(streams, torch.full((len(streams),), row, device=streams.device))
        return (scores[1:] - scores[0]).to(stream.dtype)
