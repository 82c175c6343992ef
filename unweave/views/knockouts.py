"""What the other heads write after a knockout made visible, and which of them make up for it."""

import xarray as xr

from unweave.nodes import Node, read_node
from unweave.results.labels import number
from unweave.results.summary import significant, summary
from unweave.results.top import top
from unweave.views.blocks import Block, Figure, Table
from unweave.views.captions import finding, largest_cell, leaders, unsure_said, with_values
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.scatter import scatter
from unweave.views.wording import few, interval, listed, p_cell, spread

_OUT = "knocked out"


def attribution_blocks(result: xr.DataArray) -> list[Block]:
    """Each head's attribution before and after a knockout, and the change, as panels; and before against after.

    Args:
        result: of `unweave.methods.backup.knockout_attribution`.
    """
    runs = {str(run): _run(result, str(run)) for run in ("before", "after", "change")}
    groups = dict.fromkeys((node.short for node in _knocked_out(result)), _OUT)
    # Where no head is out there is one colour: a group called "other" alone would say nothing.
    both = scatter(runs["before"], runs["after"], diagonal=True, colour=groups or None)
    panels = heatmap({name: run.assign_attrs(quantity="contribution") for name, run in runs.items()}, x="head")
    caption = "A point for each head; off the line, a head writes more or less than before."
    return [
        Figure(panels, attribution_change_finding(result)),
        Figure(both, _scale_finding(result), caption),
    ]


def attribution_change_finding(result: xr.DataArray) -> str:
    """Which of the remaining heads write more or less than before, and what becomes of the whole."""
    before, after = (float(result.coords[f"total_{when}"].mean()) for when in ("before", "after"))
    change = _remaining(result, result.sel(run="change", drop=True))
    found = leaders(summary(change), scale=before, sign=1 if before >= 0 else -1)
    whole = f"the logit difference goes from {number(before)} to {number(after)}"
    start = f"Without {_out_said(result)} {whole}"
    rows = (*found.helping, *found.against)
    if not rows:
        return f"{start}; no other head changes by much: {largest_cell(summary(change), number)}"
    change_most = "changes most" if len(rows) == 1 else "change most"
    return f"{start}; of the others {with_values(rows)} {change_most}{unsure_said(found, number)}"


def backup_blocks(result: xr.DataArray) -> list[Block]:
    """The backup heads in a table, the prediction next to what came true, and the growth of all heads, in logits.

    Args:
        result: of `unweave.methods.backup.backup_heads`.
    """
    table = summary(_in_logits(result))
    growing = heatmap(table, x="head")
    return [backup_table(result), prediction_table(result), Figure(growing, finding(table))]


def backup_table(result: xr.DataArray) -> Table:
    """Heads that write more for the answer when others are out, with their growth in logits."""
    named = {name: what for what in ("backups", "weakened") for name in result.attrs.get(what, [])}
    rows = tuple(
        (row.label, _DOES[named[row.label]], number(row.mean), interval(row.low, row.high), p_cell(row.p_holm))
        for row in top(_in_logits(result), result[0].size)
        if row.label in named
    )
    header = ("head", "what it does", "growth", "interval", "adjusted p")
    least = float(result.attrs.get("threshold", 0.0)) * _scale(result)
    caption = (
        f"Growth: what a head's contribution gains, in logits, without what the final norm's scale makes of it; listed "
        f"from {number(least)} on, if significantly different from 0."
    )
    return Table(header, rows, backup_finding(result), caption, align="llrrr")


def prediction_table(result: xr.DataArray) -> Table:
    """The logit difference as it was, as it should be without the heads if nothing reacted, and as it is."""
    coords = {name: result.coords[name] for name in ("total", "own", "naive", "without")}
    lines = {
        "with all heads": coords["total"],
        f"of it, by {_out_said(result)}": coords["own"],
        "to be expected without": coords["naive"],
        "without": coords["without"],
        "others' growth together": _in_logits(result).sum(("layer", "head")),
        "more than expected": coords["without"] - coords["naive"],
    }
    tables = {said: summary(values) for said, values in lines.items()}
    rows = tuple(
        (said, number(float(t["mean"])), interval(float(t["low"]), float(t["high"]))) for said, t in tables.items()
    )
    more = tables["more than expected"]
    side = "more" if float(more["mean"]) >= 0 else "less"
    size = number(abs(float(more["mean"])))
    title = f"The logit difference without {_them(result)} is {size} {side} than if no head reacted{_chance(more)}"
    return Table(("logit difference", "mean", "interval"), rows, title, align="lrr")


def backup_finding(result: xr.DataArray) -> str:
    """Which heads make up for those that are out, and what the others gain together."""
    names, weakened = (result.attrs.get(what, []) for what in ("backups", "weakened"))
    out, grown = _out_said(result), _in_logits(result)
    ranked = top(grown, result[0].size, by="high")
    joint = summary(grown.sum(("layer", "head")))
    mean, low, high = (float(joint[column]) for column in ("mean", "low", "high"))
    verb = "gain" if mean >= 0 else "lose"
    together = f"all others {verb} {number(abs(mean))} logits together{spread(low, high)}{_chance(joint)}"
    if not names:
        less = [row for row in ranked if row.label in weakened][:_MOST_NAMED]
        also = f"; {with_values(less)} {'works' if len(less) == 1 else 'work'} against it less" if less else ""
        return f"No single head makes up for {out}{also}; {together}"
    shown = few([f"{row.label} ({number(row.mean)} logits)" for row in ranked if row.label in names], _MOST_NAMED)
    return f"Without {out}, {shown} {'makes' if len(names) == 1 else 'make'} up for it; {together}"


_DOES = {"backups": "makes up for it", "weakened": "works against it less"}
_MOST_NAMED = 4


def _run(result: xr.DataArray, run: str) -> xr.DataArray:
    name = {"before": "contribution before", "after": "contribution after"}.get(run, run)
    return result.sel(run=run, drop=True).assign_attrs(quantity=name)


def _scale_finding(result: xr.DataArray) -> str:
    """How much of the change is due to the final norm's scale."""
    ratio = float(result.coords["scale_ratio"].mean())
    change, scale = (
        float(_remaining(result, result.sel(run=run, drop=True)).sum(("layer", "head")).mean())
        for run in ("change", "from scale")
    )
    verb = "gain" if change >= 0 else "lose"
    part = f"though {number(scale)} are" if scale * change < 0 else f"of which {number(abs(scale))} are"
    due = f"{part} due to the final norm's scale (times {number(ratio)})"
    return f"The remaining heads {verb} {number(abs(change))} together, {due}"


def _remaining(result: xr.DataArray, values: xr.DataArray) -> xr.DataArray:
    """`values` with 0 for the heads that are out."""
    kept = values.copy()
    for layer, head in (node.head for node in _knocked_out(result)):
        kept.loc[{"layer": layer, "head": head}] = 0.0
    return kept


def _in_logits(result: xr.DataArray) -> xr.DataArray:
    """Growth in the unit of what else is said of the knockout."""
    attrs = {**result.attrs, "unit": "logits", "one": "one logit for the answer", "share_of": ""}
    return (result * _scale(result)).assign_attrs(attrs)


def _scale(result: xr.DataArray) -> float:
    return abs(float(result.coords["total"].mean()))


def _chance(table: xr.Dataset) -> str:
    return "" if significant(table).all() else ", not significantly different from 0"


def _knocked_out(result: xr.DataArray) -> list[Node]:
    """The heads among what was knocked out."""
    nodes = map(read_node, result.attrs.get("knocked_out", []))
    return [node for node in nodes if node.site in ("z", "result")]


def _out_said(result: xr.DataArray) -> str:
    nodes = map(read_node, result.attrs.get("knocked_out", []))
    parts = [node.short if node.site in ("z", "result") else str(node).replace("mlp", "MLP") for node in nodes]
    together = " together" if len(parts) > 1 else ""
    return (listed(parts) if len(parts) <= 4 else f"{len(parts)} heads") + together


def _them(result: xr.DataArray) -> str:
    return "them" if len(result.attrs.get("knocked_out", [])) > 1 else "it"
