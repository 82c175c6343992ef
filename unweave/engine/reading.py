"""Activations read as a run passes: of each only what a method takes is kept, and prompts run in batches."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.engine.memory import budget_bytes, forward_bytes, in_portions
from unweave.models.forward import forward
from unweave.models.model import Model
from unweave.models.prompts import Prompts
from unweave.models.run import Edit, Key, Recorder
from unweave.progress import Progress, shown

# From a site and layer, its value in a batch `[prompt …]`, and the batch's prompts, to what is kept `[prompt …]`, or
# None. A view would keep the whole value.
Pick = Callable[[Key, Tensor, slice], Tensor | None]
# The edits of some prompts.
Edits = Callable[[range], Sequence[Edit]]


def read_sites(
    model: Model,
    prompts: Prompts,
    keys: Iterable[Key],
    pick: Pick,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
    title: str = "reading",
    edits: Edits | None = None,
    extra: int = 0,
) -> dict[Key, Tensor]:
    """What `pick` takes of each (site, layer), of all prompts.

    Args:
        memory, progress: as in `patch`; a batch is as many prompts as fit.
        title: of the progress bar.
        edits: what is edited in the runs of some prompts.
        extra: bytes that the edits of a prompt hold.
    """
    wanted, found = set(keys), defaultdict[Key, list[Tensor]](list)
    each = forward_bytes(model.config, prompts.tokens.shape[1], model.dtype.itemsize) + extra

    def run(batch: range) -> None:
        rows, picked = slice(batch.start, batch.stop), dict[Key, Tensor]()
        recorder = Recorder(model.config, (), () if edits is None else edits(batch))

        def tap(site: str, layer: int, value: Tensor) -> Tensor:
            value = recorder(site, layer, value)
            part = pick((site, layer), value, rows) if (site, layer) in wanted else None
            if part is not None:
                picked[site, layer] = part
            return value

        forward(model.config, model.weights, prompts.tokens[rows], tap, prompts.lengths[rows])
        for key, part in picked.items():
            found[key].append(part)
        if report is not None:
            report(batch.stop, len(prompts))

    with shown(progress, title) as report, torch.no_grad():
        in_portions(len(prompts), budget_bytes(memory, model.device) // each, run)
    return {key: torch.cat(parts) for key, parts in found.items()}


def read_at(
    model: Model,
    prompts: Prompts,
    keys: Iterable[Key],
    at: Int[Tensor, " prompt"],
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
    title: str = "reading",
    edits: Edits | None = None,
    extra: int = 0,
) -> dict[Key, Tensor]:
    """Each (site, layer) at one position of each prompt, `[prompt …]` without the position. See `read_sites`."""

    def pick(key: Key, value: Tensor, rows: slice) -> Tensor:
        return value[torch.arange(value.shape[0], device=value.device), at[rows]]

    return read_sites(model, prompts, keys, pick, memory, progress, title, edits, extra)
