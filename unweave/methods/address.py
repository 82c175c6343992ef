"""Addresses: single places of a model that can be patched."""

from __future__ import annotations

import re
from dataclasses import dataclass

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.sites import Site, check_head, check_layer, check_neuron, check_site, parse_site

PATCHABLE = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v", "pattern", "mlp_post")


@dataclass(frozen=True)
class Address:
    """One activation: a site and a layer, and where given a head (or neuron) and a position or a role.

    What is None is patched as a whole: all heads, all positions. Written `"z 23.3"`, `"resid_pre 5 @S2"`, `"q 9.6
    @12"`. At `k` and `v` the head is a key/value head, also written `"v 20.kv1"`.
    """

    site: str
    layer: int
    part: int | None = None
    at: int | str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that `str(address)` writes. Raises InputError with examples."""
        match = re.fullmatch(r"(\S+)\s+(-?\d+)(?:\.(kv)?(\d+))?(?:\s+@(\S+))?", text.strip())
        if not match:
            raise InputError(f"address: {text!r} cannot be read; write 'z 23.3', 'resid_pre 5 @S2' or 'q 9.6 @12'")
        site, layer, shared, part, at = match.groups()
        if shared and parse_site(site)[0].rows != "kv_head":
            raise InputError(f"address: {text!r} names a key/value head, which k and v have; write '{site} {layer}.1'")
        place = int(at) if at and at.isdecimal() else at
        return cls(site, int(layer), None if part is None else int(part), place)

    def __str__(self) -> str:
        part = "" if self.part is None else f".{self.part}"
        return f"{self.site} {self.layer}{part}" + ("" if self.at is None else f" @{self.at}")


def patchable_site(config: Config, name: str) -> Site:
    """The site, if it can be patched in this model. Raises InputError otherwise."""
    site, layer = parse_site(name)
    if layer is not None:
        raise InputError(
            f"sites: {name!r} names one layer; give the site ({site.name}), or an address ('{site.name} {layer}')"
        )
    if site.name not in PATCHABLE:
        raise InputError(f"sites: {site.name} cannot be patched; choose among {' '.join(PATCHABLE)}")
    check_site(config, site)
    return site


def checked(config: Config, address: Address | str) -> Address:
    """An address whose site, layer and part the model has. Raises InputError otherwise."""
    address = Address.parse(address) if isinstance(address, str) else address
    site = patchable_site(config, address.site)
    layer, part = check_layer(config, address.layer), address.part
    if part is not None and site.rows == "neuron":
        check_neuron(config, part)
    elif part is not None:
        check_head(config, site, part)
    return Address(site.name, layer, part, address.at)
