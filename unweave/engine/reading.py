"""Activations read as a run passes: of each only what a method takes is kept, and prompts run in batches."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.engine.memory import budget_bytes, forward_bytes
from unweave.models.forward import forward
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.models.run import Edit, Key, Recorder

# From a site and layer, its value in a batch `[prompt …]`, and the batch's prompts, to what is kept `[prompt …]`, or
# None. A view would keep the whole value.
Pick = Callable[[Key, Tensor, slice], Tensor | None]


def read_sites(
    model: Model,
    prompts: Prompts,
    keys: Iterable[Key],
    pick: Pick,
    memory: int | float | None = None,
    edits: Sequence[Edit] = (),
) -> dict[Key, Tensor]:
    """What `pick` takes of each (site, layer), of all prompts.

    A batch is as many prompts as `memory` holds (see `patch`); with edits, which are made for all prompts, it is all.
    """
    wanted, found = set(keys), defaultdict[Key, list[Tensor]](list)
    each = forward_bytes(model.config, prompts.tokens.shape[1], model.dtype.itemsize)
    size = len(prompts) if edits else max(1, budget_bytes(memory, model.device) // each)
    for start in range(0, len(prompts), size):
        rows, recorder = slice(start, start + size), Recorder(model.config, (), edits)

        def tap(site: str, layer: int, value: Tensor, rows: slice = rows, recorder: Recorder = recorder) -> Tensor:
            value = recorder(site, layer, value)
            part = pick((site, layer), value, rows) if (site, layer) in wanted else None
            if part is not None:
                found[site, layer].append(part)
            return value

        with torch.no_grad():
            forward(model.config, model.weights, prompts.tokens[rows], tap, prompts.lengths[rows])
    return {key: torch.cat(parts) for key, parts in found.items()}


def read_at(
    model: Model,
    prompts: Prompts,
    keys: Iterable[Key],
    at: Int[Tensor, " prompt"],
    memory: int | float | None = None,
    edits: Sequence[Edit] = (),
) -> dict[Key, Tensor]:
    """Each (site, layer) at one position of each prompt, `[prompt …]` without the position. See `read_sites`."""

    def pick(key: Key, value: Tensor, rows: slice) -> Tensor:
        return value[torch.arange(value.shape[0], device=value.device), at[rows]]

    return read_sites(model, prompts, keys, pick, memory, edits)
