"""The forward pass: the one place where a transformer is computed.

    embed:  x = W_E[token] (+ W_pos[pos])
    block:  x = x + attention(norm1(x));  x = x + mlp(norm2(x))              serial
            x = x + attention(norm1(x)) + mlp(norm2(x))                      parallel
    logits: W_U norm_final(x) + b_U

A block is two halves (`halves`), and `half_block` is their composition. Plain run, wavefront and frozen pass
of `unweave.engine` call it, and differ in how attention is computed: in full, over a cached prefix, or frozen.
A change to the block is made here, once:

    what is added to the stream, or normalised before it is        half_block
    what is done to queries and keys before they meet              AttentionInputs.rotated
    which keys are read, and how scores are scaled                 attention_pattern
    which positions a change can affect                            read_by, reads

A tap sees every named activation on its way and returns the value to go on with: that is how activations are kept and
edited. Inference overwrites what it no longer needs; training needs some of it for gradients, so a function that would
overwrite it asks `requires_grad`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unweave.models.config import Config
from unweave.models.precision import widened, without_autocast
from unweave.models.weights import LayerWeights, NormWeights, Weights

# Sees the value of a site (layer -1 outside the blocks), and returns the value to go on with.
Tap = Callable[[str, int, Tensor], Tensor]
Part = Literal["attention", "mlp"]
Tables = tuple[Float[Tensor, "pos half"], Float[Tensor, "pos half"]]
# What a part writes to the residual stream, from the stream that it reads.
Writes = Callable[[Tensor], Tensor]


def untapped(site: str, layer: int, value: Tensor) -> Tensor:
    """The tap that changes nothing."""
    return value


def halves(config: Config) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """The parts of a block that read the stream before its first half and before its second.

    Halves are numbered through the model as *stages*: `2 * layer`, `2 * layer + 1`, and `2 * n_layers` after the last.
    """
    return (("attention",), ("mlp",)) if config.block == "serial" else (("attention", "mlp"), ())


def stage_read(config: Config, part: Part, layer: int) -> int:
    """The stage whose stream a layer's attention or MLP reads."""
    return 2 * layer + (0 if part in halves(config)[0] else 1)


def stage_written(config: Config, part: Part, layer: int) -> int:
    """The first stage whose stream holds what a layer's attention or MLP writes."""
    first, second = halves(config)
    return 2 * layer + (1 if part in first and second else 2)


def stream_site(config: Config, stage: int) -> tuple[str, int]:
    """The site and layer of the residual stream before a stage. The empty half of a parallel block has none."""
    layer, half = divmod(stage, 2)
    if half:
        return "resid_mid", layer
    return ("resid_pre", layer) if layer < config.n_layers else ("resid_post", layer - 1)


def stream_sites(config: Config) -> list[tuple[str, int]]:
    """The residual stream before every stage, and after the last."""
    stages = [stage for stage in range(2 * config.n_layers) if halves(config)[stage % 2]]
    return [stream_site(config, stage) for stage in [*stages, 2 * config.n_layers]]


def read_by(config: Config, pos: int, span: range) -> range:
    """The positions of `span` whose attention reads `pos`, which may lie before it: none if it lies after it."""
    if pos >= span.stop:
        return span[:0]
    return range(max(pos, span.start), span.stop) if config.causal else span


def reads(config: Config, pos: int, span: range) -> range:
    """The positions of `span` that attention at `pos` reads."""
    return range(span.start, max(span.start, pos + 1)) if config.causal else span


def looks_ahead(config: Config) -> bool:
    """Whether a position reads later ones too."""
    return not config.causal


def norm(config: Config, weights: NormWeights, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
    """Normalised `x`, computed in float32 or wider."""
    if config.norm == "none":
        return x
    wide = widened(x)
    if config.norm == "rms":
        out = F.rms_norm(wide, (x.shape[-1],), eps=config.norm_eps).to(x.dtype)
        return out if weights.weight is None else out * weights.weight
    weight, bias = (None if w is None else w.to(wide.dtype) for w in (weights.weight, weights.bias))
    return F.layer_norm(wide, (x.shape[-1],), weight, bias, config.norm_eps).to(x.dtype)


def norm_scale(config: Config, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows 1"]:
    """What `norm` divides by, in float32 or wider: the root mean square of `x`, for LayerNorm without its mean."""
    wide = widened(x)
    if config.norm == "none":
        return torch.ones_like(wide[..., :1])
    centred = wide - wide.mean(-1, keepdim=True) if config.norm == "layer" else wide
    return (centred.pow(2).mean(-1, keepdim=True) + config.norm_eps).sqrt()


def seen_keys(
    config: Config, tokens: Int[Tensor, "prompt pos"], lengths: Int[Tensor, " prompt"] | None
) -> Bool[Tensor, "prompt pos"] | None:
    """The keys that bidirectional attention reads: tokens of the prompt that are no padding. None in causal models.

    Padding stands behind a prompt, so causal attention from within the prompt never reads it.
    """
    if config.causal:
        return None
    n_pos = tokens.shape[1]
    ends = torch.full_like(tokens[:, 0], n_pos) if lengths is None else lengths
    seen = torch.arange(n_pos, device=tokens.device) < ends[:, None]
    return seen if config.pad_token is None else seen & (tokens != config.pad_token)


@dataclass(frozen=True)
class AttentionInputs:
    """What attention knows of positions: the rotary tables, and a mask of the keys that it reads (see `seen_keys`)."""

    tables: Tables | None
    seen: Bool[Tensor, "prompt key"] | None

    @staticmethod
    def of(
        config: Config,
        weights: Weights,
        tokens: Int[Tensor, "prompt pos"],
        lengths: Int[Tensor, " prompt"] | None = None,
    ) -> "AttentionInputs":
        """Of some prompts. `lengths` None: all tokens of a row count."""
        seen = seen_keys(config, tokens, lengths)
        if weights.rotary_freq is None:
            return AttentionInputs(None, seen)
        # in float32, as the published models were trained, then cast
        angles = torch.arange(tokens.shape[1], device=weights.w_e.device).float()[:, None] * weights.rotary_freq.float()
        cos, sin = ((turn * weights.rotary_scale).to(weights.w_e.dtype) for turn in (angles.cos(), angles.sin()))
        return AttentionInputs((cos, sin), seen)

    def take(self, prompts: Int[Tensor, " run"] | slice, n_keys: int | None = None) -> "AttentionInputs":
        """Of some of the prompts, and of their first `n_keys` keys."""
        return self if self.seen is None else replace(self, seen=self.seen[prompts, :n_keys])

    def rotated(self, x: Float[Tensor, "run head pos d_head"], first: int = 0) -> Float[Tensor, "run head pos d_head"]:
        """Queries or keys of the positions from `first` on, as they meet: rotated, if the model has rotary positions.

        The leading dimensions of each head are rotated, dimension i paired with i + half.
        """
        if self.tables is None:
            return x
        cos, sin = (table[first : first + x.shape[2]] for table in self.tables)
        half = cos.shape[-1]
        a, b = x[..., :half], x[..., half : 2 * half]
        if x.requires_grad:
            return torch.cat([a * cos - b * sin, b * cos + a * sin, x[..., 2 * half :]], dim=-1)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        torch.mul(a, cos, out=out[..., :half]).addcmul_(b, sin, value=-1)
        torch.mul(b, cos, out=out[..., half : 2 * half]).addcmul_(a, sin)
        out[..., 2 * half :] = x[..., 2 * half :]
        return out


def split_qkv(
    config: Config, qkv: Float[Tensor, "*rows qkv"]
) -> tuple[
    Float[Tensor, "*rows head d_head"], Float[Tensor, "*rows kv_head d_head"], Float[Tensor, "*rows kv_head d_head"]
]:
    """Queries, keys and values of the fused projection."""
    heads = qkv.unflatten(-1, (config.n_heads + 2 * config.n_kv_heads, config.d_head))
    q, k, v = heads.split([config.n_heads, config.n_kv_heads, config.n_kv_heads], dim=-2)
    return q, k, v


def project(config: Config, layer: LayerWeights, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows qkv"]:
    """Fused queries, keys and values of a block's input."""
    return F.linear(norm(config, layer.norm1, x), layer.w_qkv, layer.b_qkv)


def attention_pattern(
    config: Config,
    q: Float[Tensor, "run head q_pos d_head"],
    k: Float[Tensor, "run kv_head k_pos d_head"],
    inputs: AttentionInputs,
    tap: Tap = untapped,
    index: int = -1,
) -> Float[Tensor, "run head q_pos k_pos"]:
    """Softmax of the scaled, masked scores of rotated queries and keys, in float32 or wider: float16 would overflow.

    In causal models the queries stand at the last `q_pos` positions; in others each reads all keys that are seen.
    """
    n_queries, n_keys = q.shape[2], k.shape[2]
    q = rearrange(q, "run (kv_head share) q_pos e -> run kv_head (share q_pos) e", kv_head=k.shape[1])
    scores = (widened(q) @ widened(k).transpose(-1, -2)).mul_(config.score_scale)
    scores = rearrange(scores, "run kv_head (share q_pos) k_pos -> run (kv_head share) q_pos k_pos", q_pos=n_queries)
    if inputs.seen is not None:
        scores = scores.masked_fill_(~inputs.seen[:, None, None], float("-inf"))
    if config.causal and n_queries > 1:  # a single query stands at the last position, and reads all
        future = torch.ones(n_queries, n_keys, dtype=torch.bool, device=q.device).triu(n_keys - n_queries + 1)
        scores = scores.masked_fill_(future, float("-inf"))
    return tap("pattern", index, tap("scores", index, scores).softmax(-1))


def attend(
    pattern: Float[Tensor, "run head q_pos k_pos"], v: Float[Tensor, "run kv_head k_pos d_head"]
) -> Float[Tensor, "run head q_pos d_head"]:
    """Values, averaged by the attention pattern, in the values' dtype."""
    n_queries = pattern.shape[2]
    pattern = rearrange(
        pattern, "run (kv_head share) q_pos k_pos -> run kv_head (share q_pos) k_pos", kv_head=v.shape[1]
    )
    z = pattern.to(v.dtype) @ v
    return rearrange(z, "run kv_head (share q_pos) e -> run (kv_head share) q_pos e", q_pos=n_queries)


def attention_z(
    config: Config,
    qkv: Float[Tensor, "run pos qkv"],
    inputs: AttentionInputs,
    tap: Tap = untapped,
    index: int = -1,
    *,
    first: int = 0,
    prefix: tuple[Tensor, Tensor] | None = None,
    queries: slice = slice(None),
) -> Float[Tensor, "run q_pos head d_head"]:
    """Each head's mix of values, from the fused projection of the positions from `first` on.

    Args:
        inputs: of the runs' prompts, and of all keys up to the last of these positions.
        prefix: rotated keys, and values, of the positions before `first`, `[run kv_head pos d_head]`.
        queries: the positions that are computed, counted from `first`; all of them, or one.
    """
    q, k, v = split_qkv(config, qkv)
    q, k, v = tap("q", index, q), tap("k", index, k), tap("v", index, v)
    q, k, v = q[:, queries].transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # products are by head
    q, k = inputs.rotated(q, first + (queries.start or 0)), inputs.rotated(k, first)
    if prefix is not None:
        k, v = (torch.cat(pair, dim=2) for pair in zip(prefix, (k, v), strict=True))
    pattern = attention_pattern(config, q, k, inputs, tap, index)
    return tap("z", index, attend(pattern, v).transpose(1, 2))


def attention(
    config: Config,
    layer: LayerWeights,
    x: Float[Tensor, "run pos d_model"],
    inputs: AttentionInputs,
    tap: Tap,
    index: int,
) -> Float[Tensor, "run pos d_model"]:
    """Attention in full, from the residual stream to what it writes."""
    z = attention_z(config, project(config, layer, x), inputs, tap, index)
    return tap("attn_out", index, attention_output(layer, z))


def attention_output(layer: LayerWeights, z: Float[Tensor, "*rows head d_head"]) -> Float[Tensor, "*rows d_model"]:
    """What a block's attention writes to the residual stream."""
    return F.linear(z.flatten(-2), layer.w_o, layer.b_o)


def activate(config: Config, pre: Float[Tensor, "*rows d_hidden"]) -> Float[Tensor, "*rows d_mlp"]:
    """The activation function, times the linear part where the MLP is gated."""
    gate, linear = pre.chunk(2, dim=-1) if config.gated_mlp else (pre, None)
    if config.activation == "silu":
        post = F.silu(gate)
    elif config.activation == "relu":
        post = F.relu(gate)
    else:
        post = F.gelu(gate, approximate="tanh" if config.activation == "gelu_new" else "none")
    if linear is None:
        return post
    return post * linear if post.requires_grad else post.mul_(linear)


def mlp(
    config: Config, layer: LayerWeights, x: Float[Tensor, "*rows d_model"], tap: Tap = untapped, index: int = -1
) -> Float[Tensor, "*rows d_model"]:
    """One MLP half-layer, from the residual stream to what it writes."""
    assert layer.w_out is not None
    return tap("mlp_out", index, F.linear(mlp_neurons(config, layer, x, tap, index), layer.w_out, layer.b_out))


def mlp_neurons(
    config: Config, layer: LayerWeights, x: Float[Tensor, "*rows d_model"], tap: Tap = untapped, index: int = -1
) -> Float[Tensor, "*rows d_mlp"]:
    """The activations of an MLP's neurons, from the residual stream."""
    assert layer.w_in is not None
    hidden = F.linear(norm(config, layer.norm2, x), layer.w_in, layer.b_in)
    gate = hidden[..., : config.d_mlp]
    edited = tap("mlp_pre", index, gate)
    if edited is not gate:
        hidden = torch.cat([edited, hidden[..., config.d_mlp :]], dim=-1)
    return tap("mlp_post", index, activate(config, hidden))


def half_block(
    config: Config, half: int, x: Float[Tensor, "*rows d_model"], attention: Writes, mlp: Writes
) -> Float[Tensor, "*rows d_model"]:
    """The stream after one half of a block: its parts read the stream before either writes to it."""
    out = x
    for part in halves(config)[half]:
        if part == "attention" or config.d_mlp:
            out = out + (attention if part == "attention" else mlp)(x)
    return out


def block(
    config: Config,
    layer: LayerWeights,
    x: Float[Tensor, "run pos d_model"],
    inputs: AttentionInputs,
    tap: Tap,
    index: int,
) -> Float[Tensor, "run pos d_model"]:
    """One block, with attention in full."""
    attends = partial(attention, config, layer, inputs=inputs, tap=tap, index=index)
    feeds = partial(mlp, config, layer, tap=tap, index=index)
    x = half_block(config, 0, tap("resid_pre", index, x), attends, feeds)
    if halves(config)[1]:
        x = half_block(config, 1, tap("resid_mid", index, x), attends, feeds)
    return tap("resid_post", index, x)


def embed(weights: Weights, tokens: Int[Tensor, "prompt pos"], tap: Tap) -> Float[Tensor, "prompt pos d_model"]:
    """The residual stream before the first block."""
    x = tap("embed", -1, weights.w_e[tokens])
    if weights.w_pos is None:
        return x
    return x + tap("pos_embed", -1, weights.w_pos[: tokens.shape[1]].expand_as(x))


@without_autocast
def forward(
    config: Config,
    weights: Weights,
    tokens: Int[Tensor, "prompt pos"],
    tap: Tap = untapped,
    lengths: Int[Tensor, " prompt"] | None = None,
) -> Float[Tensor, "prompt pos d_model"]:
    """The residual stream after the last norm. Prompts are right-padded from `lengths` on; no attention reads that."""
    x = embed(weights, tokens, tap)
    inputs = AttentionInputs.of(config, weights, tokens, lengths)
    for index, layer in enumerate(weights.layers):
        x = block(config, layer, x, inputs, tap, index)
    return tap("final", -1, norm(config, weights.norm_final, x))


# Entries of the unembedding that are held in float32 beside one in half precision.
UNEMBED_CHUNK = 2**23


@without_autocast
def unembed(weights: Weights, final: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_vocab_out"]:
    """Logits of the residual stream after the last norm, in float32 or wider.

    In bfloat16 logits around 20 are 1/8 apart, which is more than most patches change them by. A matrix in half
    precision is widened in chunks of the vocabulary.
    """
    wide, w_u = widened(final), weights.w_u
    if wide.dtype == w_u.dtype:
        return F.linear(wide, w_u, weights.b_u)
    chunk = max(1, UNEMBED_CHUNK // w_u.shape[1])
    logits = torch.cat([F.linear(wide, widened(rows)) for rows in w_u.split(chunk)], dim=-1)
    return logits if weights.b_u is None else logits.add_(weights.b_u)
