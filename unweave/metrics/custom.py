"""A metric from the user's own function of the logits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from jaxtyping import Float
from torch import Tensor

from unweave.errors import InputError
from unweave.metrics.entries import check_read, scored
from unweave.models.prompts import Prompts


@final
@dataclass(frozen=True)
class Custom:
    """`fn(logits, prompts)` as a metric: `logits[row, d_vocab]` at `role`, one prompt a row, to one score a row.

        years = uw.Custom(lambda logits, prompts: logits.softmax(-1)[:, later].sum(-1), "p(later year)", "probability")

    Rows come in any order and number, so a score must depend on its own row alone. Reads the whole vocabulary. `name`
    and `unit` stand on figures, and `higher_is_better` says which scores are good. A `fn` that is a lambda cannot be
    pickled; one that is defined in a module can.
    """

    fn: Callable[[Tensor, Prompts], Tensor] = field(repr=False)
    name: str
    unit: str = ""
    role: str = "end"
    higher_is_better: bool = True

    needs_reference: bool = field(default=False, init=False, repr=False)

    __call__ = scored

    def columns(self, prompts: Prompts) -> None:
        """The whole vocabulary."""

    def score(
        self,
        logits: Float[Tensor, "row column"],
        prompts: Prompts,
        reference: Float[Tensor, "row column"] | None = None,
    ) -> Float[Tensor, " row"]:
        """What the function gives. Raises InputError where that is not one number a row."""
        check_read(self, logits, prompts)
        scores = self.fn(logits, prompts)
        if not isinstance(scores, Tensor) or scores.shape != logits.shape[:1] or not scores.is_floating_point():
            got = f"{scores.dtype} {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise InputError(
                f"metric {self.name!r}: its function gave {got}, expected a tensor of floating-point numbers of shape "
                f"({logits.shape[0]},): one score for each row of logits"
            )
        return scores
