"""Attribution patching: the gradient's version of `uw.patch`, for all activations in one forward and backward pass.

The effect of a patch is predicted as (donor - recipient) · dm/d activation, at the recipient's run (Nanda 2023,
"Attribution Patching"; Syed et al. 2023, arXiv 2310.10348). Axes, labels and units are those of `uw.patch`, so that the
two can be laid side by side. Where attention or a norm is saturated the prediction can be far off: verify what matters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from unweave.engine.context import PatchContext, context_of
from unweave.engine.gradients import gradient_bytes, gradients
from unweave.engine.memory import budget_bytes, in_portions, recording_bytes
from unweave.engine.patches import NodeGrid
from unweave.engine.path_gradients import check_foreseen
from unweave.methods.effect_scale import measure_attrs
from unweave.methods.targets import Over, ResultGrid, grids_over, shared_note
from unweave.methods.to_xarray import sites_to_xarray, to_xarray
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.run import Key
from unweave.models.sites import SITES
from unweave.progress import Progress, shown
from unweave.registry import CARRIES, Method, register

ATTRIBUTION_PATCHING = register(
    Method(
        "attribution patching",
        CARRIES,
        asked=lambda says, dims: f"{says['site']}: predicted by the gradient, direction {says['direction']}",
    )
)


def attribution_patch(
    pair: Contrast,
    sites: str | Sequence[str],
    over: Over = ("layer", "pos"),
    direction: str = "denoise",
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray | xr.Dataset:
    """Effects of patching single activations, predicted by the gradient.

    Args:
        pair: the model, both sets of prompts, and a metric with a gradient.
        sites, over, direction, memory, progress: as in `patch`.

    Returns:
        Predicted effects `[prompt, *over]`: an array for one site, a dataset for several, as `patch` gives them.

    Raises:
        InputError: a site, axis or coordinate that does not exist, or a metric without a gradient.
    """
    check_pair(pair)
    config, context = pair.model.config, context_of(pair, direction)
    grids = grids_over(config, pair.prompts, sites, over)
    check_foreseen(context, memory)
    changes = _predicted(context, list(grids.values()), memory, progress) / pair.gap
    arrays = {}
    for site, grid in grids.items():
        notes = shared_note(config, {site})
        says = {**measure_attrs("effect", direction), "quantity": "predicted effect", "site": site, "notes": notes}
        attrs = ATTRIBUTION_PATCHING.attrs(**says)
        arrays[site] = to_xarray(pair, grid.table(changes), grid.axes, attrs, context.recipient)
    return next(iter(arrays.values())) if isinstance(sites, str) else sites_to_xarray(arrays)


def _predicted(
    context: PatchContext, grids: Sequence[ResultGrid], memory: int | float | None, progress: Progress | bool | None
) -> Float[Tensor, "variant prompt"]:
    """The predicted change of every variant's score."""
    nodes = [node for grid in grids for patch in grid.patches for node in patch.members]
    keys: list[Key] = list(dict.fromkeys((node.site, node.layer) for node in nodes))
    n, config, weights = len(context.recipient), context.config, context.weights
    changes = context.baseline.new_zeros(sum(node.size for node in nodes), n)
    one = gradient_bytes(context) + 3 * recording_bytes(
        config, context.recipient.tokens.shape[1], keys, context.itemsize
    )
    with shown(progress, "attribution patching") as report:

        def run(prompts: range) -> None:
            found = gradients(context, prompts, keys)
            donor = context.donor.values(config, weights, keys, prompts)
            for node in nodes:
                key = (node.site, node.layer)
                product = (donor[key] - found.values[key]) * found.slopes[key]
                changes[node.variants, prompts.start : prompts.stop] = _at(node.of(prompts), product).to(changes.dtype)
            if report is not None:
                report(prompts.stop, n)

        in_portions(n, budget_bytes(memory, weights.w_e.device) // one, run)
    return changes


def _at(node: NodeGrid, product: Tensor) -> Float[Tensor, "variant prompt"]:
    """The products of change and gradient, summed over what each variant of a grid patches."""
    rows = SITES[node.site].rows
    if rows == "attention":
        x = product.transpose(1, 2)  # [prompt q_pos head k_pos]
    else:
        x = product[..., None] if rows == "neuron" else product.sum(-1)[..., None]
        x = x[..., None] if rows == "resid" else x  # [prompt pos part 1]
    x = x.sum(2, keepdim=True) if node.parts is None else x[:, :, list(node.parts)]
    prompt = torch.arange(len(x), device=x.device)
    # [place prompt part k_pos]
    x = x.sum(1)[None] if node.places is None else x[prompt, node.places.to(x.device)]
    if node.sources is None:
        x = x.sum(3, keepdim=True)
    else:
        x = x.gather(3, node.sources.to(x.device).T[None, :, None].expand(*x.shape[:3], -1))
    return x.permute(2, 0, 3, 1).flatten(0, 2)
