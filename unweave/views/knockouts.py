"""Knockouts made visible: what each costs, what the other heads then write, and which of them stand in."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from unweave.results.labels import number, p_value
from unweave.results.summary import summary
from unweave.results.top import Row, top
from unweave.views.blocks import Block, Figure, Table
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.scatter import scatter
from unweave.views.titles import NOUNS, largest_cell, leaders
from unweave.views.wording import interval, listed, percent

if TYPE_CHECKING:
    import xarray

_HOW = {"zero": "zero", "mean": "the mean", "template": "the template's mean", "gaussian": "noise"}
_KINDS = {"mlp": "MLP", "layer": "layer", "result": "output", "addresses": "part"}
_OUT = "knocked out"


def knockout_finding(table: "xarray.Dataset") -> str:
    """What is missed most.

    Args:
        table: the summary of a result of `uw.knockout`.
    """
    attrs = table.attrs
    in_units = attrs.get("measure") == "change"
    write = number if in_units else percent
    # A change has no scale of its own: what is large is measured by the largest.
    found = leaders(table, scale=float(abs(table["mean"]).max()) if in_units else 1.0, sign=-1)
    site = str(attrs.get("site", ""))
    noun = NOUNS.get(site, _KINDS.get(site, "part"))
    instead = _HOW.get(str(attrs.get("how", "")), "another prompt's")
    if not found.helping and not found.against:
        if table["mean"].size == 1:
            # One value that is not told from 0 is not said to be 0.
            return f"With {instead} in its place {largest_cell(table, write)}, not told from 0"
        return f"No {noun} is missed: with {instead} in its place {largest_cell(table, write)}"
    said = []
    if found.helping:
        one = len(found.helping) == 1
        act = f"{instead} in place of {'its' if one else 'their'} {noun} costs {_sizes(found.helping, in_units)}"
        said.append(f"{listed([row.label for row in found.helping])} {'is' if one else 'are'} missed most: {act}")
    if found.against:
        row = found.against[0]
        said.append(f"without {row.label} the answer gains {write(row.mean)}")
    text = "; ".join(said)
    return text[:1].upper() + text[1:]


def attribution_blocks(result: "xarray.DataArray", title: str = "") -> list[Block]:
    """Each head's attribution before and after a knockout, and the change, as panels; and before against after.

    Args:
        result: of `unweave.methods.backup.knockout_attribution`.
        title: of the first figure; computed if left out.
    """
    runs = {str(run): _run(result, str(run)) for run in ("before", "after", "change")}
    groups = dict.fromkeys(_knocked_out(result), _OUT)
    # Where no head is out there is one colour: a group called "other" alone would say nothing.
    both = scatter(runs["before"], runs["after"], diagonal=True, colour=groups or None)
    panels = heatmap({name: run.assign_attrs(quantity="contribution") for name, run in runs.items()}, x="head")
    caption = "A point for each head; off the line, a head writes more or less than before."
    return [
        Figure(panels, title or attribution_change_finding(result)),
        Figure(both, _scale_finding(result), caption),
    ]


def attribution_change_finding(result: "xarray.DataArray") -> str:
    """Which of the remaining heads write more or less than before, and what becomes of the whole."""
    before, after = (float(result.coords[f"total_{when}"].mean()) for when in ("before", "after"))
    change = _remaining(result, result.sel(run="change", drop=True))
    found = leaders(summary(change), scale=before, sign=1 if before >= 0 else -1)
    whole = f"the logit difference goes from {number(before)} to {number(after)}"
    start = f"Without {_out_said(result)} {whole}"
    more = [f"{row.label} ({number(row.mean)})" for row in (*found.helping, *found.against)]
    if not more:
        return f"{start}; no other head changes by much: {largest_cell(summary(change), number)}"
    return f"{start}; of the others {listed(more)} {'changes' if len(more) == 1 else 'change'} most"


def backup_blocks(result: "xarray.DataArray", title: str = "") -> list[Block]:
    """The backup heads in a table, the prediction beside what came true, and the growth of all heads.

    Args:
        result: of `unweave.methods.backup.backup_heads`.
        title: of the table; computed if left out.
    """
    table = summary(result)
    growing = heatmap(table, x="head")
    return [backup_table(result, title), prediction_table(result), Figure(growing, _growth_finding(table))]


def backup_table(result: "xarray.DataArray", title: str = "") -> Table:
    """Heads that write more for the answer when others are out, with their growth as a share of the whole."""
    named = {name: what for what in ("backups", "weakened") for name in str(result.attrs.get(what, "")).split()}
    rows = tuple(
        (row.label, _STAND[named[row.label]], percent(row.mean), _spread(row), _p(row))
        for row in top(result, result[0].size)
        if row.label in named
    )
    header = ("head", "what it does", "growth", "interval", "adjusted p")
    share = percent(float(result.attrs.get("threshold", 0.0)))
    caption = (
        f"Growth: what a head's contribution gains, without what the final norm's scale makes of it, as a share of the "
        f"clean logit difference; listed from {share} on."
    )
    return Table(header, rows, title or backup_finding(result), caption, align="llrrr")


def prediction_table(result: "xarray.DataArray") -> Table:
    """The logit difference as it was, as it should be without the heads if nothing reacted, and as it is."""
    names = {
        "total": "with all heads",
        "own": f"of it, by {_out_said(result)}",
        "naive": "to be expected without",
        "without": "without",
    }
    rows = []
    for name, said in names.items():
        line = summary(result.coords[name])
        mean, low, high = (float(line[column]) for column in ("mean", "low", "high"))
        rows.append((said, number(mean), interval(low, high)))
    means = {name: float(result.coords[name].mean()) for name in names}
    more = means["without"] - means["naive"]
    side = "more" if more >= 0 else "less"
    title = f"The logit difference without them is {number(abs(more))} {side} than if no head reacted"
    return Table(("logit difference", "mean", "interval"), tuple(rows), title, align="lrr")


def backup_finding(result: "xarray.DataArray") -> str:
    """Which heads stand in for those that are out."""
    names = str(result.attrs.get("backups", "")).split()
    out = _out_said(result)
    ranked = top(result, result[0].size, by="high")
    if not names:
        less = [f"{row.label} ({percent(row.mean)})" for row in ranked if row.label in _weakened(result)]
        if not less:
            return f"No head stands in for {out}: {largest_cell(summary(result), percent)}"
        return (
            f"No head stands in for {out}; {listed(less[:4])} {'works' if len(less) == 1 else 'work'} against it less"
        )
    grown = [row for row in ranked if row.label in names]
    shown = listed([f"{row.label} ({percent(row.mean)})" for row in grown[:4]])
    rest = f" and {len(grown) - 4} more" if len(grown) > 4 else ""
    verb = "stands" if len(grown) == 1 else "stand"
    return f"Without {out}, {shown}{rest} {verb} in"


_STAND: Mapping[str, str] = {"backups": "stands in", "weakened": "works against it less"}


def _run(result: "xarray.DataArray", run: str) -> "xarray.DataArray":
    name = {"before": "contribution before", "after": "contribution after"}.get(run, run)
    return result.sel(run=run, drop=True).assign_attrs(quantity=name)


def _scale_finding(result: "xarray.DataArray") -> str:
    """How much of the change is the final norm's scale alone."""
    ratio = float(result.coords["scale_ratio"].mean())
    change, scale = (
        float(_remaining(result, result.sel(run=run, drop=True)).sum(("layer", "head")).mean())
        for run in ("change", "from scale")
    )
    verb = "gain" if change >= 0 else "lose"
    alone = f"the final norm's scale alone (times {number(ratio)})"
    if scale * change < 0:
        return f"The remaining heads {verb} {number(abs(change))} together, though {alone} makes {number(scale)}"
    return f"The remaining heads {verb} {number(abs(change))} together, of which {number(abs(scale))} is {alone}"


def _weakened(result: "xarray.DataArray") -> list[str]:
    return str(result.attrs.get("weakened", "")).split()


def _growth_finding(table: "xarray.Dataset") -> str:
    found = leaders(table)
    names = [f"{row.label} ({percent(row.mean)})" for row in (*found.helping, *found.against)]
    if not names:
        return f"No head grows by much: {largest_cell(table, percent)}"
    return f"Growth is largest in {listed(names)}"


def _remaining(result: "xarray.DataArray", values: "xarray.DataArray") -> "xarray.DataArray":
    """`values` with 0 for the heads that are out."""
    kept = values.copy()
    for name in _knocked_out(result):
        layer, head = (int(part) for part in name.split("."))
        kept.loc[{"layer": layer, "head": head}] = 0.0
    return kept


def _knocked_out(result: "xarray.DataArray") -> list[str]:
    """The heads among what was knocked out: `["9.9"]` of `"z 9.9, mlp 3"`."""
    named = str(result.attrs.get("knocked_out", ""))
    return re.findall(r"\b(?:z|result) (\d+\.\d+)", named)


def _out_said(result: "xarray.DataArray") -> str:
    named = str(result.attrs.get("knocked_out", "")).replace("z ", "").replace("result ", "").replace("mlp", "MLP")
    parts = [part for part in named.split(", ") if part]
    return listed(parts) if len(parts) <= 4 else f"{len(parts)} heads"


def _sizes(rows: tuple[Row, ...], in_units: bool) -> str:
    write = number if in_units else percent
    return listed([write(abs(row.mean)) for row in rows])


def _spread(row: Row) -> str:
    return f"{percent(row.low)} to {percent(row.high)}" if np.isfinite(row.low) else "–"


def _p(row: Row) -> str:
    return p_value(row.p_holm).removeprefix("p ").removeprefix("= ")
