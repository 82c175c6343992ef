"""Scores of circuits of edges: what the other edges carry, and the runs of many choices of edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.circuits.ablation import replacement_for
from unweave.engine.context import context_of
from unweave.engine.edge_graph import EdgeGraph, Mask
from unweave.engine.edge_masks import EdgeMaskRuns
from unweave.engine.memory import budget_bytes, forward_bytes, in_portions
from unweave.methods.replacement import Replacement, Values, replacing
from unweave.metrics.contrast import Contrast
from unweave.models.forward import AttentionInputs, looks_ahead
from unweave.models.precision import without_autocast
from unweave.models.prompts import Prompts
from unweave.models.run import Key

DONOR = "donor"


@dataclass(frozen=True)
class EdgeAblation:
    """What edges outside a circuit carry.

    Args:
        values: of some prompts, what replaces the embeddings (`resid_pre` of layer 0), `z` and `mlp_out`.
        from_run: whether these are the values of one run of the corrupted prompts.
        about: how it was done, as attributes of a result.
    """

    pair: Contrast
    graph: EdgeGraph
    values: Values = field(repr=False)
    from_run: bool
    about: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """What the other edges carry."""
        how, source = (str(self.about.get(name, "")) for name in ("how", "source"))
        if how == DONOR:
            return "the corrupted prompts' values"
        return f"{how} of the {source} prompts" if source else how

    def runs(self, prompts: Sequence[int]) -> EdgeMaskRuns:
        """The runs of some prompts."""
        context, number = context_of(self.pair, "noise"), torch.tensor(list(prompts), device=self.pair.model.device)
        recipient, config = context.recipient, context.config
        inputs = AttentionInputs.of(config, context.weights, recipient.tokens[number], recipient.lengths[number])
        embedded = context.own.values(config, context.weights, [("resid_pre", 0)], prompts)["resid_pre", 0]
        # What sees both ways may see other padding than its donor did.
        alike, first = self.from_run and not looks_ahead(config), 0
        if alike:
            starts, read = context.donor.first(recipient), self.pair.prompts.role(self.pair.metric.role).tolist()
            first = min(min(starts[n], read[n]) for n in prompts)
        return EdgeMaskRuns(self.graph, context.weights, inputs, embedded, self.values(prompts), alike, first)


def edge_ablation(
    pair: Contrast,
    graph: EdgeGraph,
    how: str | Replacement | None = None,
    reference: Prompts | None = None,
    source: str | Prompts | None = None,
    memory: int | float | None = None,
) -> EdgeAblation:
    """What edges outside a circuit carry: the corrupted prompts' values ("donor", or None), or a replacement.

    Raises:
        InputError: as `ablation_of`.
    """
    config, context = graph.config, context_of(pair, "noise")
    layers = range(config.n_layers)
    keys: list[Key] = [("resid_pre", 0), *(("z", layer) for layer in layers)]
    keys += [("mlp_out", layer) for layer in layers] if config.d_mlp else []
    if how in (None, DONOR) and reference is None and source is None:

        def values(prompts: Sequence[int]) -> dict[Key, Tensor]:
            return dict(context.donor.values(config, context.weights, keys, prompts))

        return EdgeAblation(pair, graph, values, True, {"how": DONOR, "source": "corrupted"})
    fill, note = replacement_for(pair, None if how == DONOR else how, reference, source)
    made, more = replacing(pair, keys, fill, memory)
    notes = "; ".join(filter(None, [note, more]))
    return EdgeAblation(pair, graph, made, False, {**fill.attrs, "notes": notes})


@without_autocast
def masked_scores(
    ablation: EdgeAblation,
    masks: Sequence[Mask],
    memory: int | float | None = None,
    told: Callable[[float, float], None] | None = None,
) -> Float[Tensor, "variant prompt"]:
    """The scores of circuits. `told` hears of how many runs of one prompt are done, and how many there are."""
    pair = ablation.pair
    n_prompts, device = len(pair.prompts), pair.model.device
    context, scores = context_of(pair, "noise"), pair.clean_scores.new_full((len(masks), n_prompts), float("nan"))
    read = pair.prompts.role(pair.metric.role).to(device)

    def run(prompts: range) -> None:
        runs, number = ablation.runs(prompts), torch.tensor(prompts, device=device)
        rows = torch.arange(len(prompts), device=device)
        for variant, mask in enumerate(masks):
            stream = runs.stream(mask)[rows, read[number] - runs.first]
            scores[variant, number] = context.score(stream, number).to(scores.dtype)
            if told is not None:
                told(prompts.start * len(masks) + (variant + 1) * len(prompts), len(masks) * n_prompts)

    with torch.no_grad():
        in_portions(n_prompts, budget_bytes(memory, device) // 2 // run_bytes(ablation), run)
    return scores


def run_bytes(ablation: EdgeAblation) -> int:
    """What the runs of one prompt hold: the base run, the changes of all senders, and what a layer reads."""
    config, n_pos = ablation.graph.config, ablation.pair.prompts.tokens.shape[1]
    itemsize = ablation.pair.model.dtype.itemsize
    kept = config.n_layers * (3 * config.d_model + (2 * config.n_heads + 4 * config.n_kv_heads) * config.d_head)
    changes = (2 * len(ablation.graph.senders) + 4 * (config.n_heads + 2 * config.n_kv_heads)) * config.d_model
    return forward_bytes(config, n_pos, itemsize) + itemsize * n_pos * (kept + changes)
