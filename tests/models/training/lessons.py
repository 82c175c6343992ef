"""A training small enough for tests: palindromes of six values, 240 of them, in batches that do not divide them."""

import unweave as uw
from unweave.tasks import draw_palindromes

CONFIG = uw.small_config(n_layers=2, n_heads=2, d_model=8, d_head=4, d_vocab=8, n_ctx=8, d_vocab_out=2, name="tiny")
RECIPE = uw.training.Recipe(epochs=3, batch=32, seed=7)


def lessons(seed: int = 0) -> uw.training.TrainingData:
    """Examples with the class read at the last token, and held-out ones."""
    learned, held_out = draw_palindromes(240, seed, 3, 5), draw_palindromes(60, seed + 1, 3, 5)
    return uw.training.TrainingData(
        uw.training.Examples(learned.tokens, learned.labels),
        uw.training.Examples(held_out.tokens, held_out.labels),
        {"task": "palindromes", "seed": seed},
    )


def stop_after(steps: int):
    """A progress function that acts like Ctrl-C once so many steps are done."""

    def report(done: float, total: float) -> None:
        if done >= steps:
            raise KeyboardInterrupt

    return report
