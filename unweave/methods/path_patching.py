"""Path patching: how much a sender matters through chosen receivers, with every other path held as it was.

Wang et al. 2022 (arXiv 2211.00593), appendix B; Goldowsky-Dill et al. 2023 (arXiv 2304.05969). Steps:

1. The ends are read into senders and receivers. Both are written as nodes are wherever they are named:

       receivers   "logits", or [(8, 1, "v"), "8.10 q", "mlp 9"]: inputs of heads and of MLPs, received together
       senders     "heads" or "mlps", each in turn, or [(9, 6), "9.6", "mlp 3", "embed", [(2, 2), (4, 11)]]: a list in
                   the list, or "2.2 + 4.11", is sent together
       at          a role for both, (the senders' role, the receivers' role), or None for all positions
2. The engine carries each sender's change to the receivers with all else frozen, reads their inputs, and runs the
   recipient again with these in place (`unweave.engine.paths`).
3. Scores become effects, or what `measure` asks for (`unweave.methods.effect_scale`).

Conventions differ, and are named in the result:

- the direct path from sender to receiver goes through the residual stream and, with `mlps="live"`, through MLPs, but
  through no other head. `mlps="frozen"` leaves only the direct edge, whether an MLP receives or not;
- `attention="z"` (the paper) holds the outputs `z` of all other heads at the recipient's. Receivers of an earlier layer
  do not act on later ones while inputs are read;
- `attention="qkv"` holds the queries, keys and values of all heads, except those that receive. What a receiving head
  reads changes its `z`, at all positions, and acts on receivers of later layers. Where all receiving heads stand in one
  layer, and no MLP after them receives, both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from unweave.engine.context import context_of, entry_stage
from unweave.engine.executor import execute
from unweave.engine.patches import NodeGrid
from unweave.engine.paths import Receivers, path_runs
from unweave.errors import InputError
from unweave.methods.effect_scale import check_measure, measure_attrs, normalize
from unweave.methods.targets import JointNodes, Nodes, ResultGrid, by_name, grid_of, joints_of, shared_note
from unweave.methods.to_xarray import finished, to_xarray
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.models.sites import SITES, check_site
from unweave.nodes import Node
from unweave.progress import Progress
from unweave.registry import THROUGH, Claim, Method, register

PATHS = register(
    Method(
        "path patching",
        THROUGH,
        claim=Claim(
            does=("acts {how}", "act {how}"),
            change=("{act} this path", "{act} these paths"),
            restored=("restoring", "brings back"),
            corrupted=("noising", "costs"),
            against="{name} works against it {through} ({size})",
            none="No {noun} acts {how}",
        ),
        asked=lambda says, dims: _asked(says, dims),
    )
)

At = str | tuple[str | None, str | None] | None

RECEIVERS = ("q", "k", "v", "mlp_out")
SENDERS = ("z", "mlp_out", "embed")
ATTENTION = {"z": "frozen by z", "qkv": "frozen by q k v outside the receivers"}


@dataclass(frozen=True)
class Convention:
    """What is frozen while a change is on its way, which run it is sent into, and the scale of the outcome."""

    direction: str = "noise"
    mlps: str = "live"
    attention: str = "z"
    measure: str = "effect"

    def check(self, pair: Contrast) -> None:
        """Raises InputError for a word that is not among those offered."""
        if self.mlps not in ("live", "frozen"):
            raise InputError(f"mlps: expected 'live' or 'frozen', got {self.mlps!r}")
        if self.attention not in ATTENTION:
            raise InputError(f"attention: expected one of {', '.join(ATTENTION)}, got {self.attention!r}")
        pair.sides(self.direction)
        check_measure(pair, self.measure, self.direction)

    def attrs(self) -> dict[str, str]:
        """As the result says it."""
        frozen = {"mlps": self.mlps, "attention": ATTENTION[self.attention]}
        return {**frozen, **measure_attrs(self.measure, self.direction)}


def path_patch(
    pair: Contrast,
    receivers: Nodes = "logits",
    senders: JointNodes = "heads",
    at: At = None,
    *,
    direction: str = "noise",
    mlps: str = "live",
    attention: str = "z",
    measure: str = "effect",
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """Effects of senders along their direct paths to the receivers.

    Args:
        pair: the model, both sets of prompts, and the metric.
        receivers: `"logits"`, or inputs of heads and MLPs, patched together: `[(8, 1, "v"), "8.10 q", "mlp 9"]`. Of
            `"k"` and `"v"` the number is a key/value head's, which several query heads may share.
        senders: `"heads"` or `"mlps"`, each in turn; or one or a list of `(layer, head)`, `"9.6"`, `"mlp 3"`,
            `"embed"`, where a list inside the list is several senders at once.
        at: a role where senders send and receivers receive; `(sender's role, receivers' role)`, None in either place
            for all positions; None for all. The logits are read where the metric reads.
        direction: `"noise"` sends corrupted values in the clean run (0 = unharmed, -1 = as bad as corrupted),
            `"denoise"` clean values in the corrupted run (0 = corrupted, 1 = clean).
        mlps: `"live"` as in the paper, or `"frozen"`.
        attention: frozen by `"z"` as in the paper, or by `"qkv"` outside the receivers, which then act on each other.
        measure: `"effect"`: (m - own) / (mean clean - mean corrupted); `"drop"`: (m - clean) / mean clean, -1 nothing
            left; `"change"`: m - own, in the metric's unit; `own` is the score of the run that is patched.
        memory, progress: as in `patch`.

    Returns:
        `[prompt, layer, head]`, `[prompt, layer]` for `"mlps"`, or `[prompt, sender]` for a list. A sender that comes
        after all receivers has effect exactly 0; so has one whose value is, bit for bit, the one that it replaces, and
        one that reaches no receiver that leads to where the metric reads. If values differ by rounding errors only, the
        effect is a number of the size of rounding errors, which may be 0. NaN is the metric's own, and `notes` says of
        how many runs.

    Raises:
        InputError: a receiver, sender, role or option that does not exist, an end named twice, receivers that no sender
            comes before.
        Interrupted: Ctrl-C; `partial` holds what was finished, NaN elsewhere.
    """
    check_pair(pair)
    convention = Convention(direction, mlps, attention, measure)
    convention.check(pair)
    config, (sends, receives) = pair.model.config, roles_at(at)
    ends, grid = receivers_of(config, receivers), senders_of(config, pair.prompts, senders, sends)
    places = None if receives is None else pair.prompts.role(receives).cpu()
    target = receiving(config, ends, places, live=convention.attention == "qkv")
    check_order(config, grid, target)
    runs = path_runs(context_of(pair, direction), grid.patches, target, mlps == "live")
    scores = execute(runs, memory, progress, "path patching")
    receiver_at = receives if ends else pair.metric.role
    roles = {"sender_at": sends or "all positions", "receiver_at": receiver_at or "all positions"}
    shared = shared_note(config, {node.site for node in ends})
    notes = "; ".join(filter(None, [shared, scores.note()]))
    attrs = {**roles, "receivers": [str(node) for node in ends] or ["logits"], "notes": notes}
    return finished(_result(pair, grid, scores.values, convention, attrs), scores.stopped)


def _result(
    pair: Contrast,
    grid: ResultGrid,
    values: Float[Tensor, "variant prompt"],
    convention: Convention,
    attrs: Mapping[str, str | list[str]],
) -> xr.DataArray:
    numbers = normalize(pair, values.to(pair.clean_scores.device), convention.direction, convention.measure)
    about = PATHS.attrs(**{**attrs, **convention.attrs()})
    return to_xarray(pair, grid.table(numbers), grid.axes, about, pair.sides(convention.direction)[0].prompts)


def _asked(says: Mapping[str, str], dims: tuple[str, ...]) -> str:
    """How it was asked, in a line."""
    sent = "" if "sender" in dims else "from every head " if "head" in dims else "from every MLP "
    places = f"sent at {says['sender_at']}, received at {says['receiver_at']}"
    return f"{sent}to {says['receivers']}; {places}; MLPs {says['mlps']}, attention {says['attention']}"


def roles_at(at: object) -> tuple[str | None, str | None]:
    """The senders' role and the receivers'. Raises InputError for anything but a role, a pair of them, or None."""
    if at is None or isinstance(at, str):
        return at, at
    if isinstance(at, tuple) and len(at) == 2 and all(role is None or isinstance(role, str) for role in at):
        return at[0], at[1]
    raise InputError(f"at: expected a role, or (senders' role, receivers' role), got {at!r}")


def receivers_of(config: Config, receivers: Nodes) -> tuple[Node, ...]:
    """The receivers in the order given; none for the logits.

    Raises:
        InputError: a receiver that does not exist, cannot be read, or is named twice.
    """
    if isinstance(receivers, str) and receivers == "logits":
        return ()
    if isinstance(receivers, str) and not any(letter.isdecimal() for letter in receivers):
        raise InputError(f"receivers: expected 'logits' or a list such as [(8, 6, 'v')], got {receivers!r}")
    joints = joints_of(config, receivers, "receivers", RECEIVERS)
    found = tuple(node for nodes in by_name(config, joints, "receivers").values() for node in nodes)
    whole = next((node for node in found if node.part is None and node.site != "mlp_out"), None)
    if whole is not None:
        raise InputError(f"receivers: {str(whole)!r} names no head; write '{whole}.0'")
    return found


def receiving(
    config: Config, receivers: Sequence[Node], places: Int[Tensor, " prompt"] | None, live: bool
) -> Receivers:
    """What the engine reads and replaces: columns of the fused projection by layer, and layers of MLPs."""
    before = {"q": 0, "k": config.n_heads, "v": config.n_heads + config.n_kv_heads}
    blocks: dict[int, set[int]] = {}
    for node in receivers:
        if node.part is not None:
            blocks.setdefault(node.layer, set()).add(before[node.site] + node.part)
    e = config.d_head
    columns = {
        layer: torch.cat([torch.arange(block * e, (block + 1) * e) for block in sorted(chosen)])
        for layer, chosen in sorted(blocks.items())
    }
    mlps = tuple(sorted(node.layer for node in receivers if node.part is None))
    return Receivers(columns, mlps, places if receivers else None, live)


def senders_of(config: Config, prompts: Prompts, senders: JointNodes, role: str | None) -> ResultGrid:
    """The senders, all at one role.

    Raises:
        InputError: a sender that does not exist, cannot be read, or is named twice.
    """
    layers = range(config.n_layers)
    if isinstance(senders, str) and senders in ("heads", "mlps"):
        places = None if role is None else prompts.role(role).cpu()[None]
        if senders == "mlps":
            check_site(config, SITES["mlp_out"])
            return ResultGrid({"layer": layers}, tuple(NodeGrid("mlp_out", n, n, None, places) for n in layers))
        heads = tuple(range(config.n_heads))
        patches = tuple(NodeGrid("z", n, n * len(heads), heads, places) for n in layers)
        return ResultGrid({"layer": layers, "head": heads}, patches)
    if isinstance(senders, str) and senders != "embed" and not any(letter.isdecimal() for letter in senders):
        raise InputError(f"senders: expected 'heads', 'mlps' or a list such as [(9, 6), 'mlp 3'], got {senders!r}")
    named = by_name(config, joints_of(config, senders, "senders", SENDERS), "senders")
    named = {" + ".join(node.short for node in nodes): nodes for nodes in named.values()}
    return grid_of(config, prompts, named, () if role is None else (role,), axis="sender")


def check_order(config: Config, senders: ResultGrid, receivers: Receivers) -> None:
    """Raises InputError where no sender comes before any receiver."""
    if receivers.logits:
        return
    last = receivers.stages(config)[-1]
    members = [patch for sender in senders.patches for patch in sender.members]
    if min(entry_stage(config, patch.site, patch.layer) for patch in members) > last:
        raise InputError(
            f"receivers: the last of them is in layer {last // 2}, and every sender writes after it; "
            "give receivers in later layers, or earlier senders"
        )
