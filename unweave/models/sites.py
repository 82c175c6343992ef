"""The named activations of a transformer, and their TransformerLens names.

A site is where a value can be read, kept or replaced. Shapes, with `kv_head` where keys and values are grouped:

    embed pos_embed resid_pre attn_out resid_mid mlp_out resid_post final   [prompt pos d_model]
    q z                                                                     [prompt pos head d_head]
    k v                                                                     [prompt pos kv_head d_head]
    scores pattern                                                          [prompt head q_pos k_pos]
    mlp_pre mlp_post                                                        [prompt pos d_mlp]

`q` and `k` are taken before rotation. `scores` are scaled and masked. `mlp_pre` is what the activation function reads,
`mlp_post` what the output matrix reads. `final` is the residual stream after the last norm. In models in half precision
`scores` and `pattern` are float32.
"""

import operator
import re
from dataclasses import dataclass
from typing import Literal

from unweave.errors import InputError, did_you_mean
from unweave.models.config import Config
from unweave.models.forward import halves

Rows = Literal["resid", "head", "kv_head", "attention", "neuron"]


@dataclass(frozen=True)
class Site:
    """One kind of activation: its TransformerLens name (`{}` is the layer), its shape, and whether layers have it."""

    name: str
    lens_name: str
    rows: Rows
    in_layers: bool = True


SITES: dict[str, Site] = {
    site.name: site
    for site in (
        Site("embed", "hook_embed", "resid", in_layers=False),
        Site("pos_embed", "hook_pos_embed", "resid", in_layers=False),
        Site("resid_pre", "blocks.{}.hook_resid_pre", "resid"),
        Site("q", "blocks.{}.attn.hook_q", "head"),
        Site("k", "blocks.{}.attn.hook_k", "kv_head"),
        Site("v", "blocks.{}.attn.hook_v", "kv_head"),
        Site("scores", "blocks.{}.attn.hook_attn_scores", "attention"),
        Site("pattern", "blocks.{}.attn.hook_pattern", "attention"),
        Site("z", "blocks.{}.attn.hook_z", "head"),
        Site("attn_out", "blocks.{}.hook_attn_out", "resid"),
        Site("resid_mid", "blocks.{}.hook_resid_mid", "resid"),
        Site("mlp_pre", "blocks.{}.mlp.hook_pre", "neuron"),
        Site("mlp_post", "blocks.{}.mlp.hook_post", "neuron"),
        Site("mlp_out", "blocks.{}.hook_mlp_out", "resid"),
        Site("resid_post", "blocks.{}.hook_resid_post", "resid"),
        Site("final", "ln_final.hook_normalized", "resid", in_layers=False),
    )
}

_BY_LENS_NAME = {site.lens_name: site for site in SITES.values()}


def parse_site(name: str) -> tuple[Site, int | None]:
    """The site of a name, and the layer where the name holds one.

    >>> parse_site("blocks.9.attn.hook_z")[1]
    9

    Raises:
        InputError: no such site; the message lists them and the nearest name.
    """
    if name in SITES:
        return SITES[name], None
    layer = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    lens_name = f"blocks.{{}}.{layer[2]}" if layer else name
    if lens_name in _BY_LENS_NAME:
        return _BY_LENS_NAME[lens_name], int(layer[1]) if layer else None
    hint = did_you_mean(name, SITES)
    raise InputError(f"site: {name!r} is not a site.{hint} The sites are {' '.join(SITES)}, or TransformerLens names")


def check_site(config: Config, site: Site) -> None:
    """Raises InputError where this model has no such site."""
    if site.name == "resid_mid" and not halves(config)[1]:
        raise InputError(
            f"site: {config.name} has no resid_mid, because its attention and MLP read the same resid_pre; "
            "use resid_pre, attn_out or mlp_out"
        )
    if site.name.startswith("mlp") and config.d_mlp == 0:
        raise InputError(f"site: {config.name} has no MLPs, so it has no {site.name}")
    if site.name == "pos_embed" and config.positions != "learned":
        raise InputError(f"site: {config.name} has no learned position embeddings, so it has no pos_embed")


def whole(argument: str, number: object) -> int:
    """A whole number of Python, numpy or torch as an int. Raises InputError for anything else."""
    try:
        return operator.index(number)  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise InputError(f"{argument}: expected a whole number, got {number!r}") from error


def check_layer(config: Config, layer: object) -> int:
    """`layer`, counted from the end where negative. Raises InputError where there is none."""
    layer = whole("layer", layer)
    if not -config.n_layers <= layer < config.n_layers:
        raise InputError(f"layer: {config.name} has layers 0 to {config.n_layers - 1}, got {layer}")
    return layer % config.n_layers


def n_heads_at(config: Config, site: Site) -> int | None:
    """Heads of a site: key and value heads for `k` and `v`, and None where it has no heads."""
    if site.rows in ("head", "attention"):
        return config.n_heads
    return config.n_kv_heads if site.rows == "kv_head" else None


def width(config: Config, site: Site, n_pos: int) -> int:
    """Numbers of a site at one position of one prompt; of an attention pattern its rows over `n_pos` keys."""
    heads = n_heads_at(config, site)
    if site.rows == "attention":
        return config.n_heads * n_pos
    if heads is not None:
        return heads * config.d_head
    return config.d_mlp if site.rows == "neuron" else config.d_model


def check_pos(n_pos: int, pos: object, argument: str = "pos") -> int:
    """`pos`, if a prompt of `n_pos` tokens has it. Raises InputError otherwise: also for one counted from the end."""
    pos = whole(argument, pos)
    if pos < 0:
        raise InputError(
            f"{argument}: positions count from 0, got {pos}; for each prompt's last token write the role 'end', or "
            "prompts.role('end') where a tensor of positions is taken"
        )
    if pos >= n_pos:
        raise InputError(f"{argument}: the prompts have positions 0 to {n_pos - 1}, got {pos}")
    return pos


def check_neuron(config: Config, neuron: object) -> int:
    """`neuron`, if the MLPs have it. Raises InputError otherwise."""
    neuron = whole("neuron", neuron)
    if not 0 <= neuron < config.d_mlp:
        raise InputError(f"neuron: {config.name} has neurons 0 to {config.d_mlp - 1} in a layer, got {neuron}")
    return neuron


def check_head(config: Config, site: Site, head: object) -> int:
    """`head`, if the site has it. Raises InputError otherwise."""
    head = whole("head", head)
    n_heads = n_heads_at(config, site)
    if n_heads is None:
        raise InputError(f"head: {site.name} has no heads")
    if not 0 <= head < n_heads:
        kind = "key and value heads" if site.rows == "kv_head" and config.grouped else "heads"
        raise InputError(f"head: {config.name} has {kind} 0 to {n_heads - 1} at {site.name}, got {head}")
    return head
