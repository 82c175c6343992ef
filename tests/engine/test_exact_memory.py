"""However a sweep is cut by its memory budget, its numbers are the same."""

import numpy as np
import pytest
import torch

from tests.oracle.both import both, table
from unweave.engine import memory as budgets
from unweave.engine import question, wavefront
from unweave.engine.question import question_of
from unweave.engine.sweep import Sweep
from unweave.engine.wavefront import Wavefront
from unweave.methods.targets import grid_over

CASES = {
    "resid_pre": ("layer", "pos"),
    "z": ("layer", "head"),
    "k": ("layer", "head", "role"),
    "pattern": ("layer", "head", "q_pos"),
    "mlp_post": ("layer", "neuron"),
}


def sweep_of(name: str, memory: int | None) -> Sweep:
    """All of `CASES` in one sweep, each prompt with its own first and last position."""
    contrast = both(name, "unequal", "ABC").contrast
    grids = []
    for site, over in CASES.items():
        grids.append(grid_over(contrast.model.config, contrast.prompts, site, over).after(grids))
    sheets = [sheet for grid in grids for sheet in grid.sheets]
    return Sweep(question_of(contrast, "denoise"), sheets, memory)


@pytest.mark.parametrize("name", ["llama-grouped", "gpt2", "neox-parallel"])
def test_small_budgets_give_the_same_numbers(name: str) -> None:
    roomy = sweep_of(name, None)
    expected = roomy.run()
    assert roomy.waves == 1
    waves = []
    for memory in (1, 2**21, 2**22):  # from room for one run at a time to room for hundreds
        small = sweep_of(name, memory)
        torch.testing.assert_close(small.run(), expected, rtol=0, atol=1e-12)
        waves.append(small.waves)
    assert waves == sorted(waves, reverse=True)
    assert len({*waves, roomy.waves}) > 2


def test_budget_of_a_patch_call() -> None:
    asked, over = both("neox-serial", "unequal", "ABC").contrast, ("layer", "head", "pos")
    whole = table(asked, "v", over).values
    for memory in (1, 0.2):  # bytes, and a share of what is free
        np.testing.assert_allclose(table(asked, "v", over, memory=memory).values, whole, rtol=0, atol=1e-12)


def test_a_sweep_that_ran_out_of_memory_is_retried_with_less(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sweep_of("gpt2", None).run()
    advance, refused = Wavefront.advance, []

    def with_little_memory(self: Wavefront, stage: int) -> None:
        if self.n_rows > 100:
            refused.append(self.n_rows)
            raise torch.OutOfMemoryError("no room for this many rows")
        advance(self, stage)

    monkeypatch.setattr(Wavefront, "advance", with_little_memory)
    sweep = sweep_of("gpt2", None)
    torch.testing.assert_close(sweep.run(), expected, rtol=0, atol=1e-12)
    assert refused
    assert sweep.waves > 1


@pytest.mark.parametrize("name", ["llama-grouped", "gpt2", "neox-parallel"])
def test_portions_of_products_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products, attention and scoring in portions of a few rows, which the tiny models never fill otherwise."""
    expected = sweep_of(name, None).run()
    monkeypatch.setattr(budgets, "CHUNK_ROWS", 7)
    monkeypatch.setattr(wavefront, "CHUNK_KEYS", 20)
    monkeypatch.setattr(question, "PORTION", 100)
    torch.testing.assert_close(sweep_of(name, None).run(), expected, rtol=0, atol=1e-12)


def test_the_same_sweep_twice_is_the_same_bit_for_bit() -> None:
    assert torch.equal(sweep_of("llama-grouped", 2**21).run(), sweep_of("llama-grouped", 2**21).run())
