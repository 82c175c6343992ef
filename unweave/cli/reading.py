"""How the values of options are read: sizes, axes, lists of places. What a model has to know is checked later."""

import re
from collections.abc import Sequence

from unweave.errors import InputError

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_BY_HEAD = {"z", "q", "k", "v", "pattern"}


def memory(text: str | None) -> int | float | None:
    """`--memory`: `2GB` and `500000000` as bytes, `0.3` as a share. Raises InputError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]b)?", text.strip().lower())
    if not found:
        raise InputError(f"--memory: expected bytes, a size such as 2GB, or a share such as 0.3, got {text!r}")
    number, unit = found[1], found[2] or ""
    return float(number) if "." in number and not unit else int(float(number) * _UNITS[unit])


def are_nodes(sites: Sequence[str]) -> bool:
    """Whether single places are named and not whole sites. Raises InputError for neither, both, and what is twice."""
    from unweave.nodes import read_nodes, site_named

    single = any(" " in site.strip() for site in sites)
    for site in sites:
        if single:
            read_nodes(site, "sites")
        else:
            site_named(site)
    _check_once([" ".join(site.split()) for site in sites], "sites")
    return single


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


# What paths begin and end in: words, and the sites of nodes.
SENDERS = (("heads", "mlps"), ("z", "mlp_out", "embed"))
RECEIVERS = (("logits",), ("q", "k", "v", "mlp_out"))


def nodes(text: str, option: str, among: tuple[Sequence[str], Sequence[str]]) -> str | list[str]:
    """A word for many, or nodes between commas, several together with a plus.

    Raises InputError for what is none of them, and for one that is named twice.
    """
    from unweave.nodes import check_once, read_nodes

    words, sites = among
    if text.strip() in words:
        return text.strip()
    found = names(text, option)
    joints = [read_nodes(name, option) for name in found]
    for joint in joints:
        wrong = [node for node in joint if node.site not in sites]
        if wrong:
            raise InputError(
                f"{option}: {str(wrong[0])!r} cannot be taken; write {', '.join(words)}, or {' '.join(sites)}"
            )
        check_once(joint, option)
    check_once(joints, option)
    return list(found)


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


def _check_once(found: Sequence[object], option: str) -> None:
    twice = next((one for place, one in enumerate(found) if one in found[:place]), None)
    if twice is not None:
        raise InputError(f"{option}: {twice} is named twice; name each once")
