"""Recorded runs that several path sweeps share.

A sweep with few senders costs less than the two runs that it starts from. Where many sweeps ask about the same prompts,
these are run once, with all that any of the sweeps may need of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from unweave.engine.question import Question
from unweave.engine.recording import Recording, record
from unweave.models.config import Config
from unweave.models.run import Key


@dataclass
class Tape:
    """Recordings of one question's runs by batch of prompts, each made when it is first asked for.

    `patched` are the (site, layer) pairs kept of both runs, `also` those kept of the recipient's alone.
    """

    patched: Sequence[Key]
    also: Sequence[Key]
    _made: dict[tuple[int, ...], Recording] = field(default_factory=dict, repr=False)

    @staticmethod
    def of_heads(config: Config) -> "Tape":
        """What path sweeps from any heads to any heads or to the logits need, with attention frozen by `z`."""
        layers = range(config.n_layers)
        inputs = [(site, layer) for site in ("attn_out", "q", "k", "v") for layer in layers]
        return Tape([("z", layer) for layer in layers], inputs)

    def recording(self, question: Question, batch: Sequence[int]) -> Recording:
        """The recording of these prompts. The question must be the same, or one about the same two runs."""
        key = tuple(batch)
        if key not in self._made:
            q = question
            self._made[key] = record(q.config, q.weights, q.recipient, q.donor, batch, self.patched, self.also)
        return self._made[key]
