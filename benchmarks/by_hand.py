"""What a good engineer would write by hand: PyTorch hooks on transformers' own model, many patches in one pass.

A pass holds the corrupted prompts once for each of 32 patches. A hook on each module that is patched puts the clean
run's value in its place, for the rows of each patch. The unembedding is computed where the answer is read. Patterns are
left out: no module of transformers gives or takes them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.sweeps import Cell, Sweep
from unweave.models.prompts import Prompts

PATCHES = 32
# Of each site, the module of a layer that reads it (True) or gives it (False).
MODULES: dict[str, tuple[str, bool]] = {
    "resid_pre": ("", True),
    "z": ("self_attn.o_proj", True),
    "q": ("self_attn.q_proj", False),
    "k": ("self_attn.k_proj", False),
    "v": ("self_attn.v_proj", False),
}

Edit = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Passes:
    """Seconds for the patches that were run, and the metric of each and each prompt."""

    seconds: float
    scores: dict[Cell, Float[Tensor, " prompt"]]


def load(folder: Path) -> Any:
    """The model of a folder in Hugging Face layout, on the CPU in float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def can(sweep: object) -> bool:
    """Whether hooks on modules reach all that the sweep patches."""
    return isinstance(sweep, Sweep) and set(sweep.sites) <= set(MODULES)


@torch.no_grad()
def run(hf: Any, prompts: Prompts, corrupted: Prompts, cells: list[Cell], over: tuple[str, ...]) -> Passes:
    """Puts the clean value at each of `cells` into the corrupted run: logit differences. Prompts of one length."""
    clean = _kept(hf, prompts.tokens, {(cell.site, cell.index[0]) for cell in cells})
    start, scores = time.perf_counter(), {}
    for at in range(0, len(cells), PATCHES):
        some = cells[at : at + PATCHES]
        edits: dict[tuple[str, int], list[Edit]] = {}
        for number, cell in enumerate(some):
            rows = slice(number * len(prompts), (number + 1) * len(prompts))
            edit = partial(_patched, clean[cell.site, cell.index[0]], rows, dict(zip(over, cell.index, strict=True)))
            edits.setdefault((cell.site, cell.index[0]), []).append(partial(edit, hf.config))
        with ExitStack() as hooks:
            for (site, layer), made in edits.items():
                hooks.enter_context(_hooked(hf, site, layer, lambda x, made=made: _all(made, x)))
            found = _scores(hf, corrupted.tokens.repeat(len(some), 1), prompts, len(some))
        scores |= dict(zip(some, found, strict=True))
    return Passes(time.perf_counter() - start, scores)


def _all(edits: list[Edit], x: Tensor) -> Tensor:
    x = x.clone()
    for edit in edits:
        edit(x)
    return x


def _patched(clean: Tensor, rows: slice, index: dict[str, int], config: Any, x: Tensor) -> Tensor:
    """Puts the clean value at a head (or all of the stream) and a position (or all) into rows of `x`, in place."""
    pos = slice(None) if "pos" not in index else slice(index["pos"], index["pos"] + 1)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    part = slice(None) if "head" not in index else slice(index["head"] * size, (index["head"] + 1) * size)
    x[rows, pos, part] = clean[:, pos, part]
    return x


def _scores(hf: Any, tokens: Int[Tensor, "row pos"], prompts: Prompts, count: int) -> Float[Tensor, "patch prompt"]:
    final = hf.model(tokens).last_hidden_state.unflatten(0, (count, len(prompts)))
    each = torch.arange(len(prompts))
    logits = hf.lm_head(final[:, each, prompts.role("end")])
    assert prompts.answers is not None
    assert prompts.wrong is not None
    return logits[:, each, prompts.answers] - logits[:, each, prompts.wrong]


def _kept(hf: Any, tokens: Int[Tensor, "prompt pos"], keys: set[tuple[str, int]]) -> dict[tuple[str, int], Tensor]:
    """The values of a plain run."""
    kept: dict[tuple[str, int], Tensor] = {}

    def keep(key: tuple[str, int], x: Tensor) -> Tensor:
        kept[key] = x
        return x

    with ExitStack() as hooks:
        for key in keys:
            hooks.enter_context(_hooked(hf, *key, partial(keep, key)))
        hf.model(tokens)
    return kept


@contextmanager
def _hooked(hf: Any, site: str, layer: int, change: Edit) -> Iterator[None]:
    """A hook on the module that reads or gives a site, while the context lasts."""
    name, reads = MODULES[site]
    module = hf.model.layers[layer].get_submodule(name)
    handle = (
        module.register_forward_pre_hook(lambda _, given: (change(given[0]), *given[1:]))
        if reads
        else module.register_forward_hook(lambda _, __, out: change(out))
    )
    try:
        yield
    finally:
        handle.remove()
