"""Edges one forward pass each, as a notebook does it: hooks on transformers' Llama, nothing shared between runs.

A receiver reads its residual stream plus what the sender writes in the corrupted run minus what it writes in the clean
one: a query, key, value or MLP is computed again from that stream by the module's own weights, and the run goes on.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.models.prompts import Prompts
from unweave.nodes import Node

Hook = Callable[[Tensor], Tensor]


@torch.no_grad()
def run(
    hf: Any, prompts: Prompts, corrupted: Prompts, edges: Sequence[tuple[Node, Node]]
) -> tuple[float, Float[Tensor, "edge prompt"]]:
    """Seconds of the loop, and the logit difference of each edge and prompt."""
    clean, other = (_written(hf, side.tokens) for side in (prompts, corrupted))
    start, found = time.perf_counter(), []
    for sender, receiver in edges:
        change = _of(hf, other, sender) - _of(hf, clean, sender)
        with _reading(hf, receiver, change):
            final = hf.model(prompts.tokens).last_hidden_state
        found.append(_score(hf, final, prompts))
    return time.perf_counter() - start, torch.stack(found)


def _score(hf: Any, final: Tensor, prompts: Prompts) -> Float[Tensor, " prompt"]:
    assert prompts.answers is not None
    assert prompts.wrong is not None
    each = torch.arange(len(prompts))
    logits = hf.lm_head(final[each, prompts.role("end")])
    return logits[each, prompts.answers] - logits[each, prompts.wrong]


def _written(hf: Any, tokens: Int[Tensor, "prompt pos"]) -> dict[tuple[str, int], Tensor]:
    """The embeddings, what heads mix and what MLPs write, of a plain run."""
    kept: dict[tuple[str, int], Tensor] = {}
    with ExitStack() as hooks:
        for number, layer in enumerate(hf.model.layers):
            hooks.enter_context(_before(layer.self_attn.o_proj, lambda x, n=number: kept.setdefault(("z", n), x)))
            hooks.enter_context(_after(layer.mlp, lambda x, n=number: kept.setdefault(("mlp_out", n), x)))
        hooks.enter_context(_before(hf.model.layers[0], lambda x: kept.setdefault(("embed", -1), x)))
        hf.model(tokens)
    return kept


def _of(hf: Any, kept: dict[tuple[str, int], Tensor], sender: Node) -> Float[Tensor, "prompt pos d_model"]:
    """What a sender writes to the stream."""
    value = kept[sender.site, sender.layer]
    if sender.part is None:
        return value
    at = _columns(hf, sender.part)
    return value[..., at] @ hf.model.layers[sender.layer].self_attn.o_proj.weight[:, at].T


@contextmanager
def _reading(hf: Any, receiver: Node, change: Tensor) -> Iterator[None]:
    """The receiver reads its stream plus a change, while the context lasts."""
    with ExitStack() as hooks:
        if receiver.site == "logits":
            hooks.enter_context(_before(hf.model.norm, lambda x: x + change))
        elif receiver.site == "mlp_out":
            layer = hf.model.layers[receiver.layer]
            hooks.enter_context(_before(layer.post_attention_layernorm, lambda x: x + change))
        else:
            layer, seen = hf.model.layers[receiver.layer], {}
            projection = getattr(layer.self_attn, f"{receiver.site}_proj")

            def again(out: Tensor) -> Tensor:
                at = _columns(hf, receiver.part or 0)
                out[..., at] = layer.input_layernorm(seen["x"] + change) @ projection.weight[at].T
                return out

            hooks.enter_context(_before(layer, lambda x: seen.setdefault("x", x)))
            hooks.enter_context(_after(projection, again))
        yield


def _columns(hf: Any, head: int) -> slice:
    size = getattr(hf.config, "head_dim", None) or hf.config.hidden_size // hf.config.num_attention_heads
    return slice(head * size, (head + 1) * size)


@contextmanager
def _before(module: Any, hook: Hook) -> Iterator[None]:
    handle = module.register_forward_pre_hook(lambda _, given: (hook(given[0]), *given[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _after(module: Any, hook: Hook) -> Iterator[None]:
    handle = module.register_forward_hook(lambda _, __, out: hook(out))
    try:
        yield
    finally:
        handle.remove()
