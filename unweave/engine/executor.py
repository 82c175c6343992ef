"""The executor: runs that methods hand it, scored within a memory budget.

1. Prompts are taken in batches whose recordings fit the budget, and the runs of a batch in portions (`Batch`).
2. A portion's work items are sorted by the stage where their runs enter, and flown in wavefronts: each goes down the
   stages and takes items in until it is full; the next starts at the first item left.
3. What has landed is scored, and marked as done. An item that is done is not run again.
4. Out of memory, fewer rows, fewer variants, or fewer prompts are taken at once. Ctrl-C leaves what was done.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.engine.context import AffectedSpan, PatchContext
from unweave.engine.memory import RowBudget, budget_bytes, in_portions, is_out_of_memory
from unweave.engine.recording import Recording
from unweave.engine.wavefront import EditsInFlight, EnteringRuns, Wavefront
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
    items: Iterable[WorkItem] = ()
    edits: EditsInFlight = field(default_factory=dict)
    landed: Landed | None = None


@dataclass(frozen=True)
class Batch:
    """The runs of a batch of prompts, in `n_pieces`, of which `at_once` fit the budget together."""

    recording: Recording
    spans: Sequence[AffectedSpan]
    rows: RowBudget
    portion: Callable[[range], Portion]
    n_pieces: int = 1
    at_once: int = 1


@dataclass(frozen=True)
class Runs:
    """What a method hands the executor: runs of `n_variants`, numbered from 0, of every prompt.

    `prepared` gives those of some prompts, within a budget. A prompt takes `prompt_bytes` of it.
    """

    context: PatchContext
    n_variants: int
    prompt_bytes: int
    prepared: Callable[[range, int], Batch]


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

        def tell(in_flight: float = 0.0) -> None:
            """Reports what is done; runs in flight count by the share of their way that is done."""
            if report is not None:
                total = float(scores.done.numel())
                report(min(float(scores.done.sum()) + in_flight, total), total)

        def run(prompts: range) -> None:
            batch = runs.prepared(prompts, budget)
            in_portions(
                batch.n_pieces,
                batch.at_once,
                lambda pieces: _fly(context, scores, prompts, batch, batch.portion(pieces), tell),
            )

        try:
            in_portions(len(context.recipient), budget // runs.prompt_bytes, run)
        except KeyboardInterrupt:
            scores.stopped = True
    return scores


def _fly(
    context: PatchContext, scores: Scores, prompts: range, batch: Batch, portion: Portion, tell: Callable[..., None]
) -> None:
    """Flies a portion's work items, wavefront by wavefront."""
    rows = batch.rows
    if portion.landed is not None:
        _score(context, scores, prompts, portion.landed, rows.scored)
    left = sorted(portion.items, key=lambda item: item.stage)
    left = [item for item in left if not scores.done[item.variants, prompts[item.prompt]].all()]
    longest = max((span.positions.stop for span in batch.spans), default=1)
    while left:
        try:
            wave = Wavefront(batch.recording, rows, portion.edits)
            rest = _down(wave, left, batch.spans, tell)
            _score(context, scores, prompts, wave.landed(), rows.scored)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or rows.rows <= longest:
                raise
            rows = rows.halved(longest)
        else:
            for item in left[: len(left) - len(rest)]:
                scores.put_rest(item.variants, [prompts[item.prompt]])
            tell()
            left = rest
    scores.put_rest(portion.variants, prompts)
    tell()


def _score(context: PatchContext, scores: Scores, prompts: range, landed: Landed, portion: int) -> None:
    """Scores the runs that landed."""
    variant, prompt, stream = landed
    if len(variant):
        where = prompt + prompts.start
        found, at = context.score(stream, where, portion), (variant.cpu(), where.cpu())
        scores.values[at], scores.done[at] = found.cpu(), True


def _down(
    wave: Wavefront, items: Sequence[WorkItem], spans: Sequence[AffectedSpan], tell: Callable[..., None]
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
            tell(wave.n_runs * (stage + 1) / end)
    return left[::-1]


def _take_in(wave: Wavefront, item: WorkItem, span: AffectedSpan) -> WorkItem | None:
    """Lets an item's runs join. Returns what is left of it if the wavefront is full, and None otherwise."""
    seen = 0
    for runs in item.runs():
        count = len(runs.variants)
        done = max(0, min(count, item.skip - seen))
        if done < count:
            rest = replace(runs, variants=runs.variants[done:], delta=runs.delta[done:]) if done else runs
            joined = wave.join(rest, item.stage, span)
            if done + joined < count:
                return replace(item, skip=seen + done + joined)
        seen += count
    return None
