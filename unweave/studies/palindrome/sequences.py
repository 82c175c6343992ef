"""What the study is about: the classifier, fresh sequences of both classes, palindromes against one mismatch."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError, ModelError
from unweave.methods.blind_spots import other_tokens
from unweave.methods.weights.head_matrices import chosen_heads
from unweave.metrics import Accuracy, LogitDiff
from unweave.metrics.contrast import Contrast
from unweave.metrics.metric import Metric
from unweave.models.loading import STATE_DICTS, load_model
from unweave.models.model import Model
from unweave.models.native import is_native
from unweave.models.prompts import Prompts
from unweave.models.small import small_config
from unweave.nodes import Head
from unweave.studies.plan import Settings
from unweave.tasks import Task
from unweave.tasks.palindromes import palindromes, sizes_of

DEFAULT_CLASSIFIER, PALINDROME = "palindrome", 1
# Palindromes speak for the first output and against the second.
OUTPUTS = (PALINDROME, 0)
# The seed by default: not that of the examples that the classifier was trained on.
FRESH = 1
# How many sequences of each kind, in full and quick: the model is asked about, are ablated, swept; of which few are
# enough for a mean over runs.
CHECKED, ABLATED, SWEPT, FEW = (4000, 1000), (400, 200), (200, 60), (500, 500)


@dataclass(frozen=True)
class PalindromeSubject:
    """The classifier, and what it is asked."""

    settings: Settings
    model: Model
    half_length: int
    max_value: int

    @property
    def seed(self) -> int:
        return FRESH if self.settings.seed is None else self.settings.seed

    def count(self, full_and_quick: tuple[int, int]) -> int:
        """One of the numbers above, no larger than what was asked for."""
        n = full_and_quick[int(self.settings.quick)]
        return n if self.settings.prompts is None else min(n, self.settings.prompts)

    @cached_property
    def task(self) -> Task:
        """Fresh sequences, half of them palindromes."""
        n = self.settings.prompts or self.count(CHECKED)
        return palindromes(n, self.seed, self.half_length, self.max_value)

    @cached_property
    def matched(self) -> Task:
        """Palindromes; their corruption is one wrong value in the second half."""
        n = self.settings.prompts or self.count(ABLATED)
        return palindromes(n, self.seed + 1, self.half_length, self.max_value, only_palindromes=True)

    @cached_property
    def pair(self) -> Contrast:
        """Palindromes against one mismatch; a metric above 0 calls a sequence a palindrome."""
        return self._contrast(self.matched, self.count(SWEPT), LogitDiff())

    def both_classes(self, metric: Metric | None = None, n: tuple[int, int] = ABLATED) -> Contrast:
        """Sequences of both classes, each against one of the other class."""
        return self._contrast(self.task, self.count(n), metric or Accuracy())

    @property
    def few(self) -> Prompts:
        """The first of the fresh sequences."""
        return self.task.prompts.take(range(self.count(FEW)))

    @cached_property
    def others(self) -> Int[Tensor, "prompt pos"]:
        """Another value for each value of `matched`."""
        return other_tokens(self.matched.prompts.tokens, self.max_value + 1, self.seed)

    @property
    def heads(self) -> tuple[Head, ...]:
        return chosen_heads(self.model, None)

    @property
    def second_half(self) -> range:
        """The positions whose mirror image has been read already."""
        return range(self.half_length + 1, 2 * self.half_length + 1)

    def mirror(self, pos: int) -> int:
        """The position that one is to be equal to."""
        return 2 * self.half_length + 1 - pos

    def _contrast(self, task: Task, n: int, metric: Metric) -> Contrast:
        rows = task.prompts.first(n)
        return Contrast(self.model, task.prompts.take(rows), task.corrupt("other_class").take(rows), metric)


def ask(settings: Settings) -> PalindromeSubject:
    """The classifier and its sizes.

    Raises:
        ModelError: a model that cannot be read, or weights of another shape.
        InputError: a model that is no classifier of two classes, or too few sequences.
    """
    if settings.prompts is not None and settings.prompts < 10:
        raise InputError(f"prompts: expected at least 10, got {settings.prompts}")
    model = _classifier(settings)
    return PalindromeSubject(settings, model, *sizes_of(model.config))


def _classifier(settings: Settings) -> Model:
    name = settings.model or DEFAULT_CLASSIFIER
    path = Path(name).expanduser()
    standard = settings.config is None and path.suffix in STATE_DICTS and path.is_file() and not is_native(path.parent)
    config = small_config(d_vocab_out=2, name=path.stem) if standard else settings.config
    try:
        return load_model(name, device=settings.device, dtype=settings.dtype, config=config)
    except ModelError as error:
        if standard:
            hint = "it was read with the shape of the standard classifier; --config names a JSON file of its own"
            raise ModelError(f"{error}; {hint}") from error
        raise
