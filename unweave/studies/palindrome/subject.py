"""What the study is about: settings, the classifier, fresh sequences of both classes, palindromes and their twins."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError, ModelError
from unweave.methods.blind_spots import other_tokens
from unweave.metrics import Accuracy, LogitDiff
from unweave.metrics.contrast import Contrast
from unweave.metrics.metric import Metric
from unweave.models.loading import STATE_DICTS, load_model
from unweave.models.model import Model
from unweave.models.native import is_native
from unweave.models.small import ConfigSource, small_config
from unweave.tasks import Task
from unweave.tasks.palindromes import palindromes, sizes_of

DEFAULT_CLASSIFIER = "palindrome"
PALINDROME = 1
# Not the seed of the examples that the classifier was trained on.
FRESH = 1
# How many sequences of each kind: as many as the model is asked about, as many as are ablated, as many as are swept.
CHECKED, ABLATED, SWEPT = (4000, 1000), (400, 200), (200, 60)


@dataclass(frozen=True, kw_only=True)
class PalindromeSettings:
    """What the study is run with; the report repeats it. `prompts` is the most
    sequences of a kind, `config` the shape of a model that is weights alone.
    """

    model: str = DEFAULT_CLASSIFIER
    config: Path | None = None
    prompts: int | None = None
    seed: int = FRESH
    out: Path = Path("report")
    device: str | None = None
    dtype: str = "float32"
    quick: bool = False
    anyway: bool = False

    def count(self, full_and_quick: tuple[int, int]) -> int:
        """One of the numbers above, no larger than `prompts`."""
        n = full_and_quick[int(self.quick)]
        return n if self.prompts is None else min(n, self.prompts)


@dataclass(frozen=True)
class PalindromeSubject:
    """The classifier, and what it is asked."""

    settings: PalindromeSettings
    model: Model
    half_length: int
    max_value: int

    @cached_property
    def task(self) -> Task:
        """Fresh sequences, half of them palindromes."""
        n = self.settings.prompts or CHECKED[int(self.settings.quick)]
        return palindromes(n, self.settings.seed, self.half_length, self.max_value)

    @cached_property
    def matched(self) -> Task:
        """Palindromes; their corruption is one wrong value in the second half."""
        n = self.settings.prompts or ABLATED[int(self.settings.quick)]
        return palindromes(n, self.settings.seed + 1, self.half_length, self.max_value, only_palindromes=True)

    @cached_property
    def pair(self) -> Contrast:
        """Palindromes against one mismatch; a metric above 0 calls a sequence a palindrome."""
        return self._contrast(self.matched, self.settings.count(SWEPT), LogitDiff())

    def both_classes(self, metric: Metric | None = None, n: tuple[int, int] = ABLATED) -> Contrast:
        """Sequences of both classes, each against one of the other class."""
        return self._contrast(self.task, self.settings.count(n), metric or Accuracy())

    @cached_property
    def others(self) -> Int[Tensor, "prompt pos"]:
        """Another value for each value of `matched`."""
        return other_tokens(self.matched.prompts.tokens, self.max_value + 1, self.settings.seed)

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


def ask(settings: PalindromeSettings) -> PalindromeSubject:
    """The classifier and its sizes.

    Raises:
        ModelError: a model that cannot be read, or weights of another shape.
        InputError: a model that is no classifier of two classes, or too few sequences.
    """
    if settings.prompts is not None and settings.prompts < 10:
        raise InputError(f"prompts: expected at least 10, got {settings.prompts}")
    model = _classifier(settings)
    half_length, max_value = sizes_of(model.config)
    return PalindromeSubject(settings, model, half_length, max_value)


def _classifier(settings: PalindromeSettings) -> Model:
    path = Path(settings.model).expanduser()
    bare = path.is_file() and path.suffix in STATE_DICTS and not is_native(path.parent)
    config: ConfigSource | None = settings.config
    if bare and config is None:
        config = small_config(d_vocab_out=2, name=path.stem)
    try:
        return load_model(settings.model, device=settings.device, dtype=settings.dtype, config=config)
    except ModelError as error:
        if bare and settings.config is None:
            hint = "it was read with the shape of the standard classifier; --config names a JSON file of its own"
            raise ModelError(f"{error}; {hint}") from error
        raise
