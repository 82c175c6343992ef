"""Weight processing: other weights for the same function, easier to read off or to decompose.

The steps are those of TransformerLens, and each is a pure function `(config, weights) -> (config, weights)`:

1. `center_writing`: what is written to the residual stream has mean zero; LayerNorm takes the mean off anyway.
2. `center_unembed`: the unembedding's mean over the vocabulary is taken off. Logits change by one constant a position,
   so probabilities and logit differences do not change.
3. `fold_norm`: scales and shifts of the norms move into the matrices that read them.
4. `fold_value_bias`: the value bias moves through W_O into the output bias, because a pattern's rows sum to 1. A
   pattern that is patched or knocked out so that they do not sum to 1 then gives another result than before.
5. `factor_attention`: W_V W_O and W_Q W_K^T of each head keep their products, from singular value decompositions.

This is also the order of "all". A step is refused with the reason where it would change the function, or undo a step
that was made before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.precision import widened, without_autocast
from unweave.models.weights import LayerWeights, NormWeights, Weights


def center_writing(config: Config, weights: Weights) -> tuple[Config, Weights]:
    """Embeddings, output matrices and output biases without their mean over `d_model`."""

    def layer(old: LayerWeights) -> LayerWeights:
        return replace(
            old,
            w_o=old.w_o - old.w_o.mean(0, keepdim=True),
            b_o=_without_mean(old.b_o),
            w_out=None if old.w_out is None else old.w_out - old.w_out.mean(0, keepdim=True),
            b_out=_without_mean(old.b_out),
        )

    made = replace(
        weights,
        w_e=_without_mean(weights.w_e),
        w_pos=_without_mean(weights.w_pos),
        layers=tuple(layer(old) for old in weights.layers),
    )
    # The unembedding keeps its mean, so that it is no longer the embedding's own tensor.
    return _recorded(replace(config, tied_unembed=False), "center_writing"), made


def center_unembed(config: Config, weights: Weights) -> tuple[Config, Weights]:
    """The unembedding and its bias without their mean over the vocabulary."""
    made = replace(weights, w_u=weights.w_u - weights.w_u.mean(0, keepdim=True), b_u=_without_mean(weights.b_u))
    return _recorded(replace(config, tied_unembed=False), "center_unembed"), made


def fold_norm(config: Config, weights: Weights) -> tuple[Config, Weights]:
    """Norms without scale and shift: these are in the matrices that read the stream, which gain biases where needed.

    After LayerNorm, what is read has mean zero, so these matrices also lose their mean over `d_model`.
    """
    centred = config.norm == "layer"

    def layer(old: LayerWeights) -> LayerWeights:
        w_qkv, b_qkv = _fold(old.norm1, old.w_qkv, old.b_qkv, centred)
        w_in, b_in = (old.w_in, old.b_in) if old.w_in is None else _fold(old.norm2, old.w_in, old.b_in, centred)
        return replace(old, norm1=NormWeights(), w_qkv=w_qkv, b_qkv=b_qkv, norm2=NormWeights(), w_in=w_in, b_in=b_in)

    w_u, b_u = _fold(weights.norm_final, weights.w_u, weights.b_u, centred)
    layers = tuple(layer(old) for old in weights.layers)
    made = replace(weights, layers=layers, norm_final=NormWeights(), w_u=w_u, b_u=b_u)
    return _recorded(replace(config, tied_unembed=False), "fold_norm"), made


def fold_value_bias(config: Config, weights: Weights) -> tuple[Config, Weights]:
    """Attention without value biases: they are in the output bias."""
    made = replace(weights, layers=tuple(_without_value_bias(config, layer) for layer in weights.layers))
    return _recorded(config, "fold_value_bias"), made


def factor_attention(config: Config, weights: Weights) -> tuple[Config, Weights]:
    """Each head's matrices from singular value decompositions of their products.

    W_V W_O = U S V^T becomes W_V = U S, W_O = V^T. W_Q W_K^T, biases appended as a row, becomes W_Q = U sqrt(S),
    W_K = V sqrt(S). Value biases move to the output bias first.
    """
    made = replace(weights, layers=tuple(_factored(config, layer) for layer in weights.layers))
    return _recorded(config, "factor_attention"), made


@dataclass(frozen=True)
class Step:
    """A processing step, and why a model of this config cannot take it (None where it can)."""

    apply: Callable[[Config, Weights], tuple[Config, Weights]]
    refusal: Callable[[Config], str | None]


def _no_center_writing(config: Config) -> str | None:
    if config.norm != "layer":
        kind = {"rms": "RMS norm", "none": "no norm"}[config.norm]
        return f"the model has {kind}, which reads the mean that this step takes off; only LayerNorm drops it"
    return _undoes(config, "center_writing", "factor_attention")


def _no_fold_norm(config: Config) -> str | None:
    if config.norm == "none":
        return "the model has no norms to fold"
    before = ("fold_value_bias", "factor_attention") if config.norm == "layer" else ("factor_attention",)
    return _undoes(config, "fold_norm", *before)


def _no_factor_attention(config: Config) -> str | None:
    if config.positions == "rotary":
        return "with rotary positions scores are not a product of W_Q and W_K alone"
    if config.grouped:
        return f"{config.heads_per_kv} query heads share each key and value head, and would need one each"
    return None


def _undoes(config: Config, step: str, *earlier: str) -> str | None:
    made = [name for name in earlier if name in config.processing]
    return f"it undoes {made[0]}, which was made before; start again and put {step} first" if made else None


PROCESSING: dict[str, Step] = {
    "center_writing": Step(center_writing, _no_center_writing),
    "center_unembed": Step(center_unembed, lambda config: None),
    "fold_norm": Step(fold_norm, _no_fold_norm),
    "fold_value_bias": Step(fold_value_bias, lambda config: None),
    "factor_attention": Step(factor_attention, _no_factor_attention),
}


@without_autocast
def process(config: Config, weights: Weights, steps: str | Sequence[str]) -> tuple[Config, Weights]:
    """The steps named, in the order given; "all" stands for every step that this model allows, in the right order.

    A step that was made before is not made again.

    Raises:
        InputError: an unknown step, or one that is refused, with the reason.
    """
    steps, dtype = [steps] if isinstance(steps, str) else steps, weights.w_e.dtype
    if dtype == widened(weights.w_e).dtype:
        return _processed(config, weights, steps)
    # Means and products of half precision weights are float32; what is kept is rounded once.
    config, made = _processed(config, weights.map(widened), steps)
    return config, made.to(dtype=dtype)


def _processed(config: Config, weights: Weights, steps: Sequence[str]) -> tuple[Config, Weights]:
    for name in steps:
        if name == "all":
            allowed = [step for step, entry in PROCESSING.items() if entry.refusal(config) is None]
            config, weights = _processed(config, weights, allowed)
            continue
        if name not in PROCESSING:
            raise InputError(f"process: there is no step {name!r}; there are {', '.join(PROCESSING)}, and 'all'")
        if name in config.processing:
            continue
        reason = PROCESSING[name].refusal(config)
        if reason is not None:
            raise InputError(f"process: {name} is refused for {config.name}: {reason}")
        config, weights = PROCESSING[name].apply(config, weights)
    return config, weights


def _recorded(config: Config, step: str) -> Config:
    return replace(config, processing=(*config.processing, step))


def _without_mean(rows: Tensor | None) -> Tensor | None:
    return None if rows is None else rows - rows.mean(-1, keepdim=True)


def _fold(
    norm: NormWeights, weight: Float[Tensor, "out d_model"], bias: Float[Tensor, " out"] | None, centred: bool
) -> tuple[Float[Tensor, "out d_model"], Float[Tensor, " out"] | None]:
    if norm.bias is not None:
        shift = weight @ norm.bias
        bias = shift if bias is None else bias + shift
    folded = weight if norm.weight is None else weight * norm.weight
    return (folded - folded.mean(-1, keepdim=True) if centred else folded), bias


def _without_value_bias(config: Config, layer: LayerWeights) -> LayerWeights:
    if layer.b_qkv is None:
        return layer
    first = (config.n_heads + config.n_kv_heads) * config.d_head
    b_v = repeat(layer.b_qkv[first:], "(kv_head e) -> (kv_head share e)", e=config.d_head, share=config.heads_per_kv)
    b_qkv = torch.cat([layer.b_qkv[:first], torch.zeros_like(layer.b_qkv[first:])])
    moved = layer.w_o @ b_v
    return replace(layer, b_qkv=b_qkv, b_o=moved if layer.b_o is None else layer.b_o + moved)


def _factored(config: Config, layer: LayerWeights) -> LayerWeights:
    """One layer, in float64: a decomposition in float32 would move the logits by more than rounding does."""
    layer = _without_value_bias(config, layer)
    dtype, e = layer.w_qkv.dtype, config.d_head
    bias = torch.zeros_like(layer.w_qkv[:, 0]) if layer.b_qkv is None else layer.b_qkv
    fused = torch.cat([layer.w_qkv, bias[:, None]], dim=1).double()
    w_q, w_k, w_v = rearrange(fused, "(kind head e) d_model -> kind head d_model e", kind=3, e=e)
    w_o = rearrange(layer.w_o.double(), "d_model (head e) -> head d_model e", e=e)

    w_v, w_o = _factors(w_v[:, :-1], w_o)
    left, right = _factors(w_q, w_k)
    # `_factors` puts all of the singular values on the left; queries and keys share them.
    root = left.norm(dim=1, keepdim=True).sqrt()
    w_q, w_k = left / root.clamp_min(torch.finfo(root.dtype).tiny), right * root
    rows = rearrange(
        torch.stack([w_q, w_k, pad(w_v, (0, 0, 0, 1))]), "kind head d_model e -> (kind head e) d_model"
    ).to(dtype)
    return replace(
        layer,
        w_qkv=rows[:, :-1].contiguous(),
        b_qkv=None if layer.b_qkv is None else rows[:, -1].contiguous(),
        w_o=rearrange(w_o, "head d_model e -> d_model (head e)").to(dtype),
    )


def _factors(
    left: Float[Tensor, "head rows e"], right: Float[Tensor, "head columns e"]
) -> tuple[Float[Tensor, "head rows e"], Float[Tensor, "head columns e"]]:
    """`U S` and `V` of the singular value decomposition of `left right^T`, zero-padded to width `e`.

    The product is never formed: it is large and of rank `e` at most, so the small core between two QR decompositions is
    decomposed instead.
    """
    q_left, r_left = torch.linalg.qr(left)
    q_right, r_right = torch.linalg.qr(right)
    u, s, vh = torch.linalg.svd(r_left @ r_right.mT, full_matrices=False)
    missing = left.shape[-1] - s.shape[-1]
    return pad((q_left @ u) * s[:, None, :], (0, missing)), pad(q_right @ vh.mT, (0, missing))
