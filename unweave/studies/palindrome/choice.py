"""Which heads a figure is about: chosen by their numbers in this model, never by name."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from unweave.circuits.circuit import Circuit, Group
from unweave.errors import InputError
from unweave.nodes import Edge, Head, head_name, read_node, read_nodes
from unweave.results import summary
from unweave.studies.palindrome.ablations import NOBODY, receiver_name
from unweave.studies.palindrome.behaviour import DIFFERS, MATCHES, Pair
from unweave.studies.palindrome.sequences import PalindromeSubject
from unweave.studies.plan import Results, needed

# A head is among the leading ones from this share of the first one's size on; a circuit is enough from this share of
# what the model does better than chance on; a path is drawn from this effect on; a head compares from this drop on.
NEAR, ENOUGH, DRAWN, COMPARES = 0.5, 0.95, 0.02, 0.1
MOST_DECIDING, MOST_PAIRS, CHANCE = 2, 6, 0.5
COMPARE, INFORM, DECIDE = "compare", "inform", "decide"


def by_class(parts: xr.DataArray) -> xr.DataArray:
    """How much further each part's mean is for palindromes than for others."""
    means = parts.groupby("answer").mean("prompt")
    return means.sel(answer=1) - means.sel(answer=0)


def deciding(found: Results) -> list[Head]:
    """The heads whose direct contribution differs most between the classes, the first at the front; at least one."""
    gap = by_class(needed(found, "parts"))
    nodes = [read_node(str(name)) for name in gap["component"].values if name != "bias"]
    sizes = {node.head: float(gap.sel(component=node.short)) for node in nodes if node.part is not None}
    first, *others = sorted(sizes, key=lambda head: -sizes[head])[:MOST_DECIDING]
    return [first, *(head for head in others if sizes[head] >= NEAR * abs(sizes[first]))]


def pairs_of(found: Results) -> list[Pair]:
    """Earlier heads with deciding ones, those first whose paths carry most of a mismatch.

    Raises:
        InputError: no such pair.
    """
    effects = needed(found, "paths").mean("prompt")
    sizes = {
        (sender, receiver): float(abs(effects.sel(sender=head_name(sender), receiver=receiver_name(receiver))))
        for receiver in deciding(found)
        for sender in heads_of(effects["sender"])
        if sender[0] < receiver[0]
    }
    if not sizes:
        raise InputError("no head stands in a later layer than another, so nothing can compose")
    return sorted(sizes, key=lambda pair: -sizes[pair])[:MOST_PAIRS]


def comparing(found: Results) -> list[Head]:
    """The heads that look at the mirror image more where it matches, or less; the largest difference at the front."""
    drops = mirror_drops(needed(found, "mirror"))
    return [head for head in drops if abs(drops[head]) >= COMPARES]


def mirror_drops(mirror: xr.DataArray) -> dict[Head, float]:
    """By how much less each head looks at the mirror image where it differs, the mean over positions; largest first."""
    means = mirror.mean(("prompt", "pos"))
    change = means.sel(case=MATCHES) - means.sel(case=DIFFERS)
    drops = {head: float(change.sel(address=head_name(head))) for head in heads_of(mirror["address"])}
    return dict(sorted(drops.items(), key=lambda drop: -abs(drop[1])))


def smallest(subsets: xr.DataArray) -> str:
    """The fewest heads that keep most of what the model does better than chance; of equally many the best."""
    share = subsets.mean("prompt")
    names, whole = [str(name) for name in share["kept"].values], float(share[-1])
    enough = [name for name in names if float(share.sel(kept=name)) - CHANCE >= ENOUGH * (whole - CHANCE)]
    return min(enough, key=lambda name: (len(members(name)), -float(share.sel(kept=name))))


def members(kept: object) -> tuple[Head, ...]:
    """The heads of a subset, by its name."""
    return () if kept == NOBODY else tuple(node.head for node in read_nodes(str(kept)))


def heads_of(names: xr.DataArray) -> list[Head]:
    """The heads of a coordinate of names."""
    return [read_node(str(name)).head for name in names.values]


def circuit_of(subject: PalindromeSubject, found: Results) -> Circuit:
    """The smallest set of heads that is enough, in groups by what they do, with the paths between them.

    Raises:
        InputError: no head is needed.
    """
    heads = members(smallest(found["subsets"])) if "subsets" in found else subject.heads
    if not heads:
        raise InputError("the model does as well without any head")
    config, compares = subject.model.config, comparing(found)
    does = {
        head: DECIDE if head[0] == config.n_layers - 1 else COMPARE if head in compares else INFORM for head in heads
    }
    groups = tuple(
        Group(name, tuple(head for head in heads if does[head] == name), ("end",) if name == DECIDE else "all")
        for name in (COMPARE, INFORM, DECIDE)
        if name in does.values()
    )
    return Circuit(
        groups,
        tuple(_edges(needed(found, "paths"), heads)),
        model=config.name,
        shape=(config.n_layers, config.n_heads),
        task="palindromes",
        notes="the fewest heads that keep the accuracy, of all subsets; paths by path patching of one mismatch",
    )


def _edges(paths: xr.DataArray, heads: Sequence[Head]) -> list[Edge]:
    """Paths of some size between heads of the circuit, all inputs of a receiver together, and to the logits."""
    table, edges = summary(paths), []
    ends = {"logits": "logits"} | {receiver_name(head): head_name(head) for head in heads}
    for sender in (name for name in map(head_name, heads) if name in paths["sender"]):
        for receiver in (name for name in map(str, paths["receiver"].values) if name in ends):
            cell = table.sel(sender=sender, receiver=receiver)
            mean, low, high = (-float(cell[side]) for side in ("mean", "high", "low"))
            if abs(mean) >= DRAWN:
                edges.append(Edge(sender, ends[receiver], "", mean, low, high))
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
