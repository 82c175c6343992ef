"""How the values of options are read: sizes, axes, lists of places. What a model has to know is checked later."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from unweave.errors import InputError

V = TypeVar("V")
Receiver = tuple[int, int, str] | str
Sender = str | tuple[str, ...]

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_BY_HEAD = {"z", "q", "k", "v", "pattern"}
_RECEIVERS = "write logits, or inputs of heads and MLPs, such as '8.1 v, 8.10 q, mlp 9'"
_SENDERS = "write heads, mlps, or a list such as '9.6, mlp 3, embed', with 9.6+9.9 for two that send together"
_HEAD, _MLP = r"\d+\.\d+", r"mlp \d+"
_INPUT = rf"{_HEAD} q|\d+\.(kv)?\d+ [kv]"


def memory(text: str | None) -> int | float | None:
    """`--memory`: `2GB` and `500000000` as bytes, `0.3` as a share. Raises InputError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]b)?", text.strip().lower())
    if not found:
        raise InputError(f"--memory: expected bytes, a size such as 2GB, or a share such as 0.3, got {text!r}")
    number, unit = found[1], found[2] or ""
    return float(number) if "." in number and not unit else int(float(number) * _UNITS[unit])


def are_addresses(sites: Sequence[str]) -> bool:
    """Whether single places are named and not whole sites. Raises InputError for neither, both, and what is twice."""
    from unweave.methods.address import Address
    from unweave.models.sites import parse_site

    single = [" " in site.strip() for site in sites]
    for place in (part for site in sites for part in site.split("+")):
        parse_site(Address.parse(place).site if any(single) else place)
    _check_once([" ".join(site.split()) for site in sites], "sites")
    return any(single)


def axes(over: str | None, sites: Sequence[str]) -> tuple[str, ...]:
    """`--over`: axis names between commas; layers by heads for what heads have, layers by roles for the rest."""
    if over is None:
        return ("layer", "head") if {site.rpartition("hook_")[2] for site in sites} <= _BY_HEAD else ("layer", "role")
    return names(over, "--over")


def names(text: str, option: str) -> tuple[str, ...]:
    """Names between commas, with one space inside them. Raises InputError for none, and for one that stands twice."""
    found = tuple(" ".join(part.split()) for part in text.split(","))
    if not all(found):
        raise InputError(f"{option}: expected names between commas, got {text!r}")
    _check_once(found, option)
    return found


def receivers(text: str) -> str | list[Receiver]:
    """`--receivers`: `logits`, or a list such as `8.6 v, mlp 9`. Raises InputError for anything else."""
    if text.strip() == "logits":
        return "logits"
    return _list(text, "--receivers", _receiver)


def senders(text: str) -> str | list[Sender]:
    """`--senders`: `heads`, `mlps`, or a list such as `9.6, mlp 3, 9.6+9.9`. Raises InputError for anything else."""
    if text.strip() in ("heads", "mlps"):
        return text.strip()
    return _list(text, "--senders", _sender)


def sides(text: str | None) -> str | tuple[str | None, str | None] | None:
    """`--at` of paths: a role, or `sender's:receiver's`, where nothing before or after the colon is all positions."""
    if text is None:
        return None
    if not text.strip(" :") or text.count(":") > 1:
        raise InputError(f"--at: expected a role, or two as in S2:end, got {text!r}")
    if ":" not in text:
        return text.strip()
    sends, _, receives = text.partition(":")
    return sends.strip() or None, receives.strip() or None


def _list(text: str, option: str, read: Callable[[str], V]) -> list[V]:
    found = [read(name) for name in names(text, option)]
    _check_once(found, option)
    return found


def _receiver(text: str) -> Receiver:
    if re.fullmatch(_MLP, text):
        return text
    if text[:2] in ("q ", "k ", "v "):  # as knockouts write it
        text = " ".join(reversed(text.split()))
    if not re.fullmatch(_INPUT, text):
        raise InputError(f"--receivers: {text!r} cannot be read; {_RECEIVERS}")
    head, kind = text.split()
    layer, number = head.replace("kv", "").split(".")
    return int(layer), int(number), kind


def _sender(text: str) -> Sender:
    members = tuple(part.strip() for part in text.split("+"))
    for member in members:
        if not re.fullmatch(rf"{_HEAD}|{_MLP}|embed", member):
            raise InputError(f"--senders: {member!r} cannot be read; {_SENDERS}")
    _check_once(members, "--senders")
    return members[0] if len(members) == 1 else members


def _check_once(found: Sequence[object], option: str) -> None:
    twice = next((one for place, one in enumerate(found) if one in found[:place]), None)
    if twice is not None:
        name = "{}.{} {}".format(*twice) if isinstance(twice, tuple) and len(twice) == 3 else twice
        raise InputError(f"{option}: {name} is named twice; name each once")
