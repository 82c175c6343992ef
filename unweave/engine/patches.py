"""Patches as runs for the executor: grids of nodes, whose runs enter changed, and joint patches, edited in flight.

1. Recipient and donor are recorded for a batch of prompts, in half of the budget.
2. A grid gives a work item for each of its pieces and prompts: runs that enter with what the donor's value writes to
   the stream in place of the recipient's.
3. A joint patch gives a work item for each prompt: a run that enters unchanged before its first node, and takes the
   donor's value at each of its nodes as it passes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.engine.context import AffectedSpan, PatchContext, entry_stage
from unweave.engine.entering import EnteringRuns, entering
from unweave.engine.executor import Portion, WorkItem
from unweave.engine.grid import JointPatch, NodeGrid
from unweave.engine.memory import RowBudget, recording_bytes, row_budget
from unweave.engine.recording import Recording, record, sites_to_keep
from unweave.engine.wavefront import EditsInFlight, Rows
from unweave.models.config import Config
from unweave.models.forward import stage_read
from unweave.models.run import Key
from unweave.models.sites import SITES


@dataclass(frozen=True)
class PatchRuns:
    """A run for each variant of the patches and each prompt."""

    context: PatchContext
    patches: Sequence[NodeGrid | JointPatch]

    @property
    def n_variants(self) -> int:
        return sum(patch.size for patch in self.patches)

    @cached_property
    def patched(self) -> list[Key]:
        """Sites and layers."""
        return list(dict.fromkeys((grid.site, grid.layer) for patch in self.patches for grid in patch.members))

    def prompts_at_once(self, budget: int) -> int:
        context, n_pos = self.context, self.context.recipient.tokens.shape[1]
        kept = [key for keys in sites_to_keep(context.config, self.patched) for key in keys]
        return budget // 2 // recording_bytes(context.config, n_pos, kept, context.itemsize)

    def prepared(self, prompts: range, budget: int) -> "PatchBatch":
        context = self.context
        recording = record(context.config, context.weights, context.own, context.donor, prompts, self.patched)
        rows = row_budget(context.config, budget // 2, context.itemsize, recording.stream(0).shape[1])
        return PatchBatch([patch.of(prompts) for patch in self.patches], recording, context.spans(prompts), rows)


@dataclass(frozen=True)
class PatchBatch:
    """The runs of a batch of prompts, in one piece."""

    patches: Sequence[NodeGrid | JointPatch]
    recording: Recording
    spans: Sequence[AffectedSpan]
    rows: RowBudget
    n_pieces: int = 1
    at_once: int = 1

    def portion(self, pieces: range) -> Portion:
        grids = [patch for patch in self.patches if isinstance(patch, NodeGrid)]
        joint = [patch for patch in self.patches if isinstance(patch, JointPatch)]
        variants = torch.cat([patch.variants for patch in self.patches])
        return Portion(variants, [*self._grid_items(grids), *self._joint_items(joint)], self._edits(joint))

    def _grid_items(self, grids: Sequence[NodeGrid]) -> Iterator[WorkItem]:
        most = self.rows.rows // self.recording.stream(0).shape[1]
        for grid in grids:
            stage = entry_stage(self.recording.config, grid.site, grid.layer)
            for piece in grid.pieces(most):
                for prompt, span in enumerate(self.spans):
                    yield WorkItem(
                        stage, prompt, piece.variants, partial(entering, piece, prompt, self.recording, span)
                    )

    def _joint_items(self, joint: Sequence[JointPatch]) -> Iterator[WorkItem]:
        for patch in joint:
            stage = min(first_stage(self.recording.config, grid.site, grid.layer) for grid in patch.members)
            for prompt in range(len(self.spans)):
                yield WorkItem(stage, prompt, patch.variants, partial(self._joint_run, patch, prompt))

    def _joint_run(self, patch: JointPatch, prompt: int) -> Iterator[EnteringRuns]:
        """The run, if any node by itself would change the score: if none does, later ones meet an unchanged run."""
        span = self.spans[prompt]
        if any(True for grid in patch.members for _ in entering(grid, prompt, self.recording, span)):
            yield EnteringRuns.unchanged(patch.variants, prompt, span.positions.start, self.recording.stream(0))

    def _edits(self, joint: Sequence[JointPatch]) -> EditsInFlight:
        """The donor's values at the nodes of joint patches."""
        nodes: dict[Key, list[NodeGrid]] = {}
        for grid in (grid for patch in joint for grid in patch.members):
            nodes.setdefault((grid.site, grid.layer), []).append(grid)
        return {key: GivenValues(key[0], self.recording.donor[key], grids) for key, grids in nodes.items()}


def first_stage(config: Config, site: str, layer: int) -> int:
    """The stage that a run must be in flight at, to be edited at a site."""
    if site.startswith("resid"):
        return entry_stage(config, site, layer)
    return stage_read(config, "mlp" if site.startswith("mlp") else "attention", layer)


@dataclass(frozen=True)
class GivenValues:
    """An edit in flight: `values[prompt, pos, …]` (of a pattern `[prompt head q_pos k_pos]`) at single nodes.

    Each of `nodes` stands for its first part and place, in the runs of its variant.
    """

    site: str
    values: Tensor
    nodes: Sequence[NodeGrid]

    def __call__(self, value: Tensor, rows: Rows) -> Tensor:
        if SITES[self.site].rows == "attention":  # a pattern's query comes second, as any position
            given = self.values.transpose(1, 2)[rows.prompt, rows.pos][..., : value.shape[-1]]
            return self._chosen(value.transpose(1, 2), given, rows).transpose(1, 2)
        return self._chosen(value, self.values[rows.prompt, rows.pos], rows)

    def _chosen(self, own: Tensor, given: Tensor, rows: Rows) -> Tensor:
        n_rows = rows.pos.ndim
        taken = torch.zeros(own.shape[: n_rows + 1], dtype=torch.bool, device=own.device)
        for node in self.nodes:
            there = rows.variant == node.offset
            if node.places is not None:
                there = there & (rows.pos == self._place(node)[rows.prompt])
            part = slice(None) if node.parts is None else slice(node.parts[0], node.parts[0] + 1)
            taken[..., part] |= there[..., None]
        return torch.where(taken[(..., *(None,) * (own.ndim - taken.ndim))], given, own)

    def _place(self, node: NodeGrid) -> Int[Tensor, " prompt"]:
        assert node.places is not None
        return node.places[0].to(self.values.device)
