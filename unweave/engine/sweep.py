"""A sweep: sheets of patches over prompts, run as wavefronts within a memory budget.

1. Prompts are taken in batches whose recordings fit half of the budget; recipient and donor are run once a batch.
2. The batch's tickets (a piece of a sheet and a prompt) are sorted by the stage where their change enters, and flown
   (`unweave.engine.flight`) in the other half. A joint patch resumes the recipient's run, some prompts at a time.
3. Out of memory, fewer runs, or fewer prompts, are taken at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from unweave.engine.arrivals import arrivals
from unweave.engine.flight import Ticket, fly
from unweave.engine.memory import budget_bytes, forward_bytes, in_portions, recording_bytes, room_within
from unweave.engine.question import Question
from unweave.engine.reach import Reach, entry_stage
from unweave.engine.recording import Recording, record, sites_to_keep
from unweave.engine.resume import resume
from unweave.engine.scores import Scores
from unweave.engine.sheet import Joint, Sheet
from unweave.engine.wavefront import Wavefront
from unweave.models.precision import without_autocast
from unweave.progress import Progress


@dataclass
class Sweep:
    """The scores of a sweep. `run` may be interrupted: `scores` then holds what was finished."""

    question: Question
    sheets: Sequence[Sheet | Joint]
    memory: int | float | None = None
    progress: Progress | None = None
    scores: Scores = field(init=False)
    budget: int = field(init=False)
    waves: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.scores = Scores(sum(sheet.size for sheet in self.sheets), self.question.baseline, self.progress)
        self.budget = budget_bytes(self.memory, self.question.weights.w_e.device)

    @without_autocast
    def run(self) -> Float[Tensor, "variant prompt"]:
        """All scores."""
        q, n_pos = self.question, self.question.recipient.tokens.shape[1]
        kept = [key for keys in sites_to_keep(q.config, self._patched()) for key in keys]
        size = self.budget // 2 // recording_bytes(q.config, n_pos, kept, q.itemsize)
        with torch.no_grad():
            in_portions(len(q.recipient), size, self._run_batch)
        return self.scores.values

    def _patched(self) -> list[tuple[str, int]]:
        members = [sheet for patch in self.sheets for sheet in patch.members]
        return list(dict.fromkeys((sheet.site, sheet.layer) for sheet in members))

    def _run_batch(self, batch: range) -> None:
        q, budget = self.question, self.budget // 2
        reach = q.reach(batch)
        recording = record(q.config, q.weights, q.own, q.donor, batch, self._patched())
        longest = recording.stream(0).shape[1]
        room = room_within(q.config, budget, q.itemsize, longest)
        tickets = []
        for patch in self.sheets:
            if isinstance(patch, Joint):
                size = budget // 2 // forward_bytes(q.config, longest, q.itemsize)
                run = partial(self._run_joint, patch.of(batch), batch, recording, reach, room.scored)
                in_portions(len(batch), size, run)
                continue
            stage = entry_stage(q.config, patch.site, patch.layer)
            for piece in patch.of(batch).pieces(room.rows // longest):
                made = [partial(arrivals, piece, prompt, recording, reach) for prompt in range(len(batch))]
                tickets += [Ticket(stage, prompt, piece.variants, runs) for prompt, runs in enumerate(made)]
        tickets.sort(key=lambda ticket: ticket.stage)
        start = partial(Wavefront, recording)
        fly(tickets, room, reach, start, partial(self._land, batch), self.scores.report)

    def _land(self, batch: range, wave: Wavefront, finished: Sequence[Ticket]) -> None:
        """Scores what has landed. Of a finished ticket, what was not taken in could not matter."""
        variant, prompt, stream = wave.landed()
        if len(variant):
            where = prompt + batch.start
            self.scores.put(variant, where, self.question.score(stream, where, wave.room.scored))
        for ticket in finished:
            self.scores.put_rest(ticket.variants, [batch[ticket.prompt]])
        self.waves += 1
        self.scores.report()

    def _run_joint(
        self, joint: Joint, batch: range, recording: Recording, reach: Reach, scored: int, rows: range
    ) -> None:
        """Scores some prompts of a batch."""
        recording.forget()
        variant = torch.tensor([joint.offset])
        matter = [n for n in rows if _matters(joint, n, recording, reach)]
        if matter:
            stream = resume(joint, recording, matter)
            read = torch.tensor([reach.read[n] for n in matter], device=stream.device)
            where = torch.tensor([batch[n] for n in matter], device=stream.device)
            landed = stream[torch.arange(len(matter), device=stream.device), read]
            self.scores.put(variant.expand(len(matter)), where, self.question.score(landed, where, scored))
        self.scores.put_rest(variant, [batch[n] for n in rows])
        self.scores.report()


def _matters(joint: Joint, prompt: int, recording: Recording, reach: Reach) -> bool:
    """Whether any member alone would change the prompt's score: if none does, later ones meet an unchanged run."""
    return any(True for member in joint.members for _ in arrivals(member, prompt, recording, reach))
