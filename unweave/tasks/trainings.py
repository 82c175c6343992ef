"""Trainings known by name: a config, a recipe, and the examples that go with them.

`palindrome` is the training of the published classifier: 100,000 sequences, 15 epochs of batches of 512, Adam at 0.001,
no weight decay, seed 42. The model that unweave ships under that name was made by it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.small import small_config
from unweave.models.training.examples import Examples, TrainingData
from unweave.models.training.recipe import Recipe
from unweave.tasks.palindromes import draw_palindromes, sizes_of

N_HELD_OUT = 10_000


@dataclass(frozen=True)
class KnownTraining:
    """What `uw.training.train` is given. `data` makes the examples from their number and a seed."""

    description: str
    config: Config
    recipe: Recipe
    n_examples: int
    data: Callable[[Config, int, int], TrainingData] = field(repr=False)


def palindrome_data(config: Config, n_examples: int = 100_000, seed: int = 42) -> TrainingData:
    """Palindromes and other sequences of the size that a config reads, and 10,000 more to be tested on.

    The held-out sequences are drawn with the next seed. At 20 values in 31 no sequence is expected in both.

    Raises:
        InputError: fewer than two examples, or a config that is no classifier of palindromes.
    """
    if n_examples < 2:
        raise InputError(f"n_examples: expected at least 2, one of each class, got {n_examples}")
    sizes = sizes_of(config)
    learned, held_out = draw_palindromes(n_examples, seed, *sizes), draw_palindromes(N_HELD_OUT, seed + 1, *sizes)
    return TrainingData(
        Examples(learned.tokens, learned.labels),
        Examples(held_out.tokens, held_out.labels),
        {"task": "palindromes", "n_examples": n_examples, "seed": seed},
    )


TRAININGS: Mapping[str, KnownTraining] = {
    "palindrome": KnownTraining(
        description="Is it a palindrome? 20 values from 0 to 30, between START and END; the class is read at END.",
        config=small_config(
            n_layers=2, n_heads=2, d_model=28, d_head=14, d_vocab=33, n_ctx=22, d_vocab_out=2, name="palindrome"
        ),
        recipe=Recipe(),
        n_examples=100_000,
        data=palindrome_data,
    ),
}
