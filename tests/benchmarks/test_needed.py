"""The operations that the benchmark counts as needed, against a count by hand."""

import torch

from benchmarks.needed import operations
from benchmarks.sweeps import SWAP, Paths, Sweep, pick
from unweave.models.config import Config
from unweave.models.prompts import Prompts

# Multiplications of a row: 4 for key and value, 4 for query and output, 6 for the MLP; 2 for each key read.
MICRO = Config(
    name="micro", family="llama", n_layers=2, n_heads=1, n_kv_heads=1, d_model=2, d_head=1, d_mlp=1, d_vocab=9,
    d_vocab_out=9, n_ctx=8, norm="rms", norm_eps=1e-5, block="serial", positions="none", score_scale=1.0,
    activation="silu", gated_mlp=True,
)  # fmt: skip


def prompts_that_differ_at(first: int, n_pos: int) -> tuple[Prompts, Prompts]:
    tokens = torch.zeros(1, n_pos, dtype=torch.long)
    other = tokens.clone()
    other[0, first] = 1
    return Prompts.from_tokens(tokens), Prompts.from_tokens(other)


def test_head_outputs_by_hand() -> None:
    # Tokens 1 and 2 of three are reached.
    # Layer 0: way in 2 x 2, MLP 2 x 6; layer 1: keys and values 2 x 4, one query and output 4, three keys 6, MLP 6.
    # Layer 1: way in 2, MLP 6, at the last position alone. Both: two logits of two numbers.
    first_layer = 4 + 12 + (8 + 4 + 6 + 6) + 4
    last_layer = 2 + 6 + 4
    sweep = Sweep("heads", ("z",), ("layer", "head"), {SWAP: 1})
    assert operations(MICRO, sweep, *prompts_that_differ_at(1, 3)) == 2 * (first_layer + last_layer)


def test_residual_by_hand() -> None:
    # Position 0 stands before the difference and changes nothing. Position 1: both layers are alike, one row each.
    layer = 4 + 4 + 2 * 2 + 6
    sweep = Sweep("residual", ("resid_pre",), ("layer", "pos"), {SWAP: 1})
    assert operations(MICRO, sweep, *prompts_that_differ_at(1, 2)) == 2 * ((2 * layer + 4) + (layer + 4))


def test_paths_to_the_logits_by_hand() -> None:
    # The last position alone. Layer 0: way in 2, two MLPs 2 x 6; layer 1: way in 2, MLP 6. Both: two logits, 4.
    first_layer, last_layer = 2 + 12 + 4, 2 + 6 + 4
    paths = Paths("paths", (), {SWAP: 1})
    assert operations(MICRO, paths, *prompts_that_differ_at(1, 3)) == 2 * (first_layer + last_layer)


def test_paths_to_values_by_hand() -> None:
    # Tokens 1 and 2 of three: way in 2 x 2, MLP 2 x 6, the value that receives 2 x 2. Then, at the last position: three
    # keys 3, way in 2, MLP 6, two logits of two numbers. No head of the receiver's layer is sent.
    paths = Paths("paths-to-values", ((1, 0, "v"),), {SWAP: 1})
    assert operations(MICRO, paths, *prompts_that_differ_at(1, 3)) == 2 * ((4 + 12 + 4) + (3 + 2 + 6 + 4))


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_the_order() -> None:
    cells = Sweep("heads", ("z", "k"), ("layer", "head"), {SWAP: 1}).cells(MICRO, 3)
    assert len(cells) == 4
    assert pick(cells, 0, seed=0) == cells
    chosen = pick(cells, 2, seed=1)
    assert chosen == pick(cells, 2, seed=1) == sorted(chosen, key=cells.index)
    assert any(pick(cells, 2, seed=seed) != chosen for seed in range(2, 9))
