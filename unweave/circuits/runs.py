"""The runs that the tests of a circuit compare, the circuit without K and the whole model without K; and how many
ablated runs that differ little from one of them are made: only what differs is computed.

1. One ablated run, the base, is made of a batch of prompts: the whole model, the circuit, or no head. Its residual
   stream, keys and values are kept.
2. A variant is another choice of what stays. Of each prompt it is the base up to the first layer and the first
   position where the masks differ, so it joins a wavefront there, and reads the base's keys and values before. What
   differs only where nothing leads to the position that is read has exactly the base's score.
3. In flight, `z` is replaced by the variant's mask at each layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unweave.circuits.ablation import NOTHING, Ablation, Kept
from unweave.circuits.circuit import Circuit
from unweave.circuits.halves import halves
from unweave.circuits.tables import Tested
from unweave.engine.context import GivenDonor, PatchContext, context_of
from unweave.engine.executor import Batch, Portion, Runs, Scores, WorkItem, execute
from unweave.engine.memory import budget_bytes, recording_bytes, row_budget
from unweave.engine.recording import Recording, sites_to_keep
from unweave.engine.wavefront import EnteringRuns
from unweave.engine.wavefront import Rows as RowsInFlight
from unweave.metrics.contrast import Contrast
from unweave.models.forward import AttentionInputs, forward, stage_read
from unweave.models.precision import without_autocast
from unweave.models.run import Recorder
from unweave.nodes import Head
from unweave.progress import Progress

Heads = frozenset[Head]
Rows = tuple[int, ...] | None
Masks = Bool[Tensor, "variant layer prompt pos head"]


class MaskedRuns:
    """Ablated runs around a base. `values[prompt]` are the base's scores.

    Prompts are taken in batches that fit a sixth of `memory`: the circuit, the whole model and no head are three bases.
    A base of a single batch is recorded once, of several at every call.
    """

    @without_autocast
    def __init__(self, ablation: Ablation, base: Kept, memory: int | float | None = None) -> None:
        self.ablation, self.base = ablation, base
        self.budget = budget_bytes(memory, ablation.pair.model.device)
        self.context = context_of(ablation.pair, "noise", GivenDonor(lambda _: {}))
        config, n_pos, itemsize = self.context.config, ablation.pair.prompts.tokens.shape[1], self.context.itemsize
        values = n_pos * config.n_layers * config.n_heads * config.d_head * itemsize
        one = recording_bytes(config, n_pos, sites_to_keep(config, ())[0], itemsize) + values
        self.prompt_bytes, size = 6 * one, max(1, self.budget // (6 * one))
        self._recorded: dict[range, BaseRun] = {}
        n_prompts = len(ablation.pair.prompts)
        batches = [range(start, min(start + size, n_prompts)) for start in range(0, n_prompts, size)]
        self.values: Float[Tensor, " prompt"] = torch.cat([self.base_run(prompts).scores for prompts in batches])

    def scores(
        self, kept: Sequence[Kept], of: Collection[int] | None = None, progress: Progress | bool = False
    ) -> Float[Tensor, "variant prompt"]:
        """The score of every prompt with each choice of what stays; NaN for prompts that are not among `of`."""
        left_out = [] if of is None else [row for row in range(len(self.values)) if row not in of]
        context = replace(self.context, baseline=self.values)
        scores = Scores(len(kept), self.values)
        scores.done[:, left_out] = True
        if kept:
            runs = Runs(context, len(kept), self.prompt_bytes, partial(self._prepared, kept))
            execute(runs, self.budget, progress, scores=scores)
        return scores.complete().to(self.values.device)

    def _prepared(self, kept: Sequence[Kept], prompts: range, budget: int) -> Batch:
        """A run for each choice of what stays and each of some prompts; a piece for each choice."""
        base, context = self.base_run(prompts), self.context
        rows = row_budget(context.config, budget // 4, context.itemsize, int(base.last.max()) + 1)
        at_once = max(1, budget // 8 // (4 * base.mask.numel()))  # masks, and what they are compared by

        def portion(pieces: range) -> Portion:
            masks = torch.stack([kept[number].mask(self.ablation.pair, prompts) for number in pieces])
            return base.portion(masks, pieces)

        return Batch(base.recording, base.spans, rows, portion, len(kept), at_once)

    def base_run(self, prompts: range) -> BaseRun:
        """The base of some prompts, kept if these are all."""
        if prompts not in self._recorded:
            made = BaseRun(self.ablation, self.base, self.context, prompts)
            if len(prompts) < len(self.ablation.pair.prompts):
                return made
            self._recorded[prompts] = made
        return self._recorded[prompts]


class BaseRun:
    """The base's run of a batch of prompts, with what the variants read of it."""

    def __init__(self, ablation: Ablation, base: Kept, context: PatchContext, prompts: range) -> None:
        self.mask, self.instead = base.mask(ablation.pair, prompts), ablation.values(prompts)
        config, device = context.config, self.mask.device
        number = torch.tensor(prompts, device=device)
        self.spans = context.spans(prompts)
        self.last = torch.tensor([span.positions.stop - 1 for span in self.spans], device=device)
        self.read = torch.tensor([span.read for span in self.spans], device=device)
        recorder = Recorder(config, sites_to_keep(config, ())[0])

        def tap(site: str, layer: int, value: Tensor) -> Tensor:
            if site == "z":
                value = torch.where(self.mask[layer, ..., None], value, self.instead["z", layer])
            return recorder(site, layer, value)

        tokens, lengths = context.recipient.tokens[number], context.recipient.lengths[number]
        with torch.no_grad():
            forward(config, context.weights, tokens, tap, lengths)
        inputs = AttentionInputs.of(config, context.weights, tokens, lengths)
        self.recording = Recording(config, context.weights, recorder.kept, {}, inputs)
        stream = self.recording.stream(2 * config.n_layers)
        scores = context.score(stream[torch.arange(len(prompts), device=device), self.read], number)
        # A run in which nothing is ablated is the model's own, to the bit.
        whole = ~self.counts(~self.mask).flatten(2).any(2).any(0)
        self.scores: Float[Tensor, " prompt"] = torch.where(whole, ablation.pair.clean_scores[number], scores)

    def counts(
        self, differs: Bool[Tensor, "*variant layer prompt pos head"]
    ) -> Bool[Tensor, "*variant layer prompt pos"]:
        """Where a difference can matter: in the affected span, and in the last layer at the position that is read."""
        where = torch.arange(differs.shape[-2], device=differs.device)
        matters = differs.any(-1) & (where <= self.last[:, None])
        matters[..., -1, :, :] &= where == self.read[:, None]
        return matters

    def portion(self, masks: Masks, variants: range) -> Portion:
        """The runs of some variants, each from where it leaves the base. Those that never do are left out."""
        layers = range(self.recording.config.n_layers)
        edits = {("z", layer): partial(self._ablated, layer, masks[:, layer], variants.start) for layer in layers}
        differs = self.counts(masks != self.mask)
        in_layer, at_pos = differs.any(3), differs.any(1)
        variant, prompt = in_layer.any(1).nonzero(as_tuple=True)
        layer, first = in_layer.int().argmax(1)[variant, prompt], at_pos.int().argmax(2)[variant, prompt]
        found: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for number, *key in zip(variant.tolist(), layer.tolist(), prompt.tolist(), first.tolist(), strict=True):
            found[tuple(key)].append(variants[number])
        items = []
        for (layer, prompt, first), numbers in sorted(found.items()):
            run = EnteringRuns.unchanged(torch.tensor(numbers), prompt, first, self.recording.stream(0))
            stage = stage_read(self.recording.config, "attention", layer)
            items.append(WorkItem(stage, prompt, run.variants, lambda run=run: [run]))
        return Portion(torch.tensor(variants), items, edits)

    def _ablated(
        self, layer: int, masks: Bool[Tensor, "variant prompt pos head"], start: int, value: Tensor, rows: RowsInFlight
    ) -> Tensor:
        """`z`, replaced where the mask of the row's variant does not keep it."""
        kept = masks[rows.variant - start, rows.prompt, rows.pos, :, None]
        return torch.where(kept, value, self.instead["z", layer][rows.prompt, rows.pos])


@dataclass
class CircuitRuns:
    """Scores of a circuit's subsets; each is computed once.

    `whole` are the runs around the model, F(M); `own` those around the circuit, F(C); `none` those around no head.
    What is searched for, is searched for on the prompts `chosen`, and reported on those `measured`. `tell` hears of
    how many choices of what stays have been scored, on however many prompts.
    """

    circuit: Circuit
    ablation: Ablation
    memory: int | float | None = None
    tell: Callable[[float], None] = field(default=lambda scored: None, repr=False)
    whole: MaskedRuns = field(init=False)
    own: MaskedRuns = field(init=False)
    none: MaskedRuns = field(init=False)
    chosen: tuple[int, ...] = field(init=False)
    measured: tuple[int, ...] = field(init=False)
    _scored: float = field(default=0.0, repr=False)
    _known: dict[tuple, Float[Tensor, " prompt"]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.whole = MaskedRuns(self.ablation, self.ablation.all_but(()), self.memory)
        self.own = MaskedRuns(self.ablation, self.ablation.only(self.circuit.heads), self.memory)
        self.none = MaskedRuns(self.ablation, NOTHING, self.memory)
        self.chosen, self.measured = map(tuple, halves(self.pair.prompts))

    @property
    def pair(self) -> Contrast:
        return self.ablation.pair

    @property
    def tested(self) -> Tested:
        return Tested(self.circuit, self.pair, self.whole.values, self.none.values, self.ablation.about)

    def circuit_without(self, sets: Sequence[Iterable[Head]], of: Rows = None) -> Float[Tensor, "set prompt"]:
        """F(C \\ K) for each K. Prompts that are not among `of` are NaN, here and below."""
        heads = self.circuit.heads
        return self._scores(self.own, sets, of, lambda one: self.ablation.only(set(heads) - one))

    def model_without(self, sets: Sequence[Iterable[Head]], of: Rows = None) -> Float[Tensor, "set prompt"]:
        """F(M \\ K) for each K."""
        return self._scores(self.whole, sets, of, self.ablation.all_but)

    def only(self, sets: Sequence[Iterable[Head]], of: Rows = None) -> Float[Tensor, "set prompt"]:
        """F(K) for each K: only these heads of the circuit are kept."""
        return self._scores(self.none, sets, of, self.ablation.only)

    def _scores(
        self, runs: MaskedRuns, sets: Sequence[Iterable[Head]], of: Rows, kept: Callable[[Heads], Kept]
    ) -> Float[Tensor, "set prompt"]:
        keys = {one: (id(runs), one, of) for one in map(frozenset, sets)}
        new = [one for one, key in keys.items() if key not in self._known]
        scores = self.scored(runs, [kept(one) for one in new], of)
        self._known |= {keys[one]: row for one, row in zip(new, scores, strict=True)}
        return torch.stack([self._known[keys[frozenset(one)]] for one in sets])

    def scored(self, runs: MaskedRuns, kept: Sequence[Kept], of: Rows = None) -> Float[Tensor, "variant prompt"]:
        """The scores of some choices of what stays, reported as they are done."""
        before = self._scored
        scores = runs.scores(kept, of, lambda done, total: self.tell(before + len(kept) * done / total))
        self._scored = before + len(kept)
        return scores
