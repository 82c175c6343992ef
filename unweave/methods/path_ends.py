"""The ends of paths as users write them: senders, receivers, and where both stand, read into what the engine runs.

    receivers   "logits", or [(8, 1, "v"), "8.10 q", "mlp 9"]: inputs of heads and of MLPs, received together
    senders     "heads" or "mlps", each in turn, or [(9, 6), "9.6", "mlp 3", "embed", [(2, 2), (4, 11)]]: a list in
                the list, or "2.2 + 4.11", is sent together
    at          a role for both, (the senders' role, the receivers' role), or None for all positions

A single one may stand without its list. Keys and values are those of key/value heads, as wherever nodes are named.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.engine.context import entry_stage
from unweave.engine.patches import NodeGrid
from unweave.engine.paths import Receivers
from unweave.errors import InputError
from unweave.methods.targets import JointNodes, Nodes, ResultGrid, by_name, grid_of, joints_of
from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.models.sites import SITES, check_site
from unweave.nodes import Node

At = str | tuple[str | None, str | None] | None

RECEIVERS = ("q", "k", "v", "mlp_out")
SENDERS = ("z", "mlp_out", "embed")


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
