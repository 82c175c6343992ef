"""The benchmark's passes by hand give the numbers of `uw.patch`."""

import numpy as np
import pytest

import unweave as uw
from benchmarks import by_hand
from benchmarks.ours import effect_at
from benchmarks.sweeps import SWAP, Sweep
from tests.oracle.both import both


@pytest.mark.parametrize(
    "sweep",
    [
        Sweep("residual", ("resid_pre",), ("layer", "pos"), {SWAP: 1}),
        Sweep("inputs", ("z", "q", "k", "v"), ("layer", "head"), {SWAP: 1}),
        Sweep("positions", ("z",), ("layer", "head", "pos"), {SWAP: 1}),
    ],
    ids=lambda sweep: sweep.name,
)
def test_many_patches_in_a_pass(sweep: Sweep) -> None:
    side = both("llama-grouped", "equal", "swap")
    pair = side.contrast
    cells = sweep.cells(pair.model.config, pair.prompts.tokens.shape[1])
    assert len(cells) > by_hand.PATCHES or sweep.name == "residual"
    found = by_hand.run(side.hf, pair.prompts, pair.corrupted, cells, sweep.over).scores
    ours = uw.patch(pair, list(sweep.sites), over=sweep.over, progress=False)
    for cell in cells:
        expected = (found[cell] - pair.corrupted_scores) / pair.gap
        np.testing.assert_allclose(effect_at(ours, sweep.over, cell), expected, rtol=0, atol=1e-9)


def test_what_hooks_do_not_reach() -> None:
    assert not by_hand.can(Sweep("patterns", ("z", "pattern"), ("layer", "head"), {SWAP: 1}))
