"""State dicts in TransformerLens naming, and the way between them and `Weights`.

    embed.W_E [d_vocab d_model]                      pos_embed.W_pos [n_ctx d_model]
    blocks.0.ln1.w, .b [d_model]                     blocks.0.ln2.w, .b;  ln_final.w, .b
    blocks.0.attn.W_Q [head d_model d_head]          .b_Q [head d_head];  K and V alike
    blocks.0.attn.W_O [head d_head d_model]          .b_O [d_model]
    blocks.0.mlp.W_in [d_model d_mlp]                .b_in [d_mlp];  .W_gate of a gated MLP
    blocks.0.mlp.W_out [d_mlp d_model]               .b_out [d_model]
    unembed.W_U [d_model d_vocab_out]                .b_U [d_vocab_out]

Grouped keys and values are `_W_K [kv_head d_model d_head]` and so on. Rotary models also have `rotary.freq` and
`rotary.scale`, which are ours. A bias that a model lacks is written as zeros; norms that were folded are not written.
"""

import re
from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from unweave.errors import ModelError
from unweave.models.config import Config
from unweave.models.model import Model
from unweave.models.weights import LayerWeights, NormWeights, Weights, same_values

# Buffers that TransformerLens stores beside the weights: they follow from the config.
_BUFFERS = re.compile(r"blocks\.\d+\.attn\.(mask|IGNORE|rotary_sin|rotary_cos)")


def shapes_of(config: Config) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor that a model of this config has."""
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (config.d_vocab, config.d_model)}
    if config.positions == "learned":
        shapes["pos_embed.W_pos"] = (config.n_ctx, config.d_model)
    if config.positions == "rotary":
        shapes |= {"rotary.freq": (config.rotary_dim // 2,), "rotary.scale": ()}
    for layer in range(config.n_layers):
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in _shapes_of_layer(config).items()}
    shapes |= _norm_shapes(config, "ln_final")
    return shapes | {"unembed.W_U": (config.d_model, config.d_vocab_out), "unembed.b_U": (config.d_vocab_out,)}


def weights_from_state_dict(config: Config, tensors: Mapping[str, Tensor]) -> Weights:
    """The weights of a state dict in TransformerLens naming. Buffers such as `attn.mask` are left out.

    Raises:
        ModelError: tensors that are missing, extra or misshaped, all of them named; the bias of a gated MLP's linear
            part, which that format adds elsewhere.
    """
    _check(config, tensors)
    layers = tuple(_layer(config, tensors, f"blocks.{index}.") for index in range(config.n_layers))
    w_e, w_u = tensors["embed.W_E"], tensors["unembed.W_U"].T.contiguous()
    if config.tied_unembed and not same_values(w_u, w_e):
        raise ModelError("tied_unembed: unembed.W_U is not the transpose of embed.W_E; give tied_unembed=False")
    rotary = config.positions == "rotary"
    return Weights(
        w_e=w_e,
        w_pos=tensors.get("pos_embed.W_pos"),
        layers=layers,
        norm_final=_norm(config, tensors, "ln_final"),
        w_u=w_e if config.tied_unembed else w_u,
        b_u=tensors["unembed.b_U"],
        rotary_freq=tensors["rotary.freq"] if rotary else None,
        rotary_scale=float(tensors["rotary.scale"]) if rotary else 1.0,
    )


def state_dict_of(model: Model) -> dict[str, Tensor]:
    """A model's weights under TransformerLens names, in storage of their own; `weights_from_state_dict` reads them.

    Raises:
        ModelError: a gated MLP with a bias, which that format cannot hold.
    """
    config, weights = model.config, model.weights
    found: dict[str, Tensor | None] = {"embed.W_E": weights.w_e, "pos_embed.W_pos": weights.w_pos}
    if config.positions == "rotary":
        found |= {"rotary.freq": weights.rotary_freq, "rotary.scale": torch.tensor(weights.rotary_scale).double()}
    for index, layer in enumerate(weights.layers):
        found |= {f"blocks.{index}.{name}": value for name, value in _tensors_of_layer(config, layer).items()}
    found |= _norm_tensors("ln_final", weights.norm_final)
    found |= {"unembed.W_U": weights.w_u.T, "unembed.b_U": weights.b_u}
    return {name: _stored(model, name, found[name], shape) for name, shape in shapes_of(config).items()}


def _stored(model: Model, name: str, value: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """A tensor of its own; ones for the scale of a norm that has none, zeros for a missing bias."""
    if value is None:
        missing = torch.ones if name.endswith(".w") else torch.zeros
        return missing(shape, dtype=model.dtype, device=model.device)
    return value.detach().clone(memory_format=torch.contiguous_format)


def _check(config: Config, tensors: Mapping[str, Tensor]) -> None:
    """Raises ModelError with all that does not fit."""
    shapes = shapes_of(config)
    given = {name: tensor for name, tensor in tensors.items() if not _BUFFERS.fullmatch(name)}
    if given and not given.keys() & shapes.keys():
        raise ModelError(
            f"none of its names ({', '.join([*given][:3])}, …) is one of TransformerLens, such as embed.W_E; "
            f"transformers' names go with a config of transformers: config=hf.config, or its config.json"
        )
    missing = [f"{name} {list(shape)}" for name, shape in shapes.items() if name not in given]
    extra = [f"{name} {list(tensor.shape)}" for name, tensor in given.items() if name not in shapes]
    misshaped = [
        f"{name} is {list(given[name].shape)}, expected {list(shape)}"
        for name, shape in shapes.items()
        if name in given and tuple(given[name].shape) != shape
    ]
    whole = [f"{name} is of {tensor.dtype}" for name, tensor in given.items() if not tensor.is_floating_point()]
    kinds = {"missing": missing, "extra": extra, "misshaped": misshaped, "not of a floating type": whole}
    wrong = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
    if wrong:
        raise ModelError(f"the state dict and the config do not fit: {wrong}; correct the config, or give its own file")


def _key_value(config: Config) -> str:
    """What stands before the names of keys and values."""
    return "_" if config.grouped else ""


def _shapes_of_layer(config: Config) -> dict[str, tuple[int, ...]]:
    d, e, m = config.d_model, config.d_head, config.d_mlp
    shapes = _norm_shapes(config, "ln1")
    for kind, n_heads in (("Q", config.n_heads), ("K", config.n_kv_heads), ("V", config.n_kv_heads)):
        mark = "" if kind == "Q" else _key_value(config)
        shapes |= {f"attn.{mark}W_{kind}": (n_heads, d, e), f"attn.{mark}b_{kind}": (n_heads, e)}
    shapes |= {"attn.W_O": (config.n_heads, e, d), "attn.b_O": (d,)}
    if m == 0:
        return shapes
    gate = {"mlp.W_gate": (d, m)} if config.gated_mlp else {}
    inner = {"mlp.W_in": (d, m), "mlp.b_in": (m,), "mlp.W_out": (m, d), "mlp.b_out": (d,)}
    return shapes | _norm_shapes(config, "ln2") | gate | inner


def _norm_shapes(config: Config, name: str) -> dict[str, tuple[int, ...]]:
    if config.norm == "none" or "fold_norm" in config.processing:
        return {}
    parts = ("w", "b") if config.norm == "layer" else ("w",)
    return {f"{name}.{part}": (config.d_model,) for part in parts}


def _norm_tensors(name: str, norm: NormWeights) -> dict[str, Tensor | None]:
    return {f"{name}.w": norm.weight, f"{name}.b": norm.bias}


def _norm(config: Config, tensors: Mapping[str, Tensor], name: str) -> NormWeights:
    return NormWeights(tensors.get(f"{name}.w"), tensors.get(f"{name}.b"))


def _layer(config: Config, tensors: Mapping[str, Tensor], at: str) -> LayerWeights:
    names = [f"{at}attn.{'' if kind == 'Q' else _key_value(config)}{{}}_{kind}" for kind in "QKV"]
    w_in, b_in = _mlp_in(config, tensors, f"{at}mlp.") if config.d_mlp else (None, None)
    return LayerWeights(
        norm1=_norm(config, tensors, f"{at}ln1"),
        w_qkv=torch.cat([rearrange(tensors[name.format("W")], "head d e -> (head e) d") for name in names]),
        b_qkv=torch.cat([tensors[name.format("b")].flatten() for name in names]),
        w_o=rearrange(tensors[f"{at}attn.W_O"], "head e d -> d (head e)").contiguous(),
        b_o=tensors[f"{at}attn.b_O"],
        norm2=_norm(config, tensors, f"{at}ln2"),
        w_in=w_in,
        b_in=b_in,
        w_out=tensors[f"{at}mlp.W_out"].T.contiguous() if config.d_mlp else None,
        b_out=tensors.get(f"{at}mlp.b_out"),
    )


def _mlp_in(
    config: Config, tensors: Mapping[str, Tensor], at: str
) -> tuple[Float[Tensor, "d_hidden d_model"], Float[Tensor, " d_hidden"] | None]:
    """What the MLP reads with: rows of the gate first, where there is one."""
    if not config.gated_mlp:
        return tensors[f"{at}W_in"].T.contiguous(), tensors[f"{at}b_in"]
    if tensors[f"{at}b_in"].any():
        raise ModelError(f"{at}b_in: TransformerLens adds it behind the gate of a gated MLP, which is not supported")
    return torch.cat([tensors[f"{at}W_gate"].T, tensors[f"{at}W_in"].T]), None


def _tensors_of_layer(config: Config, layer: LayerWeights) -> dict[str, Tensor | None]:
    sizes = [config.n_heads, config.n_kv_heads, config.n_kv_heads]
    w_heads = rearrange(layer.w_qkv, "(head e) d -> head d e", e=config.d_head).split(sizes)
    b_heads = None if layer.b_qkv is None else layer.b_qkv.unflatten(0, (-1, config.d_head)).split(sizes)
    found = _norm_tensors("ln1", layer.norm1) | _norm_tensors("ln2", layer.norm2)
    for index, kind in enumerate("QKV"):
        mark = "" if kind == "Q" else _key_value(config)
        found[f"attn.{mark}W_{kind}"] = w_heads[index]
        found[f"attn.{mark}b_{kind}"] = None if b_heads is None else b_heads[index]
    found |= {"attn.W_O": rearrange(layer.w_o, "d (head e) -> head e d", e=config.d_head), "attn.b_O": layer.b_o}
    if layer.w_in is None or layer.w_out is None:
        return found
    if config.gated_mlp and layer.b_in is not None and layer.b_in.any():
        raise ModelError("a gated MLP with biases inside has no place in a state dict in TransformerLens naming")
    gate, linear = layer.w_in.T.chunk(2, dim=1) if config.gated_mlp else (None, layer.w_in.T)
    b_in = None if config.gated_mlp else layer.b_in
    return found | {
        "mlp.W_gate": gate,
        "mlp.W_in": linear,
        "mlp.b_in": b_in,
        "mlp.W_out": layer.w_out.T,
        "mlp.b_out": layer.b_out,
    }
