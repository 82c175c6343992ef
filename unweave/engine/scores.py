"""The scores of patched runs, and which of them are there yet."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.progress import Progress


@dataclass
class Scores:
    """Scores `values[variant, prompt]`, NaN unless `known`. A known score may be NaN too: the metric's own.

    `baseline[prompt]` is the recipient's score, which a patch that cannot matter has exactly.
    """

    n_variants: int
    baseline: Float[Tensor, " prompt"]
    progress: Progress | None = None
    values: Float[Tensor, "variant prompt"] = field(init=False)
    known: Bool[Tensor, "variant prompt"] = field(init=False)

    def __post_init__(self) -> None:
        self.baseline = self.baseline.cpu()
        shape = (self.n_variants, len(self.baseline))
        self.values = torch.full(shape, float("nan"), dtype=self.baseline.dtype)
        self.known = torch.zeros(shape, dtype=torch.bool)

    def put(self, variant: Int[Tensor, " run"], prompt: Int[Tensor, " run"], scores: Float[Tensor, " run"]) -> None:
        """The scores of some runs."""
        at = variant.cpu(), prompt.cpu()
        self.values[at], self.known[at] = scores.cpu(), True

    def put_rest(self, variants: Int[Tensor, " variant"], prompts: Sequence[int]) -> None:
        """The recipient's score of these prompts, for the variants whose score is not known: they could not matter."""
        at = variants[:, None], torch.tensor(list(prompts))
        self.values[at] = torch.where(self.known[at], self.values[at], self.baseline[at[1]])
        self.known[at] = True

    def note(self, variants: slice = slice(None)) -> str:
        """How many of the known scores are NaN; nothing if none is."""
        known = self.known[variants]
        bad = int((self.values[variants].isnan() & known).sum())
        return f"the metric gave NaN for {bad} of {int(known.sum())} scores" if bad else ""

    def report(self, in_flight: float = 0.0) -> None:
        """Tells the progress function how many scores there are, and parts of some in flight."""
        if self.progress is not None:
            total = float(self.known.numel())
            self.progress(min(float(self.known.sum()) + in_flight, total), total)
