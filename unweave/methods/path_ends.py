"""The ends of paths as users write them: senders, receivers, and where both stand, read into what the engine runs.

    receivers   "logits", or [(8, 1, "v"), "8.10 q", "mlp 9"]: inputs of heads and of MLPs, received together
    senders     "heads" or "mlps", each in turn, or [(9, 6), "9.6", "mlp 3", "embed", [(2, 2), (4, 11)]]: a list in
                the list, or "2.2 + 4.11", is sent together

A single one may stand without its list.
    at          a role for both, (the senders' role, the receivers' role), or None for all positions

Keys and values are those of key/value heads, as wherever sites are named: `(8, 1, "v")` is the value that query heads
3 to 5 read where each three share one. Such a receiver is called `8.kv1 v`, and may be written so.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.engine.context import entry_stage
from unweave.engine.grid import JointPatch, NodeGrid
from unweave.engine.receivers import Receivers
from unweave.errors import InputError
from unweave.methods.heads import HeadName, head_name_at, is_head, is_head_name, parse_head, written
from unweave.metrics.contrast import Contrast
from unweave.models.config import Config
from unweave.models.sites import SITES, check_layer, check_site
from unweave.results.top import Top

Receiver = tuple[int, int, str] | str
Sender = HeadName
At = str | tuple[str | None, str | None] | None
Places = Int[Tensor, " prompt"]

INPUTS = ("q", "k", "v")


def roles_at(at: object) -> tuple[str | None, str | None]:
    """The senders' role and the receivers'. Raises InputError for anything but a role, a pair of them, or None."""
    if at is None or isinstance(at, str):
        return at, at
    if isinstance(at, tuple) and len(at) == 2 and all(role is None or isinstance(role, str) for role in at):
        return at[0], at[1]
    raise InputError(f"at: expected a role, or (senders' role, receivers' role), got {at!r}")


def places_of(pair: Contrast, role: str | None) -> Places | None:
    """Where a role stands in each prompt; None for all positions. Raises InputError for a role that the task lacks."""
    return None if role is None else pair.prompts.role(role).cpu()


def named_receivers(config: Config, receivers: str | Sequence[object] | Top) -> dict[str, Receiver]:
    """Each receiver by its name, `"8.6 q"`, `"8.kv1 v"` or `"mlp 9"`; none for the logits.

    Raises:
        InputError: a receiver that does not exist, cannot be read, or is named twice.
    """
    if isinstance(receivers, str):
        if receivers == "logits":
            return {}
        if " " not in receivers:
            raise InputError(f"receivers: expected 'logits' or a list such as [(8, 6, 'v')], got {receivers!r}")
    if not receivers:
        raise InputError("receivers: none was given; write 'logits' or [(8, 6, 'v')]")
    named: dict[str, Receiver] = {}
    for given in [receivers] if isinstance(receivers, str) or _is_input(receivers) else receivers:
        name, receiver = _receiver(config, written(given))
        if name in named:
            raise InputError(f"receivers: {name!r} is named twice")
        named[name] = receiver
    return named


def receiving(config: Config, receivers: Sequence[Receiver], places: Places | None, live: bool) -> Receivers:
    """What the engine reads and replaces: columns of the fused projection by layer, and layers of MLPs."""
    blocks: dict[int, set[int]] = {}
    mlps = [int(receiver.split()[1]) for receiver in receivers if isinstance(receiver, str)]
    for receiver in receivers:
        if not isinstance(receiver, str):
            blocks.setdefault(receiver[0], set()).add(_block(config, *receiver[1:]))
    e = config.d_head
    columns = {
        layer: torch.cat([torch.arange(block * e, (block + 1) * e) for block in sorted(chosen)])
        for layer, chosen in sorted(blocks.items())
    }
    return Receivers(columns, tuple(sorted(mlps)), places if receivers else None, live)


def sending(
    config: Config, senders: Sender | Sequence[Sender | Sequence[Sender]] | Top, places: Places | None
) -> tuple[dict[str, Sequence], list[NodeGrid | JointPatch]]:
    """The result's axes, and the engine's senders.

    Raises:
        InputError: a sender that does not exist, cannot be read, or is named twice.
    """
    layers, sent_at = range(config.n_layers), None if places is None else places[None]
    if senders == "heads":
        heads = tuple(range(config.n_heads))
        return {"layer": layers, "head": heads}, [
            NodeGrid("z", layer, layer * config.n_heads, heads, sent_at) for layer in layers
        ]
    if senders == "mlps":
        check_site(config, SITES["mlp_out"])
        return {"layer": layers}, [NodeGrid("mlp_out", layer, layer, None, sent_at) for layer in layers]
    single = is_head(senders) or (isinstance(senders, str) and (senders == "embed" or senders[-1:].isdecimal()))
    if not senders or (isinstance(senders, str) and not single):
        raise InputError(f"senders: expected 'heads', 'mlps' or a list such as [(9, 6), 'mlp 3'], got {senders!r}")
    listed: dict[str, NodeGrid | JointPatch] = {}
    each: Sequence[object] = [senders] if single else senders  # pyright: ignore[reportAssignmentType]
    for sender in each:
        name, members = _together(config, written(sender), sent_at)
        if name in listed:
            raise InputError(f"senders: {name!r} is named twice")
        listed[name] = JointPatch(members, len(listed))
    return {"sender": list(listed)}, list(listed.values())


def check_order(config: Config, senders: Sequence[NodeGrid | JointPatch], receivers: Receivers) -> None:
    """Raises InputError where no sender comes before any receiver."""
    if receivers.logits:
        return
    last = receivers.stages(config)[-1]
    earliest = min(entry_stage(config, sheet.site, sheet.layer) for sender in senders for sheet in sender.members)
    if earliest > last:
        raise InputError(
            f"receivers: the last of them is in layer {last // 2}, and every sender writes after it; "
            "give receivers in later layers, or earlier senders"
        )


def _receiver(config: Config, given: object) -> tuple[str, Receiver]:
    """One receiver's name, and the receiver with its layer counted from the start."""
    if isinstance(given, str) and not set(given.split()) & set(INPUTS):
        layer = _mlp_layer(config, given, "receivers")
        return f"mlp {layer}", f"mlp {layer}"
    head, kind = _input(given)
    if kind not in INPUTS:
        raise InputError(f"receivers: a head's inputs are 'q', 'k' and 'v', got {kind!r}")
    layer, number = parse_head(config, head, kind)
    return f"{head_name_at(config, kind, (layer, number))} {kind}", (layer, number, kind)


def _input(given: Any) -> tuple[Any, str]:
    """Head and input of `(8, 6, "v")`, of `"8.6 v"`, as results say it, or of `"v 8.6"`, as addresses are written."""
    if isinstance(given, str) and len(given.split()) == 2:
        first, second = given.split()
        return (second, first) if first in INPUTS else (first, second)
    if not _is_input(given):
        raise InputError(f"receivers: {given!r} is not a receiver; write (8, 6, 'v') or 'mlp 9'")
    layer, number, kind = given
    return (layer, number), kind


def _is_input(given: object) -> bool:
    return isinstance(given, (list, tuple)) and len(given) == 3 and is_head(given[:2]) and isinstance(given[2], str)


def _block(config: Config, head: int, kind: str) -> int:
    """The place of a head's input among the query, key and value heads of the fused projection."""
    return {"q": 0, "k": config.n_heads, "v": config.n_heads + config.n_kv_heads}[kind] + head


def _mlp_layer(config: Config, name: str, argument: str) -> int:
    """The layer of `"mlp 3"`."""
    word, _, number = name.partition(" ")
    if word != "mlp" or not number.isdecimal():
        other = "(8, 6, 'v')" if argument == "receivers" else "(9, 6), '9.6', 'embed'"
        raise InputError(f"{argument}: {name!r} cannot be read; write {other} or 'mlp 3'")
    check_site(config, SITES["mlp_out"])
    return check_layer(config, int(number))


def _together(config: Config, sender: Any, places: Int[Tensor, "1 prompt"] | None) -> tuple[str, tuple[NodeGrid, ...]]:
    """The name and the sheets of one sender, or of several that are sent at once."""
    if isinstance(sender, str) and "+" in sender:
        sender = [part.strip() for part in sender.split("+")]
    several = isinstance(sender, (list, tuple)) and not is_head(sender)
    members: dict[str, NodeGrid] = {}
    for one in sender if several else [sender]:
        name, sheet = _sheet(config, one, places)
        if name in members:
            raise InputError(f"senders: {name!r} is named twice")
        members[name] = sheet
    if not members:
        raise InputError("senders: a list of no sender")
    return " + ".join(members), tuple(members.values())


def _sheet(config: Config, sender: Any, places: Int[Tensor, "1 prompt"] | None) -> tuple[str, NodeGrid]:
    """One sender's name and sheet."""
    if sender == "embed":
        return "embed", NodeGrid("resid_pre", 0, 0, None, places)
    if isinstance(sender, str) and sender.startswith("mlp"):
        layer = _mlp_layer(config, sender, "senders")
        return f"mlp {layer}", NodeGrid("mlp_out", layer, 0, None, places)
    if not is_head(sender) and not (isinstance(sender, str) and is_head_name(sender)):
        raise InputError(f"senders: {sender!r} is not a sender; write (9, 6), '9.6', 'mlp 3' or 'embed'")
    layer, head = parse_head(config, sender)  # pyright: ignore[reportArgumentType]
    return f"{layer}.{head}", NodeGrid("z", layer, 0, (head,), places)
