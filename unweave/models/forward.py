"""The forward pass: the one place where a transformer is computed.

    embed:  x = W_E[token] (+ W_pos[pos])
    block:  x = x + attention(norm1(x));  x = x + mlp(norm2(x))              serial
            x = x + attention(norm1(x)) + mlp(norm2(x))                      parallel
    logits: W_U norm_final(x) + b_U

The plain run (`forward`) and the wavefront of `unweave.engine` call the same functions of a layer. A tap sees every
named activation on its way and returns the value to go on with: that is how activations are kept and edited.

Inference overwrites what it no longer needs, which saves passes over memory. Training needs some of it for gradients:
a function that would overwrite it asks `requires_grad`, and takes another form of the same equation.
"""

from collections.abc import Callable
from dataclasses import dataclass

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


def untapped(site: str, layer: int, value: Tensor) -> Tensor:
    """The tap that changes nothing."""
    return value


def norm(config: Config, weights: NormWeights, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
    """Normalised `x`, computed in float32 or wider."""
    if config.norm == "none":
        return x
    wide = widened(x)
    if config.norm == "rms":
        # one pass for the norm and one for the product, where F.rms_norm takes four on a processor
        square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square() / x.shape[-1]
        out = (wide * torch.rsqrt(square + config.norm_eps)).to(x.dtype)
        return out if weights.weight is None else out.mul_(weights.weight)
    weight, bias = (None if w is None else w.to(wide.dtype) for w in (weights.weight, weights.bias))
    return F.layer_norm(wide, (x.shape[-1],), weight, bias, config.norm_eps).to(x.dtype)


def norm_scale(config: Config, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows 1"]:
    """What `norm` divides by, in float32 or wider: the root mean square of `x`, for LayerNorm without its mean."""
    wide = widened(x)
    if config.norm == "none":
        return torch.ones_like(wide[..., :1])
    centred = wide - wide.mean(-1, keepdim=True) if config.norm == "layer" else wide
    return (centred.pow(2).mean(-1, keepdim=True) + config.norm_eps).sqrt()


def rotary_tables(
    weights: Weights, n_pos: int, dtype: torch.dtype
) -> tuple[Float[Tensor, "pos half"], Float[Tensor, "pos half"]] | None:
    """Cosines and sines by position. They are made in float32, as the published models were trained, then cast."""
    if weights.rotary_freq is None:
        return None
    angles = torch.arange(n_pos, device=weights.w_e.device).float()[:, None] * weights.rotary_freq.float()
    return (angles.cos() * weights.rotary_scale).to(dtype), (angles.sin() * weights.rotary_scale).to(dtype)


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
class Sight:
    """What attention knows of positions: the rotary tables, and the keys that it reads (see `seen_keys`)."""

    tables: tuple[Float[Tensor, "pos half"], Float[Tensor, "pos half"]] | None
    seen: Bool[Tensor, "prompt pos"] | None


def sight_of(
    config: Config,
    weights: Weights,
    tokens: Int[Tensor, "prompt pos"],
    lengths: Int[Tensor, " prompt"] | None = None,
) -> Sight:
    """What attention knows of the positions of some prompts. `lengths` None: all tokens of a row count."""
    return Sight(rotary_tables(weights, tokens.shape[1], weights.w_e.dtype), seen_keys(config, tokens, lengths))


def rotate(
    x: Float[Tensor, "run head pos d_head"], tables: tuple[Float[Tensor, "pos half"], Float[Tensor, "pos half"]] | None
) -> Float[Tensor, "run head pos d_head"]:
    """Rotates the leading dimensions of each head, pairing dimension i with i + half. `tables` None leaves `x`."""
    if tables is None:
        return x
    cos, sin = tables
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


def attention_scores(
    config: Config,
    q: Float[Tensor, "run head q_pos d_head"],
    k: Float[Tensor, "run kv_head k_pos d_head"],
    seen: Bool[Tensor, "run k_pos"] | None = None,
) -> Float[Tensor, "run head q_pos k_pos"]:
    """Scaled, masked scores of rotated queries and keys, in float32 or wider: in float16 large ones overflow.

    In causal models the queries stand at the last `q_pos` positions; in others each reads all keys that are `seen`.
    """
    n_queries, n_keys = q.shape[2], k.shape[2]
    q = rearrange(q, "run (kv_head share) q_pos e -> run kv_head (share q_pos) e", kv_head=k.shape[1])
    scores = (widened(q) @ widened(k).transpose(-1, -2)).mul_(config.score_scale)
    scores = rearrange(scores, "run kv_head (share q_pos) k_pos -> run (kv_head share) q_pos k_pos", q_pos=n_queries)
    if seen is not None:
        return scores.masked_fill_(~seen[:, None, None], float("-inf"))
    if n_queries == 1 or not config.causal:  # a single query stands at the last position, and sees all
        return scores
    future = torch.ones(n_queries, n_keys, dtype=torch.bool, device=q.device).triu(n_keys - n_queries + 1)
    return scores.masked_fill_(future, float("-inf"))


def attention_pattern(scores: Float[Tensor, "run head q_pos k_pos"]) -> Float[Tensor, "run head q_pos k_pos"]:
    """Softmax over the keys."""
    if scores.device.type != "cpu" or scores.requires_grad:  # gradients need what the passes below overwrite
        return scores.softmax(-1)
    # Rows of a prompt are short. The library's softmax goes row by row, and takes four times as long as these passes.
    pattern = (scores - scores.amax(-1, keepdim=True)).exp_()
    return pattern.div_(pattern.sum(-1, keepdim=True))


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


def attention(
    config: Config,
    layer: LayerWeights,
    x: Float[Tensor, "run pos d_model"],
    sight: Sight,
    tap: Tap,
    index: int,
) -> Float[Tensor, "run pos d_model"]:
    """One attention half-layer, from the residual stream to what it writes."""
    q, k, v = split_qkv(config, project(config, layer, x))
    q, k, v = tap("q", index, q), tap("k", index, k), tap("v", index, v)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # sites are by position, products by head
    q, k = rotate(q, sight.tables), rotate(k, sight.tables)
    scores = tap("scores", index, attention_scores(config, q, k, sight.seen))
    pattern = tap("pattern", index, attention_pattern(scores))
    z = tap("z", index, attend(pattern, v).transpose(1, 2))
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
    assert layer.w_in is not None
    assert layer.w_out is not None
    hidden = F.linear(norm(config, layer.norm2, x), layer.w_in, layer.b_in)
    gate = hidden[..., : config.d_mlp]
    edited = tap("mlp_pre", index, gate)
    if edited is not gate:
        hidden = torch.cat([edited, hidden[..., config.d_mlp :]], dim=-1)
    post = tap("mlp_post", index, activate(config, hidden))
    return tap("mlp_out", index, F.linear(post, layer.w_out, layer.b_out))


def block(
    config: Config,
    layer: LayerWeights,
    x: Float[Tensor, "run pos d_model"],
    sight: Sight,
    tap: Tap,
    index: int,
) -> Float[Tensor, "run pos d_model"]:
    """One block, serial or parallel."""
    x = tap("resid_pre", index, x)
    after = x + attention(config, layer, x, sight, tap, index)
    if config.block == "serial":
        x = after = tap("resid_mid", index, after)
    if config.d_mlp:
        after = after + mlp(config, layer, x, tap, index)
    return tap("resid_post", index, after)


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
    sight = sight_of(config, weights, tokens, lengths)
    for index, layer in enumerate(weights.layers):
        x = block(config, layer, x, sight, tap, index)
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
