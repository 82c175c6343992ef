"""What a knockout takes out, as users name it: heads, their inputs and patterns, MLPs, whole layers.

Targets are written so:

    (9, 6)  "9.6"  "z 9.6"               a head's output; "result 9.6" is the same, in the residual stream
    "q 9.6"  "k 9.1"  "v 9.kv1"          a head's query; a key, a value of a key/value head
    "pattern 9.6"                        its attention
    "mlp 3"  "mlp_out 3"  "attn_out 3"   what an MLP, or all heads of a layer, write, bias included
    "layer 3"                            both

A list names knockouts that are tried one by one. A list in the list, and `"9.6 + mlp 3"`, is one knockout of several.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unweave.errors import InputError
from unweave.methods.address import Address
from unweave.methods.heads import HeadName, Knockouts, check_once, head_name_at, listed, parse_head
from unweave.models.config import Config
from unweave.models.sites import SITES, check_layer, check_site, n_heads_at

SITES_OF_KIND = {
    **{site: (site,) for site in ("z", "q", "k", "v", "pattern", "attn_out", "mlp_out")},
    "result": ("z",),
    "mlp": ("mlp_out",),
    "layer": ("attn_out", "mlp_out"),
}
_PLURALS = {"heads": "z", "mlps": "mlp", "layers": "layer"}


@dataclass(frozen=True)
class Target:
    """One thing to knock out: its name, and the activations that are replaced together."""

    name: str
    addresses: tuple[Address, ...]


def singular(kind: str) -> str:
    """The kind of target that every one of is meant: `heads` are `z`, `mlps` are `mlp`."""
    return _PLURALS.get(kind, kind)


def sites_of(config: Config, kind: str) -> tuple[str, ...]:
    """The sites that a kind of target replaces. Raises InputError for another kind, or one that the model lacks."""
    if kind not in SITES_OF_KIND:
        raise InputError(f"heads: {kind!r} cannot be knocked out; choose among {' '.join(SITES_OF_KIND)}")
    sites = SITES_OF_KIND[kind]
    if kind == "layer" and config.d_mlp == 0:
        return ("attn_out",)
    for site in sites:
        check_site(config, SITES[site])
    return sites


def every_target(config: Config, kind: str) -> list[Target]:
    """Every target of a kind without heads, layer by layer."""
    sites = sites_of(config, kind)
    return [Target(f"{kind} {n}", tuple(Address(site, n) for site in sites)) for n in range(config.n_layers)]


def knockouts_of(config: Config, heads: Knockouts) -> list[tuple[Target, ...]]:
    """Knockouts, in the order given, each of one target, or of several together.

    Raises:
        InputError: no target, one that cannot be read or that the model lacks, or one that is named twice.
    """
    knockouts = [tuple(_target(config, head) for head in _together(each)) for each in listed(heads)]
    if not all(knockouts) or not knockouts:
        raise InputError("heads: none was given; write [(9, 6), 'mlp 3'], or leave it out for every head in turn")
    for several in (knockout for knockout in knockouts if len(knockout) > 1):
        _check_once(several)
    _check_once([knockout[0] for knockout in knockouts if len(knockout) == 1])
    check_once([knockout_name(targets) for targets in knockouts])
    return knockouts


def one_knockout(config: Config, heads: Knockouts) -> tuple[Target, ...]:
    """What is knocked out together: `[(9, 6), "9.9"]`. Raises InputError as `knockouts_of`, and for several lists."""
    knockouts = knockouts_of(config, heads)
    if len(knockouts) > 1 and any(len(targets) > 1 for targets in knockouts):
        names = ", ".join(map(knockout_name, knockouts))
        raise InputError(f"heads: expected one knockout, all of it together, got several: {names}; give one list")
    return tuple(target for targets in knockouts for target in targets)


def _check_once(targets: Sequence[Target]) -> None:
    check_once([str(address) for target in targets for address in target.addresses])


def knockout_name(targets: Sequence[Target]) -> str:
    """`z 9.6 + mlp 3`: targets that are knocked out together."""
    return " + ".join(target.name for target in targets)


def _together(given: Knockouts) -> list[HeadName]:
    """One target, or those of a list in the list, or of `"9.6 + 9.9"`."""
    return given.split("+") if isinstance(given, str) else listed(given)  # pyright: ignore[reportReturnType]


def _target(config: Config, head: HeadName) -> Target:
    words = head.split() if isinstance(head, str) else []
    if len(words) < 2:
        layer, part = parse_head(config, head)
        return Target(f"z {layer}.{part}", (Address("z", layer, part),))
    kind, place = words[0], " ".join(words[1:])
    sites = sites_of(config, kind)
    if n_heads_at(config, SITES[sites[0]]) is None:
        if not place.lstrip("-").isdecimal():
            raise InputError(f"heads: {head!r} cannot be read; a layer is wanted: '{kind} 3'")
        layer = check_layer(config, int(place))
        return Target(f"{kind} {layer}", tuple(Address(site, layer) for site in sites))
    layer, part = parse_head(config, place, sites[0])
    return Target(f"{kind} {head_name_at(config, sites[0], (layer, part))}", (Address(sites[0], layer, part),))
