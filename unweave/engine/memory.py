"""How much may be held at once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from unweave.errors import InputError
from unweave.models.cache_policy import free_bytes
from unweave.models.config import Config
from unweave.models.run import Key
from unweave.models.sites import SITES, width

# More rows than this make no product faster, and results come in smaller, earlier portions.
MOST_ROWS = 16384
# Rows of one matrix product, and keys of one attention product: large enough for the processor's full rate, small
# enough that what is between two products stays in the cache.
CHUNK_ROWS = 1024
CHUNK_KEYS = 8192
# Numbers that scoring may hold at once: rows are scored in portions of this many logits or unembedding entries.
PORTION = 2**23


def budget_bytes(memory: int | float | None, device: torch.device) -> int:
    """`memory` in bytes: an int is bytes, a float a share of what is free; half of what is free by default.

    Raises:
        InputError: neither a positive number of bytes nor a share between 0 and 1.
    """
    if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory
    share = 0.5 if memory is None else memory
    if not isinstance(share, float) or not 0 < share <= 1:
        raise InputError(
            f"memory: expected bytes (an int), or a share of the free memory (a float up to 1.0), got {memory!r}"
        )
    return int(free_bytes(device) * share)


def recording_bytes(config: Config, n_pos: int, kept: Iterable[Key], itemsize: int) -> int:
    """What one prompt's recording holds: the sites kept of either run, and what the layer in hand takes."""
    size = 0
    for site, _ in kept:  # attention is computed, and kept, in float32 at least
        size += width(config, SITES[site], n_pos) * (max(itemsize, 4) if SITES[site].rows == "attention" else itemsize)
    return n_pos * size + forward_bytes(config, n_pos, itemsize)


def forward_bytes(config: Config, n_pos: int, itemsize: int) -> int:
    """What a forward pass of one prompt holds at its widest, none of it kept; sums in half precision are in float32."""
    attention = (4 * config.n_heads + 4 * config.n_kv_heads) * config.d_head + 5 * config.n_heads * n_pos
    return n_pos * (4 * config.d_model + attention + 3 * config.d_mlp) * max(itemsize, 4)


@dataclass(frozen=True)
class RowBudget:
    """What runs in flight may hold: rows, rows of one matrix product, keys of one attention, numbers of one scoring.

    One run and one key are always held, however little room there is.
    """

    rows: int
    chunk: int
    keys: int = CHUNK_KEYS
    scored: int = PORTION

    def halved(self, longest: int) -> "RowBudget":
        """Half of it, one run at least."""
        half = (max(1, size // 2) for size in (self.chunk, self.keys, self.scored))
        return RowBudget(max(longest, self.rows // 2), *half)


def row_budget(config: Config, budget: int, itemsize: int, longest: int) -> RowBudget:
    """What fits in `budget` bytes: rows for `longest` (one run) at least, whatever the budget.

    A quarter is for what is between two products; the rest for what a row holds: the stream, its projections (also as
    gathered for attention), and `z`.
    """
    heads = 2 * (config.n_heads + config.n_kv_heads) * config.d_head
    hidden = (3 * config.d_mlp + 4 * config.d_model) * itemsize
    key = (4 * config.n_kv_heads * config.d_head + 4 * config.n_heads * longest) * itemsize
    row = 2 * (config.d_model + heads) * itemsize
    part = budget // 4
    return RowBudget(
        rows=max(longest, min(MOST_ROWS, (budget - part) // row)),
        chunk=max(1, min(CHUNK_ROWS, part // hidden)),
        keys=max(1, min(CHUNK_KEYS, part // key)),
        scored=max(1, min(PORTION, part // (6 * max(4, itemsize)))),
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory was refused: on an accelerator, or on a processor."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def in_portions(count: int, size: int, run: Callable[[range], None]) -> None:
    """Runs `run` over the numbers up to `count`, `size` at a time; out of memory, half as many, down to one."""
    start = 0
    while start < count:
        portion = range(start, min(start + max(1, size), count))
        try:
            run(portion)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(portion) == 1:
                raise
            size = len(portion) // 2
        else:
            start = portion.stop
