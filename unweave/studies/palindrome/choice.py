"""Which heads a figure is about: chosen by their numbers in this model, never by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from unweave.circuits.circuit import Circuit, Group
from unweave.errors import InputError
from unweave.methods.weights.head_matrices import chosen_heads
from unweave.nodes import Edge, Head, head_name, read_node
from unweave.results import summary
from unweave.studies.palindrome.ablations import NOBODY, TOGETHER
from unweave.studies.palindrome.cases import DIFFERS, MATCHES
from unweave.studies.palindrome.subject import PalindromeSubject
from unweave.studies.palindrome.weights import Pair, pair_name

Found = Mapping[str, xr.DataArray]
# A head is among the leading ones from this share of the first one's size on; a circuit is enough from this share of
# what the model does better than chance on; a path is drawn from this effect on; a head compares from this drop on.
NEAR, ENOUGH, DRAWN, COMPARES = 0.5, 0.95, 0.02, 0.1
MOST_DECIDING, MOST_PAIRS, CHANCE = 2, 6, 0.5
COMPARE, INFORM, DECIDE = "compare", "inform", "decide"


def needed(found: Mapping[str, Any], name: str) -> Any:
    """An earlier step's result. Raises InputError where there is none."""
    if name not in found:
        raise InputError(f"it needs the result `{name}`, which was left out")
    return found[name]


def by_class(parts: xr.DataArray) -> xr.DataArray:
    """How much further each part's mean is for palindromes than for others."""
    means = parts.groupby("answer").mean("prompt")
    return means.sel(answer=1) - means.sel(answer=0)


def deciding(found: Found) -> list[Head]:
    """The heads whose direct say differs most between the classes, the first at the front; at least one."""
    gap = by_class(needed(found, "parts"))
    sizes = {str(name): float(gap.sel(component=name)) for name in gap["component"].values if "." in str(name)}
    first, *others = sorted(sizes, key=lambda name: -sizes[name])[:MOST_DECIDING]
    return [as_head(name) for name in (first, *(name for name in others if sizes[name] >= NEAR * abs(sizes[first])))]


def pairs_of(found: Found) -> list[Pair]:
    """Earlier heads with deciding ones, those first whose paths carry most of a mismatch.

    Raises:
        InputError: no such pair.
    """
    effects = needed(found, "paths").mean("prompt")
    sizes = {}
    for receiver in deciding(found):
        name = f"{head_name(receiver)} {TOGETHER}"
        for sender in map(as_head, effects["sender"].values):
            if sender[0] < receiver[0]:
                sizes[sender, receiver] = float(abs(effects.sel(sender=head_name(sender), receiver=name)))
    if not sizes:
        raise InputError("no head stands in a later layer than another, so nothing can compose")
    return sorted(sizes, key=lambda pair: -sizes[pair])[:MOST_PAIRS]


def leading_pair(found: Found) -> str:
    """The pair of heads that a mismatch goes through most, as `0.0 → 1.0`. Raises InputError where there is none."""
    return pair_name(pairs_of(found)[0])


def comparing(found: Found) -> list[str]:
    """The heads that look at the mirror image more where it matches, or less; the largest difference at the front."""
    drops = mirror_drops(needed(found, "mirror"))
    order = sorted(drops, key=lambda name: -abs(drops[name]))
    return [name for name in order if abs(drops[name]) >= COMPARES]


def mirror_drops(mirror: xr.DataArray) -> dict[str, float]:
    """By how much less each head looks at the mirror image where it differs, the mean over positions."""
    means = mirror.mean(("prompt", "pos"))
    return {
        str(name): float(means.sel(address=name, case=MATCHES) - means.sel(address=name, case=DIFFERS))
        for name in mirror["address"].values
    }


def smallest(subsets: xr.DataArray) -> str:
    """The fewest heads that keep most of what the model does better than chance; of equally many the best."""
    share = subsets.mean("prompt")
    names = [str(name) for name in share["kept"].values]
    whole = float(share[-1])
    enough = [name for name in names if float(share.sel(kept=name)) - CHANCE >= ENOUGH * (whole - CHANCE)]
    return min(enough, key=lambda name: (len(members(name)), -float(share.sel(kept=name))))


def members(kept: str) -> list[str]:
    """The heads of a subset, by name."""
    return [] if kept == NOBODY else kept.split(", ")


def circuit_of(subject: PalindromeSubject, found: Found) -> Circuit:
    """The smallest set of heads that is enough, in groups by what they do, with the paths between them.

    Raises:
        InputError: no head is needed.
    """
    names = (
        members(smallest(found["subsets"]))
        if "subsets" in found
        else list(map(head_name, chosen_heads(subject.model, None)))
    )
    if not names:
        raise InputError("the model does as well without any head")
    late, compares = subject.model.config.n_layers - 1, comparing(found)
    does = {name: DECIDE if as_head(name)[0] == late else COMPARE if name in compares else INFORM for name in names}
    groups = tuple(
        Group(
            group, tuple(as_head(name) for name in names if does[name] == group), ("end",) if group == DECIDE else "all"
        )
        for group in (COMPARE, INFORM, DECIDE)
        if group in does.values()
    )
    return Circuit(
        groups,
        tuple(_edges(needed(found, "paths"), names)),
        model=subject.model.config.name,
        shape=(subject.model.config.n_layers, subject.model.config.n_heads),
        task="palindromes",
        notes="the fewest heads that keep the accuracy, of all subsets; paths by path patching of one mismatch",
    )


def _edges(paths: xr.DataArray, names: list[str]) -> list[Edge]:
    """Paths of some size between heads of the circuit, all inputs of a receiver together, and to the logits."""
    table = summary(paths)
    edges = []
    for sender in (name for name in map(str, paths["sender"].values) if name in names):
        for receiver in map(str, paths["receiver"].values):
            head, _, inputs = receiver.partition(" ")
            drawn = receiver == "logits" or (head in names and inputs == TOGETHER)
            cell = table.sel(sender=sender, receiver=receiver)
            mean, low, high = (-float(cell[side]) for side in ("mean", "high", "low"))
            if drawn and abs(mean) >= DRAWN:
                edges.append(Edge(sender, head, "", mean, low, high))
    return edges


def constants(ablated: xr.DataArray, least: float = 0.1) -> dict[str, tuple[float, float]]:
    """Inputs of heads that may be replaced by their mean but not by zero, with both costs in accuracy."""
    cost = -ablated.mean("prompt")
    found = {}
    for part in ("query", "key", "value"):
        for name in map(str, ablated["address"].values):
            zero, mean = (float(cost.sel(how=how, part=part, address=name)) for how in ("zero", "mean"))
            if np.isfinite(zero) and zero >= least and abs(mean) <= zero / 10:
                found[f"the {part} of {name}"] = (zero, mean)
    return found


def as_head(name: object) -> Head:
    return read_node(str(name)).head
