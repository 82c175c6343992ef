"""What a circuit and its tests add to the answer of a report: its groups; how faithful, complete and small it is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from unweave.results.labels import number
from unweave.views.answer import Fact
from unweave.views.circuit.drawing import CircuitLike
from unweave.views.facts import subjects
from unweave.views.wording import counted, listed, percent

if TYPE_CHECKING:
    import xarray

_MOST_NAMED = 6


def group_facts(circuit: CircuitLike, does: Mapping[str, tuple[str, str]] | None = None) -> tuple[Fact, ...]:
    """A line for each group: how many heads, what they do, which they are, and at which roles.

    Args:
        circuit: its groups, in order.
        does: by a group's name, up to an "@", what one head does and what several do: `("moves the name", "move …")`.
    """
    facts = []
    for group in circuit.groups:
        names = [f"{layer}.{head}" for layer, head in group.heads]
        shown = listed(names) if len(names) <= _MOST_NAMED else f"{', '.join(names[:_MOST_NAMED])} and others"
        one, several = (does or {}).get(group.name.partition(" @")[0], ("", ""))
        said = f"{counted(len(names), 'head')} {one if len(names) == 1 else several}".rstrip()
        parts = [f"{said}: {shown}"] if names else []
        parts += [f"{counted(len(group.mlps), 'MLP')}: {listed([str(n) for n in group.mlps])}"] if group.mlps else []
        where = "at all positions" if group.roles == "all" else f"at {listed(list(group.roles))}"
        facts.append(Fact(group.name, "; ".join(parts), where))
    return tuple(facts)


def score_facts(results: "Sequence[xarray.DataArray | xarray.Dataset]") -> tuple[Fact, ...]:
    """Headlines of the three tests, of those that are among the results."""
    makers = {"faithfulness": _faithful, "completeness": _complete, "minimality": _minimal}
    import xarray as xr

    tests = [one for one in results if isinstance(one, xr.Dataset)]
    said = zip(tests, subjects(tests), strict=True)
    facts = [(str(test.attrs.get("method", "")), test, subject) for test, subject in said]
    return tuple(
        replace(fact, note="; ".join(filter(None, (subject, fact.note))))
        for name, make in makers.items()
        for fact, subject in ((make(test), subject) for method, test, subject in facts if method == name)
    )


def _faithful(table: "xarray.Dataset") -> Fact:
    own = table.sel(kept="circuit")
    low, high = float(own["ratio_low"]), float(own["ratio_high"])
    random = [
        float(value)
        for name, value in zip(table["kept"].values, table["ratio"].values, strict=True)
        if str(name).startswith("random")
    ]
    said = [f"{percent(low)} to {percent(high)}"] if np.isfinite(low) else []
    said += [f"{int(own['heads'])} of {table.attrs.get('model_heads', '?')} heads"]
    said += [f"random heads at most {percent(max(random))}"] if random else []
    # Where no head at all gives as much, the share is none of the circuit's doing.
    none = float(table["ratio"].sel(kept="nothing")) if "nothing" in table["kept"].values else -np.inf
    said += [f"no head {percent(none)}"] if none >= float(own["ratio"]) else []
    return Fact("faithfulness, F(C) / F(M)", percent(float(own["ratio"])), "; ".join(said), True)


def _complete(table: "xarray.Dataset") -> Fact:
    worst = number(float(table["gap"].max()))
    note = f"mean |F(C \\ K) − F(M \\ K)| over {table.sizes['removed']} sets K; {worst} at worst"
    return Fact("incompleteness", number(float(table["gap"].mean())), note, True)


def _minimal(table: "xarray.Dataset") -> Fact:
    needed = int(((table["share_low"] > 0) | (table["share_high"] < 0)).sum())
    least = table.isel(address=int(np.argmin(table["size"].values)))
    low, high = percent(float(least["share_low"])), percent(float(least["share_high"]))
    spread = f" ({low} to {high})" if np.isfinite(float(least["share_low"])) else ""
    note = f"of {counted(table.sizes['address'], 'head')}; the least, {least['address'].item()}, changes F by "
    return Fact("heads that matter", str(needed), f"{note}{percent(float(least['share']))}{spread}", True)
