"""The other side: TransformerLens, its bridge in compatibility mode and its own `patching` functions.

A loop of it runs one whole forward pass a patch, whatever is patched, so that a random part of it, scaled, tells how
long the whole takes. The part is given to its functions as `index_df`, which is their own way to patch chosen places.

Keys and values of grouped-query attention have one head for each group here as there: its `hook_k` and `hook_v` stand
before the heads are repeated, so that the two sides patch the same thing.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.sweeps import Cell
from unweave.errors import InputError
from unweave.models.prompts import Prompts


@dataclass(frozen=True)
class Loop:
    """What the other side's loop took and found: `effects` has one row of prompts a cell.

    `before` are the seconds of the runs that stand before the loop.
    """

    seconds: float
    before: float
    effects: Mapping[Cell, Float[Tensor, " prompt"]]


@dataclass(frozen=True)
class Reference:
    """The other side, ready: both prompt sets, the clean run's activations to denoise with, and both baselines.

    `seconds` is what it took to run them.
    """

    bridge: Any
    clean_tokens: Int[Tensor, "prompt pos"]
    corrupted: Int[Tensor, "prompt pos"]
    cache: Any
    metric: Callable[[Tensor], Tensor]
    clean: Float[Tensor, " prompt"]
    spoiled: Float[Tensor, " prompt"]
    seconds: float

    @property
    def gap(self) -> float:
        return float(self.clean.mean() - self.spoiled.mean())


def version() -> str:
    """The installed version of TransformerLens."""
    from importlib.metadata import version as installed

    return installed("transformer_lens")


def load_bridge(folder: Path) -> Any:
    """The model of a folder in Hugging Face layout, as TransformerLens 4 users load it, on the CPU in float32."""
    from transformer_lens.model_bridge import TransformerBridge  # pyright: ignore[reportMissingImports]

    bridge = TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32)
    bridge.enable_compatibility_mode(disable_warnings=True)
    return bridge


def prepare(bridge: Any, prompts: Prompts, corrupted: Prompts) -> Reference:
    """Run both prompt sets once. All prompts must have one length, because its loops know no padding."""
    metric = _logit_difference(prompts)
    start = time.perf_counter()
    logits, cache = bridge.run_with_cache(prompts.tokens)
    spoiled = metric(bridge(corrupted.tokens))
    return Reference(
        bridge=bridge,
        clean_tokens=prompts.tokens,
        corrupted=corrupted.tokens,
        cache=cache,
        metric=metric,
        clean=metric(logits),
        spoiled=spoiled,
        seconds=time.perf_counter() - start,
    )


def run(reference: Reference, cells: list[Cell], over: tuple[str, ...]) -> Loop:
    """Patch each of `cells` with TransformerLens's functions, one site after the other, and time that alone."""
    seconds = 0.0
    effects: dict[Cell, Tensor] = {}
    for site in dict.fromkeys(cell.site for cell in cells):
        mine = [cell for cell in cells if cell.site == site]
        patch, columns = _function(site, over)
        rows = pd.DataFrame([dict(zip(over, cell.index, strict=True)) for cell in mine])[list(columns)]
        start = time.perf_counter()
        result = patch(
            reference.bridge,
            reference.corrupted,
            reference.cache,
            reference.metric,
            index_axis_names=None,
            index_df=rows,
            reduce="none",
        )
        seconds += time.perf_counter() - start
        effects |= zip(mine, (result.values - reference.spoiled) / reference.gap, strict=True)
    return Loop(seconds, reference.seconds, effects)


def _function(site: str, over: tuple[str, ...]) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """TransformerLens's function for a site and its axes, and the order in which it wants them."""
    from transformer_lens import patching  # pyright: ignore[reportMissingImports]

    functions = {
        ("resid_pre", ("layer", "pos")): (patching.get_act_patch_resid_pre, ("layer", "pos")),
        ("z", ("layer", "head")): (patching.get_act_patch_attn_head_out_all_pos, ("layer", "head")),
        ("q", ("layer", "head")): (patching.get_act_patch_attn_head_q_all_pos, ("layer", "head")),
        ("k", ("layer", "head")): (patching.get_act_patch_attn_head_k_all_pos, ("layer", "head")),
        ("v", ("layer", "head")): (patching.get_act_patch_attn_head_v_all_pos, ("layer", "head")),
        ("pattern", ("layer", "head")): (patching.get_act_patch_attn_head_pattern_all_pos, ("layer", "head")),
        ("z", ("layer", "head", "pos")): (patching.get_act_patch_attn_head_out_by_pos, ("layer", "pos", "head")),
    }
    return functions[site, over]


def _logit_difference(prompts: Prompts) -> Callable[[Tensor], Tensor]:
    """Answer's logit minus the wrong one's at the last position, one value a prompt."""
    if prompts.answers is None or prompts.wrong is None:
        raise InputError("prompts: a logit difference needs answers and wrong answers")
    row, end, answers, wrong = torch.arange(len(prompts)), prompts.role("end"), prompts.answers, prompts.wrong

    def difference(logits: Float[Tensor, "prompt pos d_vocab"]) -> Float[Tensor, " prompt"]:
        return logits[row, end, answers] - logits[row, end, wrong]

    return difference
