"""What a knockout takes out, as users name it: heads, their inputs and patterns, MLPs, whole layers.

Targets are written so:

    (9, 6)  "9.6"  "z 9.6"               a head's output; "result 9.6" is the same, in the residual stream
    "q 9.6"  "k 9.1"  "v 9.1"            a head's query, a key, a value
    "pattern 9.6"                        its attention
    "mlp 3"  "mlp_out 3"  "attn_out 3"   what an MLP, or all heads of a layer, write, bias included
    "layer 3"                            both
"""

from dataclasses import dataclass

from unweave.errors import InputError
from unweave.methods.address import Address
from unweave.methods.heads import Head, HeadName, Heads, check_once, listed, parse_head
from unweave.models.config import Config
from unweave.models.sites import SITES, check_head, check_layer, check_site, n_heads_at

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


def targets_of(config: Config, heads: Heads) -> list[Target]:
    """Targets, in the order given.

    Raises:
        InputError: no target, one that cannot be read or that the model lacks, or one that is named twice.
    """
    targets = [_target(config, head) for head in listed(heads)]
    if not targets:
        raise InputError("heads: none was given; write [(9, 6), 'mlp 3'], or leave it out for every head in turn")
    check_once([str(address) for target in targets for address in target.addresses])
    return targets


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
    layer, part = _layer_and_part(config, sites[0], place)
    return Target(f"{kind} {layer}.{part}", (Address(sites[0], layer, part),))


def _layer_and_part(config: Config, site: str, place: str) -> Head:
    """Layer and head of `"9.6"`; a key and value head for `k` and `v`."""
    if site not in ("k", "v"):
        return parse_head(config, place)
    layer, dot, part = place.partition(".")
    if not dot or not layer.lstrip("-").isdecimal() or not part.isdecimal():
        raise InputError(f"heads: '{site} {place}' cannot be read; write '{site} 9.1'")
    return check_layer(config, int(layer)), check_head(config, SITES[site], int(part))
