"""A sweep: sheets of patches over prompts, run as wavefronts within a memory budget.

1. Prompts are taken in batches whose recordings fit half of the budget; recipient and donor are run once a batch.
2. The batch's tickets (a sheet and a prompt) are sorted by the stage where their change enters.
3. A wavefront goes down the stages and takes tickets in until it is full. What it took is scored when it has landed;
   the next one starts at the first ticket left.
4. Out of memory, the wavefront is dropped, the capacity halved, and its tickets are run again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.engine.arrivals import arrivals
from unweave.engine.memory import budget_bytes, is_out_of_memory, recording_bytes, room_within
from unweave.engine.question import Question
from unweave.engine.reach import Reach, entry_stage
from unweave.engine.recording import Recording, record
from unweave.engine.resume import resume
from unweave.engine.sheet import Joint, Sheet
from unweave.engine.wavefront import Wavefront
from unweave.models.precision import without_autocast
from unweave.progress import Progress


@dataclass(frozen=True)
class Ticket:
    """A sheet's runs of one prompt; `skip` of those that matter have been dealt with."""

    stage: int
    sheet: Sheet
    prompt: int
    skip: int = 0


@dataclass
class Sweep:
    """The scores `values[variant, prompt]` of a sweep, NaN where not reached yet. `run` may be interrupted."""

    question: Question
    sheets: Sequence[Sheet | Joint]
    memory: int | float | None = None
    progress: Progress | None = None
    values: Float[Tensor, "variant prompt"] = field(init=False)
    waves: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        n_variants = sum(sheet.size for sheet in self.sheets)
        self.values = torch.full(
            (n_variants, len(self.question.recipient)), float("nan"), dtype=self.question.baseline.dtype
        )

    @without_autocast
    def run(self) -> Float[Tensor, "variant prompt"]:
        """All scores. After an exception `values` holds what was finished."""
        with torch.no_grad():
            for batch in self._batches():
                self._run_batch(batch)
        return self.values

    def _single(self) -> list[Sheet]:
        return [sheet for sheet in self.sheets if isinstance(sheet, Sheet)]

    def _patched(self) -> list[tuple[str, int]]:
        members = [sheet for joint in self.sheets if isinstance(joint, Joint) for sheet in joint.members]
        return list(dict.fromkeys((sheet.site, sheet.layer) for sheet in [*self._single(), *members]))

    def _budget(self) -> int:
        return budget_bytes(self.memory, self.question.weights.w_e.device)

    def _batches(self) -> list[range]:
        q = self.question
        one = recording_bytes(q.config, q.recipient.tokens.shape[1], len(self._patched()), q.itemsize)
        n_prompts, size = len(q.recipient), max(1, self._budget() // 2 // one)
        return [range(start, min(start + size, n_prompts)) for start in range(0, n_prompts, size)]

    def _run_batch(self, batch: range) -> None:
        q = self.question
        reach = q.reach(batch)
        recording = record(q.config, q.weights, q.own, q.donor, batch, self._patched())
        for joint in self.sheets:
            if isinstance(joint, Joint):
                self._run_joint(joint.of(batch), batch, recording, reach)
        stages = [(entry_stage(q.config, sheet.site, sheet.layer), sheet.of(batch)) for sheet in self._single()]
        tickets = [
            Ticket(stage, sheet, prompt)
            for stage, sheet in sorted(stages, key=lambda pair: pair[0])
            for prompt in range(len(batch))
        ]
        self._run_tickets(tickets, batch, recording, reach)

    def _run_tickets(self, tickets: list[Ticket], batch: range, recording: Recording, reach: Reach) -> None:
        """One wavefront after the other until no ticket is left."""
        q = self.question
        longest = recording.stream(0).shape[1]
        itemsize = q.itemsize
        room = room_within(q.config, self._budget() // 2, itemsize, longest)
        while tickets:
            try:
                wave = Wavefront(recording, room)
                left = self._fly(wave, tickets, reach)
                self._land(wave, tickets, left, batch)
                tickets = left
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or room.rows <= longest:
                    raise
                room = room.halved(longest)

    def _fly(self, wave: Wavefront, tickets: list[Ticket], reach: Reach) -> list[Ticket]:
        """Takes tickets in, stage by stage, until the wavefront is full; flies it to the end; returns what is left."""
        end = 2 * self.question.config.n_layers
        left = list(reversed(tickets))
        full = False
        for stage in range(tickets[0].stage, end + 1):
            wave.recording.forget()
            while left and not full and left[-1].stage == stage:
                rest = _take_in(wave, left[-1], reach)
                full = rest is not None
                left[-1:] = [] if rest is None else [rest]
            if stage < end:
                wave.advance(stage)
                self._report(wave.n_runs * (stage + 1) / end)
        return left[::-1]

    def _land(self, wave: Wavefront, tickets: list[Ticket], left: list[Ticket], batch: range) -> None:
        """Scores what has landed. Of a finished ticket, what was not taken in could not matter."""
        q = self.question
        prompts = torch.tensor(batch)
        for ticket in tickets[: len(tickets) - len(left)]:
            span = slice(ticket.sheet.offset, ticket.sheet.offset + ticket.sheet.size)
            column = self.values[span, batch[ticket.prompt]]
            column[column.isnan()] = q.baseline[batch[ticket.prompt]].cpu()
        variant, prompt, stream = wave.landed()
        if len(variant):
            where = prompts.to(prompt.device)[prompt]
            self.values[variant.cpu(), where.cpu()] = q.score(stream, where).cpu()
        self.waves += 1
        self._report(0.0)

    def _run_joint(self, joint: Joint, batch: range, recording: Recording, reach: Reach) -> None:
        stream = resume(joint, recording)
        rows = torch.arange(len(batch), device=stream.device)
        where = torch.tensor(batch, device=stream.device)
        scores = self.question.score(stream[rows, torch.tensor(reach.read, device=stream.device)], where)
        same = torch.tensor([not _matters(joint, prompt, recording, reach) for prompt in range(len(batch))])
        scores = torch.where(same.to(scores.device), self.question.baseline[where], scores)
        self.values[joint.offset, where.cpu()] = scores.cpu()
        self._report(0.0)

    def _report(self, in_flight: float) -> None:
        if self.progress is not None:
            finished = float((~self.values.isnan()).sum())
            self.progress(min(finished + in_flight, float(self.values.numel())), float(self.values.numel()))


def _matters(joint: Joint, prompt: int, recording: Recording, reach: Reach) -> bool:
    """Whether any member alone would change the prompt's score: if none does, later ones meet an unchanged run."""
    return any(True for member in joint.members for _ in arrivals(member, prompt, recording, reach))


def _take_in(wave: Wavefront, ticket: Ticket, reach: Reach) -> Ticket | None:
    """Lets a ticket's runs join. Returns what is left of it where the wavefront is full, and None otherwise."""
    seen = 0
    for arrival in arrivals(ticket.sheet, ticket.prompt, wave.recording, reach):
        count = len(arrival.variants)
        done = max(0, min(count, ticket.skip - seen))
        if done < count:
            joined = wave.join(arrival.rest(done), ticket.stage, reach)
            if done + joined < count:
                return Ticket(ticket.stage, ticket.sheet, ticket.prompt, seen + done + joined)
        seen += count
    return None
