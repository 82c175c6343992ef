"""Where heads look on the task, role by role, and what they write about the tokens they look at.

Wang et al. 2022 (arXiv 2211.00593), figures 3 and 4; value-weighted attention after Kobayashi et al. 2020 (arXiv
2004.10102): the weight of a source is its attention times the length of its value vector, scaled to sum to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import xarray as xr
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.reading import read_at, read_sites
from unweave.errors import InputError
from unweave.methods.targets import several
from unweave.methods.to_xarray import to_xarray
from unweave.methods.weights.head_matrices import through_norm
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.config import Config
from unweave.models.forward import norm_scale
from unweave.models.precision import widened, without_autocast
from unweave.models.prompts import Prompts
from unweave.models.run import Key
from unweave.progress import Progress, part, shown
from unweave.registry import LOOKS, Method, register

_SHARE: dict[str, Any] = {"unit": "share", "zero": "does not look there", "one": "looks only there"}
BETWEEN = register(
    Method(
        "attention between roles",
        LOOKS,
        quantity="attention",
        **_SHARE,
        picture="unweave.views.head_pictures:role_attention_blocks",
        dims=("prompt", "layer", "head", "q_role", "k_role"),
    )
)
AGAINST = register(
    Method(
        "attention against contribution",
        LOOKS,
        picture="unweave.views.head_pictures:contribution_blocks",
        dims=("prompt", "role", "layer", "head"),
    )
)


def role_attention(
    pair: Contrast,
    roles: str | Sequence[str] | None = None,
    prompts: str = "clean",
    by_value: bool = False,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Attention of every head from each role to each role.

    Args:
        pair: model and prompts.
        roles: the roles that look and are looked at; all of the task's by default.
        prompts: which of the two sets is run.
        by_value: weight each source by the length of its value vector, and scale the row to sum to 1.
        memory, progress: as in `patch`.

    Returns:
        Shares, 0 to 1, `[prompt, layer, head, q_role, k_role]`; 0 where the source comes later.

    Raises:
        InputError: a role that the task lacks.
    """
    check_pair(pair)
    shown = pair.side(prompts)
    names = list(pair.prompts.roles if roles is None else several(roles) or ())
    if not names:
        raise InputError("roles: none was given; leave it out for all of the task's roles")
    places = torch.stack([pair.prompts.role(name) for name in names], dim=1)
    table = _attention(pair, shown, places, places, by_value, memory, progress)
    attrs = BETWEEN.attrs(quantity="value-weighted attention" if by_value else "attention", prompts=prompts)
    return to_xarray(pair, table, {**_heads(pair), "q_role": names, "k_role": names}, attrs, shown)


@without_autocast
def attention_contribution(
    pair: Contrast,
    roles: str | Sequence[str] = ("IO", "S1"),
    by_value: bool = False,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.Dataset:
    """How much each head looks at a role's token, and how much it then writes for that token.

    Args:
        pair: its clean prompts are run, and read at the metric's role.
        roles: where the tokens stand.
        by_value: as in `role_attention`.
        memory, progress: as in `patch`.

    Returns:
        Two variables `[prompt, role, layer, head]`: `attention` from the metric's role to this role (a share), and
        `contribution`, the head's output at the metric's role on the unembedding of the token that stands at this role,
        with the last norm's scale of the run, in logits.

    Raises:
        InputError: a role that the task lacks; a model whose answers are not its vocabulary.
    """
    check_pair(pair)
    if pair.model.config.d_vocab_out != pair.model.config.d_vocab:
        raise InputError(
            f"pair: {pair.model.config.name} answers with classes, not with tokens of its prompts, so a token at a "
            "role has no logit; use uw.attribute(pair, by='head')"
        )
    end = pair.prompts.role(pair.metric.role)
    names = list(several(roles) or ())
    places = torch.stack([pair.prompts.role(name) for name in names], dim=1)
    with shown(progress, "reading") as report:
        looks = _attention(pair, pair.prompts, end[:, None], places, by_value, memory, part(report, 0, 2))
        writes = _contributions(pair, pair.prompts.tokens.gather(1, places), memory, part(report, 1, 2))
    looks = rearrange(looks, "prompt layer head 1 role -> prompt role layer head")
    attrs = AGAINST.attrs()
    axes = {"role": names, **_heads(pair)}
    logits = {"unit": "logits", "zero": "writes nothing for the token", "one": "one logit for the token"}
    quantity = "value-weighted attention" if by_value else "attention"
    shares = to_xarray(pair, looks, axes, {**attrs, "quantity": quantity, **_SHARE})
    written = to_xarray(pair, writes, axes, {**attrs, "quantity": "contribution", **logits})
    shared = {name: value for name, value in shares.attrs.items() if written.attrs.get(name) == value}
    return xr.Dataset({"attention": shares, "contribution": written}, attrs=shared)


def _heads(pair: Contrast) -> dict[str, Sequence]:
    return {"layer": range(pair.model.config.n_layers), "head": range(pair.model.config.n_heads)}


def _attention(
    pair: Contrast,
    prompts: Prompts,
    queries: Int[Tensor, "prompt query"],
    keys: Int[Tensor, "prompt key"],
    by_value: bool,
    memory: int | float | None,
    progress: Progress | bool | None,
) -> Float[Tensor, "prompt layer head query key"]:
    """Attention between positions of each prompt."""
    config, lengths = pair.model.config, {}

    def pick(key: Key, value: Tensor, rows: slice) -> Tensor | None:
        if key[0] == "v":  # passes before the pattern of its layer
            lengths[key[1]] = widened(value).norm(dim=-1)
            return None
        looks = value.take_along_dim(queries[rows, None, :, None], 2)
        looks = _weighted(config, looks, lengths.pop(key[1])) if by_value else looks
        return looks.take_along_dim(keys[rows, None, None, :], 3)

    sites = ("v", "pattern") if by_value else ("pattern",)
    wanted = [(site, layer) for layer in range(config.n_layers) for site in sites]
    found = read_sites(pair.model, prompts, wanted, pick, memory, progress)
    return torch.stack([found["pattern", layer] for layer in range(config.n_layers)], dim=1)


def _weighted(
    config: Config, rows: Float[Tensor, "prompt head query k_pos"], length: Float[Tensor, "prompt k_pos kv_head"]
) -> Float[Tensor, "prompt head query k_pos"]:
    """Rows of a pattern by the length of each source's value, summing to 1."""
    length = repeat(length, "prompt k_pos kv -> prompt (kv share) k_pos", share=config.heads_per_kv)
    weighted = rows * length[:, :, None, :]
    return weighted / weighted.sum(-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)


def _contributions(
    pair: Contrast,
    tokens: Int[Tensor, "prompt role"],
    memory: int | float | None,
    progress: Progress | bool | None,
) -> Float[Tensor, "prompt role layer head"]:
    """What each head writes at the metric's role for each token, in logits, at the run's scale of the last norm."""
    model, config = pair.model, pair.model.config
    last, at = ("resid_post", config.n_layers - 1), pair.prompts.role(pair.metric.role)
    x = read_at(model, pair.prompts, [*(("z", n) for n in range(config.n_layers)), last], at, memory, progress)
    direction = through_norm(config, model.weights.norm_final, model.weights.w_u[tokens])
    direction = direction / norm_scale(config, x[last])[:, None]
    layers = []
    for layer, weights in enumerate(model.weights.layers):
        w_o = rearrange(widened(weights.w_o), "d (head e) -> head e d", e=config.d_head)
        read = einsum(direction, w_o, "prompt role d, head e d -> prompt role head e")
        layers.append(einsum(widened(x["z", layer]), read, "prompt head e, prompt role head e -> prompt role head"))
    return torch.stack(layers, dim=2)
