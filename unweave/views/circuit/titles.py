"""What a circuit's drawing and its three tests show, in a sentence computed from them.

The tests are the Datasets of `uw.evaluate`; F is the metric's mean over prompts, M the model, C the circuit, and K a
set of heads that is taken out of both.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from unweave.results.labels import number
from unweave.views.circuit.layout import LOGITS, Node
from unweave.views.circuit.paths import Link
from unweave.views.wording import counted, interval, listed, percent

if TYPE_CHECKING:
    import xarray

_MOST_NAMED = 4


def circuit_finding(nodes: Sequence[Node], links: Sequence[Link]) -> str:
    """How large a circuit is, and its strongest path."""
    heads = {node.name: node for node in nodes if node.group}
    layers = [node.layer for node in heads.values()]
    groups = len({node.group for node in heads.values()})
    said = f"{counted(len(heads), 'head')} in {counted(groups, 'group')}"
    if any(node.name.endswith("_mlp") for node in heads.values()):
        said = said.replace("head", "head and MLP" if len(heads) == 1 else "heads and MLP", 1)
    if layers:
        said += f", layers {min(layers)} to {max(layers)}" if min(layers) < max(layers) else f", layer {layers[0]}"
    strongest = max((link for link in links if link.effect is not None), key=lambda link: link.size, default=None)
    if strongest is None or strongest.effect is None:
        return said
    to = "the logits" if strongest.receiver == LOGITS else strongest.receiver
    many = "the one path" if len(links) == 1 else f"the strongest of {len(links)} paths"
    return f"{said}; {many} is {strongest.sender} to {to} ({number(strongest.effect)})"


def faithfulness_finding(table: "xarray.Dataset") -> str:
    """How much of the model's score the circuit has alone, against the controls."""
    own, score = table.sel(kept="circuit"), table["score"].mean("prompt")
    heads = f"{int(own['heads'])} of {table.attrs.get('model_heads', '?')} heads"
    both = f"F(C) {number(float(score.sel(kept='circuit')))}, F(M) {number(float(score.sel(kept='model')))}"
    ratio, low, high = (float(own[f"ratio{end}"]) for end in ("", "_low", "_high"))
    spread = f", {percent(low)} to {percent(high)}" if np.isfinite(low) else ""
    said = f"Alone, the circuit's {heads} give {percent(ratio)} of the model's {_metric(table)} ({both}{spread})"
    random = [float(table["ratio"].sel(kept=name)) for name in _randoms(table)]
    ends = (
        percent(random[0])
        if len(random) == 1
        else f"{percent(min(random))} to {percent(max(random))}"
        if random
        else ""
    )
    none = float(table["ratio"].sel(kept="nothing")) if "nothing" in table["kept"].values else -np.inf
    if ratio <= none:
        return f"{said}: no more than no head at all ({percent(none)}{f'; random heads {ends}' if ends else ''})"
    if not random:
        return said
    if ratio <= max(random):
        return f"{said}: no more than random heads ({ends})"
    return f"{said}; as many random heads give {ends}"


def completeness_finding(table: "xarray.Dataset") -> str:
    """How far circuit and model are apart without the same heads."""
    worst = table.isel(removed=int(np.argmax(table["gap"].values)))
    many = table.sizes["removed"]
    mean, largest = float(table["gap"].mean()), float(worst["gap"])
    said = f"Without the same heads K, circuit and model are {number(mean)} apart on average over {many} sets K"
    if many == 1:
        said = f"Circuit and model are {number(mean)} apart"
    members = str(worst["members"].item()).split()
    which = _heads(members) if members else "nothing removed"
    return f"{said}, and {number(largest)} at worst ({which}), of F(M) {_whole(table)}" if many > 1 else said


def minimality_finding(table: "xarray.Dataset") -> str:
    """How many of the circuit's heads matter, which most and which least."""
    n = table.sizes["address"]
    needed = int(((table["share_low"] > 0) | (table["share_high"] < 0)).sum())
    sizes = table["size"].values
    most, least = (table.isel(address=int(pick)) for pick in (np.argmax(sizes), np.argmin(sizes)))
    known = np.isfinite(table["share_low"].values).any()
    said = f"{needed} of {counted(n, 'head')} told from 0 by their interval" if known else counted(n, "head")
    first = f"{most['address'].item()} changes F most, by {percent(float(most['share']))} of F(M)"
    if n == 1:
        return f"{said}: {first}"
    return f"{said}: {first}, {least['address'].item()} least, by {percent(float(least['share']))}"


def completeness_rows(table: "xarray.Dataset") -> list[tuple[str, ...]]:
    """Of each K: its label, its heads, F(C \\ K), F(M \\ K), and their difference with its interval."""
    mean = table[["circuit", "model"]].mean("prompt")
    rows = []
    for place, label in enumerate(table["removed"].values):
        row, means = table.isel(removed=place), mean.isel(removed=place)
        members = str(row["members"].item()) or "–"
        spread = interval(float(row["difference_low"]), float(row["difference_high"]))
        scores = [number(float(means[name])) for name in ("circuit", "model")]
        rows.append((str(label), members, *scores, number(float(row["difference"])), spread))
    return rows


def _randoms(table: "xarray.Dataset") -> list[str]:
    return [str(name) for name in table["kept"].values if str(name).startswith("random")]


def _heads(names: Sequence[str]) -> str:
    if len(names) <= _MOST_NAMED:
        return listed(names)
    return f"{', '.join(names[:_MOST_NAMED])} and {len(names) - _MOST_NAMED} more"


def _metric(table: "xarray.Dataset") -> str:
    return str(table.attrs.get("metric", table.attrs.get("quantity", "score")))


def _whole(table: "xarray.Dataset") -> str:
    none = table["model"].isel(removed=int(np.argmax(table["size"].values == 0)))
    return number(float(none.mean()))
