"""Path patching: how much a sender matters through chosen receivers, with every other path held as it was.

Wang et al. 2022 (arXiv 2211.00593), appendix B; Goldowsky-Dill et al. 2023 (arXiv 2304.05969). Conventions, all of
them named in the result:

- the direct path from sender to receiver goes through the residual stream and, with `mlps="live"`, through MLPs, but
  through no other head: the outputs `z` of all other heads are those of the recipient. `mlps="frozen"` leaves the
  direct edge alone;
- receivers of an earlier layer do not act on later ones while inputs are read;
- a receiver's key or value is that of its key and value head, which other query heads may share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.paths import PathSweep, Receivers, members_of
from unweave.engine.question import question_of
from unweave.engine.reach import entry_stage
from unweave.engine.sheet import Joint, Sheet
from unweave.errors import InputError, Interrupted
from unweave.methods.frame import labelled
from unweave.methods.patching import MEANING
from unweave.metrics.contrast import Contrast
from unweave.models.config import Config
from unweave.models.sites import SITES, check_head, check_layer, check_site
from unweave.progress import Progress, shown

if TYPE_CHECKING:
    import xarray as xr

Receiver = tuple[int, int, str] | str
Sender = str | tuple[int, int]
At = str | tuple[str | None, str | None] | None


def path_patch(
    pair: Contrast,
    receivers: str | Sequence[Receiver] = "logits",
    senders: str | Sequence[Sender | Sequence[Sender]] = "heads",
    at: At = None,
    direction: str = "noise",
    mlps: str = "live",
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Effects of senders along their direct paths to the receivers.

    Args:
        pair: the model, both sets of prompts, and the metric.
        receivers: `"logits"`, or inputs of heads and MLPs, patched together: `[(8, 6, "v"), (8, 10, "q"), "mlp 9"]`.
        senders: `"heads"` or `"mlps"`, each in turn; or a list of `(layer, head)`, `"9.6"`, `"mlp 3"`, `"embed"`, where
            a list inside the list is several senders at once.
        at: a role where senders send and receivers receive; `(sender's role, receivers' role)`, None in either place
        for
            all positions; None for all.
        direction: `"noise"` sends corrupted values in the clean run (0 = unharmed, -1 = as bad as corrupted),
        `"denoise"`
            clean values in the corrupted run (0 = corrupted, 1 = clean).
        mlps: `"live"` as in the paper, or `"frozen"`.
        memory, progress: as in `patch`.

    Returns:
        Effects `[prompt, layer, head]`, `[prompt, layer]` for `"mlps"`, or `[prompt, sender]` for a list. A sender that
        comes after all receivers has effect exactly 0.

    Raises:
        InputError: a receiver, sender or role that does not exist; receivers that no sender comes before.
        Interrupted: Ctrl-C; `partial` holds what was finished, NaN elsewhere.
    """
    config = pair.model.config
    if mlps not in ("live", "frozen"):
        raise InputError(f"mlps: expected 'live' or 'frozen', got {mlps!r}")
    sends, receives = at if isinstance(at, tuple) else (at, at)
    columns, receiving_mlps = _receivers(config, receivers)
    axes, sheets = _senders(pair, senders, None if sends is None else pair.prompts.role(sends).cpu()[None])
    at_logits = not columns and not receiving_mlps
    places = None if receives is None or at_logits else pair.prompts.role(receives).cpu()
    target = Receivers(columns, receiving_mlps, places)
    _check_order(config, sheets, target)
    question = question_of(pair, direction)
    with shown(progress, "path patching") as report:
        sweep = PathSweep(question, sheets, target, mlps == "live", memory, report)
        try:
            values, stopped = sweep.run(), False
        except KeyboardInterrupt:
            values, stopped = sweep.values, True
    result = _result(pair, axes, values, direction, _attrs(config, receivers, at, mlps))
    if stopped:
        raise Interrupted("interrupted; what was finished is in .partial", result)
    return result


def _result(
    pair: Contrast, axes: Mapping[str, Sequence], values: Float[Tensor, "variant prompt"], direction: str, attrs: dict
) -> xr.DataArray:
    effects = pair.effect(values.to(pair.clean.device), direction).T
    table = effects.reshape(len(pair.prompts), *(len(coords) for coords in axes.values()))
    attrs = {**attrs, "direction": direction, **MEANING[direction]}
    return labelled(pair, table, axes, attrs, pair.sides(direction)[0])


def _attrs(config: Config, receivers: str | Sequence[Receiver], at: At, mlps: str) -> dict[str, str]:
    listed = [receivers] if isinstance(receivers, str) else receivers
    names = ", ".join(r if isinstance(r, str) else f"{r[0]}.{r[1]} {r[2]}" for r in listed)
    grouped = config.grouped and any(not isinstance(r, str) and r[2] in ("k", "v") for r in listed)
    shared = f"each key and value head is shared by {config.heads_per_kv} query heads; all of them receive"
    sends, receives = at if isinstance(at, tuple) else (at, at)
    return {
        "method": "path patching",
        "quantity": "effect",
        "receivers": names,
        "sender_at": sends or "all positions",
        "receiver_at": receives or "all positions",
        "mlps": mlps,
        "attention": "frozen by z",
        "notes": shared if grouped else "",
    }


def _receivers(
    config: Config, receivers: str | Sequence[Receiver]
) -> tuple[dict[int, Int[Tensor, " column"]], tuple[int, ...]]:
    """Columns of the fused projection that receive, by layer, and layers whose MLP does; neither for the logits."""
    if isinstance(receivers, str):
        if receivers != "logits":
            raise InputError(f"receivers: expected 'logits' or a list such as [(8, 6, 'v')], got {receivers!r}")
        return {}, ()
    if not receivers:
        raise InputError("receivers: none was given; write 'logits' or [(8, 6, 'v')]")
    blocks: dict[int, set[int]] = {}
    mlps: set[int] = set()
    for receiver in receivers:
        if isinstance(receiver, str):
            mlps.add(_mlp_layer(config, receiver, "receivers"))
        else:
            layer, block = _block(config, *receiver)
            blocks.setdefault(layer, set()).add(block)
    e = config.d_head
    columns = {
        layer: torch.cat([torch.arange(block * e, (block + 1) * e) for block in sorted(chosen)])
        for layer, chosen in sorted(blocks.items())
    }
    return columns, tuple(sorted(mlps))


def _block(config: Config, layer: int, head: int, kind: str) -> tuple[int, int]:
    """A head's input as its layer and its place among the query, key and value heads of the fused projection."""
    if kind not in ("q", "k", "v"):
        raise InputError(f"receivers: a head's inputs are 'q', 'k' and 'v', got {kind!r}")
    check_head(config, SITES["q"], head)
    shared = head // config.heads_per_kv
    block = {"q": head, "k": config.n_heads + shared, "v": config.n_heads + config.n_kv_heads + shared}[kind]
    return check_layer(config, layer), block


def _mlp_layer(config: Config, name: str, argument: str) -> int:
    """The layer of `"mlp 3"`."""
    word, _, number = name.partition(" ")
    if word != "mlp" or not number.isdecimal():
        raise InputError(f"{argument}: {name!r} cannot be read; write (9, 6), 'mlp 3' or as the documentation shows")
    check_site(config, SITES["mlp_out"])
    return check_layer(config, int(number))


def _senders(
    pair: Contrast, senders: str | Sequence[Sender | Sequence[Sender]], places: Int[Tensor, "place prompt"] | None
) -> tuple[dict[str, Sequence], list[Sheet | Joint]]:
    """The result's axes, and the engine's senders."""
    config = pair.model.config
    layers = range(config.n_layers)
    if senders == "heads":
        heads = tuple(range(config.n_heads))
        sheets = [Sheet("z", layer, layer * config.n_heads, heads, places) for layer in layers]
        return {"layer": layers, "head": heads}, list(sheets)
    if senders == "mlps":
        check_site(config, SITES["mlp_out"])
        return {"layer": layers}, [Sheet("mlp_out", layer, layer, None, places) for layer in layers]
    if isinstance(senders, str) or not senders:
        raise InputError(f"senders: expected 'heads', 'mlps' or a list such as [(9, 6), 'mlp 3'], got {senders!r}")
    listed, names = [], []
    for number, sender in enumerate(senders):
        several = isinstance(sender, (list, tuple)) and not _is_head(sender)
        members = tuple(_sheet(config, one, places) for one in (sender if several else [sender]))  # type: ignore[union-attr]
        if not members:
            raise InputError("senders: a list of no sender")
        listed.append(Joint(tuple(sheet for sheet, _ in members), number))
        names.append(" + ".join(name for _, name in members))
    return {"sender": names}, listed


def _is_head(sender: object) -> bool:
    return isinstance(sender, tuple) and len(sender) == 2 and all(isinstance(n, int) for n in sender)


def _sheet(config: Config, sender: object, places: Tensor | None) -> tuple[Sheet, str]:
    """One sender's sheet and its name."""
    if sender == "embed":
        return Sheet("resid_pre", 0, 0, None, places), "embed"
    if isinstance(sender, str) and sender.startswith("mlp"):
        return Sheet("mlp_out", _mlp_layer(config, sender, "senders"), 0, None, places), sender
    if isinstance(sender, str) and sender.count(".") == 1 and sender.replace(".", "").isdecimal():
        layer, head = (int(number) for number in sender.split("."))
    elif isinstance(sender, tuple) and _is_head(sender):
        layer, head = int(sender[0]), int(sender[1])
    else:
        raise InputError(f"senders: {sender!r} is not a sender; write (9, 6), '9.6', 'mlp 3' or 'embed'")
    layer, head = check_layer(config, layer), check_head(config, SITES["z"], head)
    return Sheet("z", layer, 0, (head,), places), f"{layer}.{head}"


def _check_order(config: Config, senders: Sequence[Sheet | Joint], receivers: Receivers) -> None:
    """Raises InputError where no sender comes before any receiver."""
    if receivers.logits:
        return
    last = receivers.stages(config)[-1]
    earliest = min(entry_stage(config, sheet.site, sheet.layer) for sender in senders for sheet in members_of(sender))
    if earliest > last:
        raise InputError(
            f"receivers: the last of them is in layer {last // 2}, and every sender writes after it; "
            "give receivers in later layers, or earlier senders"
        )
