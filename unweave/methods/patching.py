"""Activation patching: one activation of the donor is put into the recipient's run, and the answer is scored again.

Meng et al. 2022 (arXiv 2202.05262), Wang et al. 2022 (arXiv 2211.00593); for what the two directions mean,
Heimersheim and Nanda 2024 (arXiv 2404.15255). Steps:

1. Each site's axes, or the nodes that are listed, become a grid of patched runs (`unweave.methods.targets`).
2. The engine scores every variant of every prompt (`unweave.engine.executor`).
3. Scores become effects on the scale of the two baselines (`unweave.metrics.contrast`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

import xarray as xr

from unweave.engine.context import context_of
from unweave.engine.executor import Scores, execute
from unweave.engine.patches import patch_runs
from unweave.errors import InputError
from unweave.methods.effect_scale import EFFECT, MEANING
from unweave.methods.targets import JointNodes, Over, ResultGrid, grid_of, grids_over, joints_of, shared_note
from unweave.methods.to_xarray import finished, sites_to_xarray, to_xarray
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.sites import PATCHABLE
from unweave.nodes import joint_name
from unweave.progress import Progress
from unweave.registry import CARRIES, Claim, Method, register

PATCHING = register(
    Method(
        "activation patching",
        CARRIES,
        claim=Claim(
            does=("carries the answer", "carry the answer"),
            change=("{act} {its}", "{act} {their}"),
            restored=("patching", "restores"),
            corrupted=("noising", "costs"),
            against="{name} works against it ({size})",
            none="No single {noun} carries the answer",
        ),
        direction="denoise",
        answers={"resid_pre": "where it sits", "z": "carried by"},
        asked=lambda says, dims: _asked(says),
    )
)


@overload
def patch(
    pair: Contrast,
    sites: str,
    over: Over = ...,
    direction: str = ...,
    memory: int | float | None = ...,
    progress: Progress | bool | None = ...,
) -> xr.DataArray: ...


@overload
def patch(
    pair: Contrast,
    sites: Sequence[str],
    over: Over = ...,
    direction: str = ...,
    memory: int | float | None = ...,
    progress: Progress | bool | None = ...,
) -> xr.Dataset: ...


def patch(
    pair: Contrast,
    sites: str | Sequence[str],
    over: Over = ("layer", "pos"),
    direction: str = "denoise",
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray | xr.Dataset:
    """Effects of patching single activations.

    Args:
        pair: the model, both sets of prompts, and the metric.
        sites: one site, or several: `resid_pre resid_mid resid_post attn_out mlp_out z q k v pattern mlp_post`.
        over: axes, such as `("layer", "pos")`, `("layer", "role")`, `("layer", "head")`, `("layer", "head", "pos")`,
            `("layer", "head", "q_pos", "k_pos")` for patterns, `("layer", "neuron")` for `mlp_post`; or a mapping from
            axis to the coordinates wanted, `{"layer": [20, 21], "neuron": [5, 17]}`. What is not an axis is patched as
            a whole: without `pos` at all positions, without `head` all heads together.
        direction: `"denoise"` puts clean values into the corrupted run (0 = corrupted, 1 = clean), `"noise"` corrupted
            values into the clean run (0 = unharmed, -1 = as bad as corrupted).
        memory: bytes (int), or a share of the free memory (float up to 1.0), that the sweep may hold beyond the model.
        progress: called with (done, total); None shows a bar on a terminal, False nothing.

    Returns:
        Effects `[prompt, *over]`: an array for one site, a dataset for several. Grouped keys and values have the axis
        `kv_head`. A patch that cannot matter has effect exactly 0, and so has one whose value is, bit for bit, the one
        that it replaces. If the two differ by rounding errors only, the effect is a number of the size of rounding
        errors, which may be 0. NaN stands at positions beyond a prompt's end, and if the metric is NaN for the patched
        run: the attribute `notes` says of how many.

    Raises:
        InputError: a site, axis or coordinate that does not exist.
        Interrupted: Ctrl-C; `partial` holds the effects that were finished, NaN elsewhere.
    """
    check_pair(pair)
    config, grids = pair.model.config, grids_over(pair.model.config, pair.prompts, sites, over)
    patches = [patch for grid in grids.values() for patch in grid.patches]
    scores = execute(patch_runs(context_of(pair, direction), patches), memory, progress, "patching")
    arrays = {
        site: _array(pair, grid, scores, direction, site, [shared_note(config, {site}), scores.note(grid.variants)])
        for site, grid in grids.items()
    }
    result = next(iter(arrays.values())) if isinstance(sites, str) else sites_to_xarray(arrays)
    return finished(result, scores.stopped)


def patch_at(
    pair: Contrast,
    addresses: JointNodes,
    direction: str = "denoise",
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Effects of a list of patches, wherever they are.

    Args:
        pair: the model, both sets of prompts, and the metric.
        addresses: each a node, `"z 23.3"` (a head), `"resid_pre 5 @S2"` (a layer at a role), `"q 9.6 @12"` (at a
            position, counted from 0), `"v 20.1"` (a key/value head); or several that are patched together: a list in
            the list, or `"z 9.6 + z 9.9"`. Rows of `uw.top` are patched where they stand.
        direction, memory, progress: as in `patch`.

    Returns:
        Effects `[prompt, address]`; NaN where a prompt does not have the position, as in `patch`.

    Raises:
        InputError: a node that does not exist.
        Interrupted: Ctrl-C; `partial` holds what was finished.
    """
    check_pair(pair)
    config = pair.model.config
    joints = joints_of(config, addresses, "addresses", PATCHABLE)
    if not joints or not all(joints):
        raise InputError("addresses: none was given; write ['z 23.3', 'resid_pre 5 @S2']")
    numbered = {str(number): nodes for number, nodes in enumerate(joints)}  # one may stand twice
    patches = grid_of(config, pair.prompts, numbered).patches
    grid = ResultGrid({"address": [joint_name(nodes) for nodes in joints]}, patches)
    scores = execute(patch_runs(context_of(pair, direction), patches), memory, progress, "patching")
    notes = [shared_note(config, {node.site for nodes in joints for node in nodes}), scores.note()]
    ends = pair.sides(direction)[0].prompts.lengths.cpu()
    for patch in patches:  # a position that a prompt does not have
        for node in patch.members:
            if node.places is not None:
                scores.values[patch.offset, node.places[0] >= ends] = float("nan")
    return finished(_array(pair, grid, scores, direction, "addresses", notes), scores.stopped)


def _array(
    pair: Contrast, grid: ResultGrid, scores: Scores, direction: str, site: str, notes: Sequence[str]
) -> xr.DataArray:
    """The effects of a grid's runs."""
    effects = pair.effect(scores.values.to(pair.clean_scores.device), direction)
    about = {
        "direction": direction,
        **EFFECT,
        **MEANING[direction],
        "site": site,
        "notes": "; ".join(filter(None, notes)),
    }
    return to_xarray(pair, grid.table(effects), grid.axes, PATCHING.attrs(**about), pair.sides(direction)[0].prompts)


def _asked(says: Mapping[str, str]) -> str:
    """How it was asked, in a line."""
    ways = {"denoise": "clean values in the corrupted run", "noise": "corrupted values in the clean run"}
    what = "" if says["site"] == "addresses" else f"{says['site']}: "
    return f"{what}{ways[says['direction']]}"
