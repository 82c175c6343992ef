"""Direct attribution with and without some heads, and the backup heads that replace them.

Wang et al. 2022 (arXiv 2211.00593), section 3.4; McGrath et al. 2023 (arXiv 2307.15771). Steps:

1. The clean run is made as it is, and with the heads knocked out.
2. Each head's contribution to the logit difference is read off both, each with its own final norm's scale.
3. The part of the change due to the scale: what the heads' outputs of the second run contribute differently at
   the two scales: `after - after at the scale before`. The rest is heads that write something else.
4. A backup head is one whose rest is larger than a threshold and significantly different from 0 (adjusted for all heads
   that react), and that speaks for the answer afterwards.

The naive prediction of the logit difference without the heads is what it was, less their own attribution. It comes true
where nothing reacts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from unweave.engine.reading import read_at
from unweave.errors import InputError
from unweave.methods.attribution import by_head, reading_of
from unweave.methods.knockout import At, edits_of, keys_of, one_knockout, replaced, roles_of
from unweave.methods.replacement import Replacement, replacement_of, replacing, values_bytes
from unweave.methods.targets import JointNodes
from unweave.methods.to_xarray import Coords, array_of, to_xarray
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.forward import norm_scale
from unweave.models.precision import without_autocast
from unweave.models.prompts import Prompts
from unweave.nodes import Head, Node, head_name
from unweave.progress import Progress, part, shown
from unweave.registry import WITHOUT, Claim, Method, register
from unweave.results.summary import significant, summary

AFTER = register(
    Method(
        "knockout attribution",
        WITHOUT,
        quantity="logit difference",
        unit="logits",
        zero="contributes nothing to the answer",
        one="one logit towards the right answer",
        picture="unweave.views.knockouts:attribution_blocks",
        dims=("prompt", "run", "layer", "head"),
    )
)
BACKUPS = register(
    Method(
        "backup heads",
        WITHOUT,
        quantity="growth",
        unit="share of the clean logit difference",
        zero="no reaction",
        one="makes up for the whole logit difference",
        claim=Claim(
            does=("gains most", "gain most"),
            against="{name} loses most ({size})",
            none="No head's growth is significantly different from 0",
        ),
        picture="unweave.views.knockouts:backup_blocks",
        dims=("prompt", "layer", "head"),
        asked=lambda says, dims: replaced(says),
    )
)

RUNS = ("before", "after", "change", "from scale")


@without_autocast
def knockout_attribution(
    pair: Contrast,
    knocked_out: JointNodes,
    how: str | Replacement = "mean",
    at: At = None,
    source: str | Prompts | None = None,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Each head's contribution to the logit difference before and after a knockout, and what changed it.

    Args:
        pair: its clean prompts are read, at the metric's role.
        knocked_out: one knockout, together: `[(9, 9), "mlp 3"]` has neither head nor MLP.
        how, at, source: as in `knockout`.
        memory, progress: as in `patch`.

    Returns:
        Contributions in logits `[prompt, run, layer, head]`, where `run` is `before`, `after`, `change` (after less
        before), and `from scale`, the part of the change due to the final norm's scale. Coordinates:
        `scale_ratio[prompt]`, the scale after over the scale before; `total_before[prompt]` and `total_after[prompt]`,
        the logit differences.

    Raises:
        InputError: as `knockout`; prompts without answers or wrong answers.
    """
    check_pair(pair)
    fill = replacement_of(how, source)
    config = pair.model.config
    targets = one_knockout(config, knocked_out)
    values, note = replacing(pair, keys_of(config, targets), fill, memory)
    last, heads = ("resid_post", config.n_layers - 1), [("z", layer) for layer in range(config.n_layers)]
    with shown(progress, "reading") as report:
        whole, without = (
            read_at(
                pair.model,
                pair.prompts,
                [*heads, last],
                pair.prompts.role(pair.metric.role),
                memory,
                part(report, number, 2),
                edits=edits,
                extra=0 if edits is None else values_bytes(pair, keys_of(config, targets)),
            )
            for number, edits in enumerate([None, lambda rows: edits_of(pair, targets, values(rows), at, rows)])
        )
    readings = [reading_of(pair.model, x[last], pair.prompts) for x in (whole, without)]
    before, after, at_scale_before = (
        torch.stack([by_head(pair.model, reading, x[key], key[1]) for key in heads], dim=1)
        for reading, x in ((readings[0], whole), (readings[1], without), (readings[0], without))
    )
    table = torch.stack([before, after, after - before, after - at_scale_before], dim=1)
    scales = [norm_scale(config, x[last])[:, 0] for x in (whole, without)]
    totals = [reading.of(x[last]) + reading.constant for reading, x in zip(readings, (whole, without), strict=True)]
    by_prompt = {"scale_ratio": scales[1] / scales[0], "total_before": totals[0], "total_after": totals[1]}
    extra: Coords = {name: (("prompt",), array_of(value)) for name, value in by_prompt.items()}
    attrs = AFTER.attrs(
        knocked_out=[str(node) for node in targets], **fill.attrs, at=list(roles_of(pair, at)), notes=note
    )
    axes = {"run": RUNS, "layer": range(config.n_layers), "head": range(config.n_heads)}
    return to_xarray(pair, table, axes, attrs, extra=extra)


def backup_heads(
    pair: Contrast,
    knocked_out: JointNodes,
    how: str | Replacement = "mean",
    at: At = None,
    threshold: float = 0.02,
    source: str | Prompts | None = None,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Heads that speak more for the answer when others are knocked out.

    Args:
        pair, how, at, source: as in `knockout`.
        knocked_out: the heads that are knocked out together, name movers as a rule: one knockout.
        threshold: the mean growth of a backup head, as a share of the clean logit difference.
        memory, progress: as in `patch`.

    Returns:
        Growth `[prompt, layer, head]`: what each head's contribution gained, without the part that the final norm's
        scale makes, over the size of the mean clean logit difference; 0 for the heads that are out. The attributes
        `backups` and `weakened` name the heads that grew above the threshold, significantly, and speak for the answer,
        or still against it.
        Coordinates, in logits, by prompt: `own` (attribution of the heads that are out), `naive` (the logit difference
        less `own`), `without` (the real logit difference without them); `total` is the logit difference itself.

    Raises:
        InputError: as `knockout`, or a clean logit difference of 0 on average.
    """
    check_pair(pair)
    out = [_head(target) for target in one_knockout(pair.model.config, knocked_out)]
    parts = knockout_attribution(pair, out, how, at, source, memory, progress)
    total = parts.coords["total_before"]
    growth = growth_of(parts, out)
    before, after = (parts.sel(run=run, drop=True) for run in ("before", "after"))
    own = sum(before.sel(layer=layer, head=head, drop=True) for layer, head in out)
    grew = (growth.mean("prompt").values > threshold) & significant(summary(growth))
    speaks = after.mean("prompt").values > 0
    growth.attrs |= BACKUPS.attrs(
        share_of="total", threshold=threshold, backups=_names(grew & speaks), weakened=_names(grew & ~speaks)
    )
    rows = {"own": own, "naive": total - own, "without": parts.coords["total_after"], "total": total}
    growth = growth.drop_vars(["total_before", "total_after"])
    return growth.assign_coords({name: ("prompt", np.asarray(row)) for name, row in rows.items()})


def growth_of(parts: xr.DataArray, out: Sequence[Head]) -> xr.DataArray:
    """Growth `[prompt, layer, head]` from a `knockout_attribution`; 0 for the heads that are out.

    Raises:
        InputError: a clean logit difference of 0 on average.
    """
    scale = abs(float(parts.coords["total_before"].mean()))
    if not scale > 0:
        raise InputError("pair: the clean logit difference is 0 on average, so a growth has no scale")
    growth = (parts.sel(run="change", drop=True) - parts.sel(run="from scale", drop=True)) / scale
    for layer, head in out:
        growth.loc[{"layer": layer, "head": head}] = 0.0
    return growth.assign_attrs(parts.attrs)


def _head(node: Node) -> Head:
    """The head of a node. Raises InputError for what is none."""
    if node.site not in ("z", "result"):
        raise InputError(f"knocked_out: backup heads are those of heads, got {str(node)!r}; give heads: ['9.9']")
    return node.head


def _names(chosen: np.ndarray) -> list[str]:
    return [head_name((layer, head)) for layer, head in np.argwhere(chosen).tolist()]
