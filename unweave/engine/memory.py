"""How much a sweep may hold at once."""

from dataclasses import dataclass

import torch

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.keeping import free_bytes

# More rows than this make no product faster, and results come in smaller, earlier portions.
MOST_ROWS = 16384
# Rows of one matrix product: large enough for the processor's full rate, small enough that what is between two products
# stays in the cache.
CHUNK_ROWS = 1024


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


def recording_bytes(config: Config, n_pos: int, n_kept: int, itemsize: int) -> int:
    """What one prompt's recording holds: the stream, keys and values, and `n_kept` patched sites of both runs."""
    stream = 2 * config.n_layers * config.d_model
    prefix = 3 * config.n_layers * config.n_kv_heads * config.d_head  # keys as they are and rotated, values
    widest = max(config.d_model, config.n_heads * max(config.d_head, n_pos), config.d_mlp)
    return n_pos * (stream + prefix + 3 * n_kept * widest) * itemsize


def forward_bytes(config: Config, n_pos: int, itemsize: int) -> int:
    """What a forward pass of one prompt holds at its widest, none of it kept; sums in half precision are in float32."""
    qkv = (config.n_heads + 2 * config.n_kv_heads) * config.d_head
    row = 4 * config.d_model + 2 * qkv + 3 * config.d_mlp + 3 * config.n_heads * n_pos
    return n_pos * row * max(itemsize, 4)


def row_bytes(config: Config, itemsize: int) -> int:
    """What one row of a wavefront holds: the stream, its projections (also as gathered for attention), and `z`."""
    qkv = (config.n_heads + 2 * config.n_kv_heads) * config.d_head
    return (2 * config.d_model + 2 * qkv + 2 * config.n_heads * config.d_head) * itemsize


@dataclass(frozen=True)
class Room:
    """Rows that a wavefront may hold, and rows of one matrix product."""

    rows: int
    chunk: int

    def halved(self, longest: int) -> "Room":
        """Half of it, one run at least."""
        return Room(max(longest, self.rows // 2), max(1, self.chunk // 2))


def room_within(config: Config, budget: int, itemsize: int, longest: int) -> Room:
    """What fits in `budget` bytes: rows for `longest` (one run) at least, whatever the budget."""
    hidden = (3 * config.d_mlp + 2 * config.d_model) * itemsize
    chunk = max(1, min(CHUNK_ROWS, budget // 4 // hidden))
    rows = (budget - chunk * hidden) // row_bytes(config, itemsize)
    return Room(max(longest, min(MOST_ROWS, rows)), chunk)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory was refused: on an accelerator, or on a processor."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
