"""The other side's path patching, as courses write it over hooks: TransformerLens has no function for it.

1. Both prompt sets are run once, and every head's `z` is kept.
2. For each sender the clean prompts are run with its `z` from the corrupted ones, and every other head's `z` as it was;
   MLPs compute anew. Kept is the residual stream behind the last block, or what the receivers' hooks see.
3. To the logits, the stream goes through the last norm and the unembedding. To receivers, the clean prompts are run
   once more, with what their hooks saw in its place.

Hooks are taken off between the steps: `add_hook` adds to those that are there, and what was frozen in one step would
silently stay frozen in the next. Timed are steps 2 and 3, sender by sender; step 1 stands before the loop.
"""

import time
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from benchmarks.sweeps import Cell, Input
from benchmarks.theirs import Loop, Reference

Hook = Callable[..., Tensor]


def run(reference: Reference, cells: list[Cell], receivers: tuple[Input, ...]) -> Loop:
    """Send each of `cells` to the receivers, or to the logits where there are none, and time that alone."""
    bridge = reference.bridge
    before = time.perf_counter()
    _, orig = bridge.run_with_cache(reference.clean_tokens, names_filter=_is_z)
    _, new = bridge.run_with_cache(reference.corrupted, names_filter=_is_z)
    effects: dict[Cell, Tensor] = {}
    start = time.perf_counter()
    for cell in cells:
        layer, head = cell.index
        freeze = _freezing(orig, new, layer, head)
        logits = _to_heads(reference, freeze, receivers) if receivers else _to_logits(reference, freeze)
        effects[cell] = (reference.metric(logits) - reference.clean) / reference.gap
    return Loop(time.perf_counter() - start, start - before, effects)


def _is_z(name: str) -> bool:
    return name.endswith("attn.hook_z")


def _freezing(orig: Any, new: Any, layer: int, head: int) -> Hook:
    """Every head's `z` as it was in the clean run, and the sender's from the corrupted one."""

    def freeze(z: Float[Tensor, "prompt pos head d_head"], hook: Any) -> Tensor:
        z[...] = orig[hook.name]
        if hook.name == f"blocks.{layer}.attn.hook_z":
            z[:, :, head] = new[hook.name][:, :, head]
        return z

    return freeze


def _frozen_run(reference: Reference, freeze: Hook, keep: set[str]) -> Any:
    """Step 2: the activations `keep` of the clean prompts' run with all heads frozen."""
    bridge = reference.bridge
    bridge.reset_hooks()
    bridge.add_hook(_is_z, freeze)
    _, cache = bridge.run_with_cache(reference.clean_tokens, names_filter=lambda name: name in keep, return_type=None)
    bridge.reset_hooks()
    return cache


def _to_logits(reference: Reference, freeze: Hook) -> Float[Tensor, "prompt pos d_vocab"]:
    bridge = reference.bridge
    last = f"blocks.{bridge.cfg.n_layers - 1}.hook_resid_post"
    return bridge.unembed(bridge.ln_final(_frozen_run(reference, freeze, {last})[last]))


def _to_heads(reference: Reference, freeze: Hook, receivers: tuple[Input, ...]) -> Float[Tensor, "prompt pos d_vocab"]:
    """Step 3 behind step 2: the clean prompts once more, with the receivers' inputs in place."""
    bridge = reference.bridge
    heads: dict[str, list[int]] = {}
    for layer, head, kind in receivers:
        shared = 1 if kind == "q" else bridge.cfg.n_heads // (bridge.cfg.n_key_value_heads or bridge.cfg.n_heads)
        heads.setdefault(f"blocks.{layer}.attn.hook_{kind}", []).append(head // shared)
    seen = _frozen_run(reference, freeze, set(heads))

    def receive(x: Float[Tensor, "prompt pos kv_head d_head"], hook: Any) -> Tensor:
        x[:, :, heads[hook.name]] = seen[hook.name][:, :, heads[hook.name]]
        return x

    return bridge.run_with_hooks(reference.clean_tokens, fwd_hooks=[(lambda name: name in heads, receive)])
