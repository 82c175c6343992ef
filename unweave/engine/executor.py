"""The executor: runs that methods hand it, scored within a memory budget.

1. Prompts are taken in batches whose recordings fit the budget, and the runs of a batch in portions (`Runs`).
2. A portion's work items are sorted by the stage where their runs enter, and flown in wavefronts: each goes down the
   stages and takes items in until it is full; the next starts at the first item left.
3. What has landed is scored, and marked as done. An item that is done is not run again.
4. Out of memory, fewer rows, fewer variants, or fewer prompts are taken at once. Ctrl-C leaves what was done.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.engine.context import AffectedSpan, PatchContext
from unweave.engine.entering import EnteringRuns
from unweave.engine.memory import RowBudget, budget_bytes, in_portions, is_out_of_memory
from unweave.engine.recording import Recording
from unweave.engine.wavefront import EditsInFlight, Wavefront
from unweave.models.precision import without_autocast
from unweave.progress import Progress, shown

Landed = tuple[Int[Tensor, " run"], Int[Tensor, " run"], Float[Tensor, "run d_model"]]


@dataclass(frozen=True)
class WorkItem:
    """Runs of one prompt of a batch that enter at a stage: all that is to be done for `variants`.

    `runs` makes those that can matter, the same ones each time; `skip` of them have been dealt with.
    """

    stage: int
    prompt: int
    variants: Int[Tensor, " variant"]
    runs: Callable[[], Iterable[EnteringRuns]]
    skip: int = 0


@dataclass(frozen=True)
class Portion:
    """Runs of some variants of a batch of prompts: what is to be flown, and what has `landed` without that.

    A variant of a prompt that neither flies nor has landed could not matter: its score is the recipient's.
    """

    variants: Int[Tensor, " variant"]
    items: Sequence[WorkItem] = ()
    edits: EditsInFlight | None = None
    landed: Landed | None = None


@runtime_checkable
class Batch(Protocol):
    """The runs of a batch of prompts, in `n_pieces` of which `at_once` fit the budget together."""

    @property
    def recording(self) -> Recording: ...
    @property
    def spans(self) -> Sequence[AffectedSpan]: ...
    @property
    def rows(self) -> RowBudget: ...
    @property
    def n_pieces(self) -> int: ...
    @property
    def at_once(self) -> int: ...
    def portion(self, pieces: range) -> Portion: ...


@runtime_checkable
class Runs(Protocol):
    """What a method hands the executor. Variants are numbered from 0."""

    @property
    def context(self) -> PatchContext: ...
    @property
    def n_variants(self) -> int: ...
    def prompts_at_once(self, budget: int) -> int: ...
    def prepared(self, prompts: range, budget: int) -> Batch: ...


@dataclass
class Scores:
    """Scores `values[variant, prompt]`, NaN unless `done`. A score that is done may be NaN too: the metric's own.

    `baseline[prompt]` is the recipient's score, which a patch that cannot matter has exactly. `stopped` says that
    Ctrl-C came first.
    """

    n_variants: int
    baseline: Float[Tensor, " prompt"]
    values: Float[Tensor, "variant prompt"] = field(init=False)
    done: Bool[Tensor, "variant prompt"] = field(init=False)
    stopped: bool = False

    def __post_init__(self) -> None:
        self.baseline = self.baseline.cpu()
        shape = (self.n_variants, len(self.baseline))
        self.values = torch.full(shape, float("nan"), dtype=self.baseline.dtype)
        self.done = torch.zeros(shape, dtype=torch.bool)

    def put(self, variant: Int[Tensor, " run"], prompt: Int[Tensor, " run"], scores: Float[Tensor, " run"]) -> None:
        """The scores of some runs."""
        at = variant.cpu(), prompt.cpu()
        self.values[at], self.done[at] = scores.cpu(), True

    def put_rest(self, variants: Int[Tensor, " variant"], prompts: Sequence[int]) -> None:
        """The recipient's score of these prompts, for the variants that are not done: they could not matter."""
        at = variants[:, None], torch.tensor(list(prompts))
        self.values[at] = torch.where(self.done[at], self.values[at], self.baseline[at[1]])
        self.done[at] = True

    def complete(self) -> Float[Tensor, "variant prompt"]:
        """All values. Raises KeyboardInterrupt if Ctrl-C came first."""
        if self.stopped:
            raise KeyboardInterrupt
        return self.values

    def note(self, variants: slice = slice(None)) -> str:
        """How many of the scores that are done are NaN; nothing if none is."""
        done = self.done[variants]
        bad = int((self.values[variants].isnan() & done).sum())
        return f"the metric gave NaN for {bad} of {int(done.sum())} scores" if bad else ""


@dataclass(frozen=True)
class Execution:
    """What the steps share. `told` hears of the runs in flight, each counted by the share of its way that is done."""

    context: PatchContext
    scores: Scores
    progress: Progress | None

    def told(self, in_flight: float = 0.0) -> None:
        if self.progress is not None:
            total = float(self.scores.done.numel())
            self.progress(min(float(self.scores.done.sum()) + in_flight, total), total)


@without_autocast
def execute(
    runs: Runs,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
    title: str = "running",
    scores: Scores | None = None,
) -> Scores:
    """The scores of all runs. `scores` continues earlier ones: what is done there is skipped, in any order and part."""
    context = runs.context
    scores = Scores(runs.n_variants, context.baseline) if scores is None else scores
    budget = budget_bytes(memory, context.weights.w_e.device)
    with shown(progress, title) as report, torch.no_grad():
        execution = Execution(context, scores, report)

        def run(prompts: range) -> None:
            batch = runs.prepared(prompts, budget)
            fly = partial(_fly, execution, prompts, batch)
            in_portions(batch.n_pieces, batch.at_once, lambda pieces: fly(batch.portion(pieces)))

        try:
            in_portions(len(context.recipient), runs.prompts_at_once(budget), run)
        except KeyboardInterrupt:
            scores.stopped = True
    return scores


def _fly(execution: Execution, prompts: range, batch: Batch, portion: Portion) -> None:
    """Flies a portion's work items, wavefront by wavefront."""
    scores, rows = execution.scores, batch.rows
    if portion.landed is not None:
        _score(execution, prompts, portion.landed, rows)
    left = sorted(portion.items, key=lambda item: item.stage)
    left = [item for item in left if not scores.done[item.variants, prompts[item.prompt]].all()]
    longest = max((span.positions.stop for span in batch.spans), default=1)
    while left:
        try:
            wave = Wavefront(batch.recording, rows, portion.edits)
            rest = _down(wave, left, batch.spans, execution.told)
            _score(execution, prompts, wave.landed(), rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or rows.rows <= longest:
                raise
            rows = rows.halved(longest)
        else:
            for item in left[: len(left) - len(rest)]:
                scores.put_rest(item.variants, [prompts[item.prompt]])
            execution.told()
            left = rest
    scores.put_rest(portion.variants, prompts)
    execution.told()


def _score(execution: Execution, prompts: range, landed: Landed, rows: RowBudget) -> None:
    variant, prompt, stream = landed
    if len(variant):
        where = prompt + prompts.start
        execution.scores.put(variant, where, execution.context.score(stream, where, rows.scored))


def _down(
    wave: Wavefront, items: Sequence[WorkItem], spans: Sequence[AffectedSpan], told: Callable[[float], None]
) -> list[WorkItem]:
    """Takes items in, stage by stage, until the wavefront is full; flies it to the end; returns what is left."""
    end, left, full = 2 * wave.config.n_layers, [*items][::-1], False
    for stage in range(items[0].stage, end + 1):
        wave.recording.forget()
        while left and not full and left[-1].stage == stage:
            rest = _take_in(wave, left[-1], spans[left[-1].prompt])
            full = rest is not None
            left[-1:] = [] if rest is None else [rest]
        if stage < end:
            wave.advance(stage)
            told(wave.n_runs * (stage + 1) / end)
    return left[::-1]


def _take_in(wave: Wavefront, item: WorkItem, span: AffectedSpan) -> WorkItem | None:
    """Lets an item's runs join. Returns what is left of it if the wavefront is full, and None otherwise."""
    seen = 0
    for runs in item.runs():
        count = len(runs.variants)
        done = max(0, min(count, item.skip - seen))
        if done < count:
            joined = wave.join(runs.rest(done), item.stage, span)
            if done + joined < count:
                return replace(item, skip=seen + done + joined)
        seen += count
    return None
