"""The tests of a circuit as pictures: faithfulness as a table and a curve, completeness as dots, minimality as bars."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from unweave.results.labels import number
from unweave.views import theme
from unweave.views.blocks import Block, Details, Figure, Table
from unweave.views.charts.arrange import NARROW, WIDE, Layout, framed, single
from unweave.views.charts.bars import rows_axis, whiskers
from unweave.views.charts.lines import lines
from unweave.views.charts.scatter import scatter
from unweave.views.circuit_drawing import group_colours
from unweave.views.circuit_layout import halves_said
from unweave.views.evaluation_findings import (
    changed,
    completeness_finding,
    completeness_rows,
    curve_finding,
    faithfulness_finding,
    members_of,
    minimality_finding,
    parts_of,
    scale_of,
)
from unweave.views.wording import capital, counted, interval, label, percent, prompts_of

# What each kind of K is called.
_KINDS = {"none": "nothing", "group": "a group", "random": "random heads", "greedy": "found by greedy search"}
_ROW = 18


def faithfulness_table(table: xr.Dataset) -> Table:
    """F of the model, of the circuit, of no head, and of random circuits, with difference, ratio and share."""
    own = [name for name in table["kept"].values if not str(name).startswith("random")]
    rows = [_kept_row(table.sel(kept=name), str(name)) for name in own]
    random = table.sel(kept=[name for name in table["kept"].values if name not in own])
    if random.sizes["kept"]:
        rows.append(_random_row(random))
    unit = str(table.attrs.get("metric_unit", ""))
    parts = parts_of(table)
    header = ("what is kept", parts, f"F ({unit})" if unit else "F")
    header += tuple(name for what in scales_of(table).values() for name in (what, "interval"))
    where = ", at the same roles" if parts == "heads" else ", grown at random from the logits backwards"
    said = (
        f"{_how(table)} Nothing is clamped. Random circuits have as many {parts}{where}; "
        "of them the range replaces an interval."
    )
    return Table(header, tuple(rows), faithfulness_finding(table), said, align="l" + "r" * (len(header) - 1))


def control_table(table: xr.Dataset) -> Table:
    """Every random circuit, with its heads."""
    random = [str(name) for name in table["kept"].values if str(name).startswith("random")]
    rows = [(*_kept_row(table.sel(kept=name), name), " ".join(members_of(table, name))) for name in random]
    scales = (name for what in scales_of(table).values() for name in (what, "interval"))
    header = ("circuit", parts_of(table), "F", *scales, "which")
    return Table(header, tuple(rows), align="l" + "r" * (len(header) - 2) + "l")


def _kept_row(row: xr.Dataset, name: str) -> tuple[str, ...]:
    cells = []
    for what in _SCALES:
        known = what in row.coords and name != "model"
        cells += [number(float(row[what])) if known else "–"]
        cells += [interval(float(row[f"{what}_low"]), float(row[f"{what}_high"])) if known else "–"]
    kept = {**_KEPT, "nothing": f"no {part_of(row)}"}.get(name, name)
    return (kept, str(int(row[parts_of(row)])), number(float(row["score"].mean())), *cells)


def _random_row(random: xr.Dataset) -> tuple[str, ...]:
    """The median of random circuits, with the range in place of intervals."""
    cells = []
    for what in _SCALES:
        values = random[what].values if what in random.coords else np.array([np.nan])
        cells += [number(float(np.median(values))), interval(float(values.min()), float(values.max()))]
    mean = number(float(random["score"].mean("prompt").median()))
    name = f"{counted(random.sizes['kept'], 'random circuit')}, median"
    return (name, str(int(random[parts_of(random)].max())), mean, *cells)


def curve_lines(table: xr.Dataset) -> go.Figure:
    """F of the best heads alone, and of the circuit without them, as one head after the other joins."""
    score = table["score"].mean("prompt").values
    scale = scale_of(table, float(score[0]), float(table["difference"][0]) + float(score[0]))
    parts = parts_of(table)
    names = [f"{size}: +{name}" if name else f"no {part_of(table)}" for size, name in zip(
        table["size"].values, table["address"].values, strict=True
    )]  # fmt: skip
    share = f"share of the way from no {part_of(table)} to the model"
    quantity = {"ratio": "F / F(M)", "share": share}.get(scale, "F")
    about = {"quantity": quantity, "unit": "", "n_prompts": _n_measured(table)}
    both = {
        f"these {parts} alone": _as_summary(table, "score", scale, names, about),
        "the circuit without them": _as_summary(table, "rest", f"rest_{scale}" if scale else "", names, about),
    }
    figure = lines(both, x="heads", title=curve_finding(table))
    first = "the best first" if parts == "heads" else "the largest effects first"
    figure.update_xaxes(title_text=f"{parts}, {first}; each joins those before it")
    return figure


def _as_summary(
    table: xr.Dataset, column: str, scale: str, names: list[str], about: Mapping[str, str | int]
) -> xr.Dataset:
    """A line of the curve, as a summary over prompts is drawn."""
    mean = table[scale].values if scale else table[column].mean("prompt").values
    ends = [table[f"{scale}{end}"].values if scale else np.full(len(mean), np.nan) for end in ("_low", "_high")]
    unknown = np.full(len(mean), np.nan)
    columns = {"mean": mean, "low": ends[0], "high": ends[1], "p": unknown, "p_holm": unknown}
    arrays = {name: ("heads", values) for name, values in columns.items()}
    n = ("heads", np.full(len(mean), int(about["n_prompts"])))
    return xr.Dataset({**arrays, "n": n}, {"heads": names}, {**table.attrs, **about, "zero": "", "one": ""})


def completeness_scatter(table: xr.Dataset) -> Figure:
    """F(C \\ K) against F(M \\ K), a sign for each kind of K. A complete circuit has all points on the line."""
    sets = table.rename(removed="address")
    unit = str(table.attrs.get("unit", ""))
    circuit, model = (
        sets[name].assign_attrs(quantity=f"F({letter} \\ K), {name} without K", unit=unit, n_prompts=_n_measured(table))
        for name, letter in (("circuit", "C"), ("model", "M"))
    )
    kinds = {kind: name.replace("heads", parts_of(table)) for kind, name in _KINDS.items()}
    groups = zip(map(str, sets["address"].values), map(str, sets["kind"].values), strict=True)
    figure = scatter(circuit, model, colour={name: kinds[kind] for name, kind in groups}, diagonal=True, misses=True)
    caption = f"A point for each set K; on the line, circuit and model do alike without it. {_how(table)}"
    return Figure(figure, completeness_finding(table), caption)


def completeness_table(table: xr.Dataset) -> Table:
    """Every K with its heads or edges, both scores, and their difference."""
    header = ("K", parts_of(table), "F(C \\ K)", "F(M \\ K)", "difference", "interval")
    return Table(header, tuple(completeness_rows(table)), align="llrrrr")


def minimality_bars(table: xr.Dataset, colours: Mapping[str, str] | None = None) -> go.Figure:
    """What each head adds to the circuit without its K, as a share of F(M), coloured by group."""
    groups = list(dict.fromkeys(str(group) for group in table["group"].values))
    palette = {**group_colours(groups), **(colours or {})}
    order = np.argsort([groups.index(str(group)) for group in table["group"].values], kind="stable")
    rows = table.isel(address=order)
    figure = go.Figure()
    for group in groups:
        _bars(figure, rows, group, palette.get(group, theme.NEUTRAL))
    names = [str(name) for name in rows["address"].values]
    figure.update_layout(
        xaxis={"title": {"text": "change of F, as a share of F(M)"}, "tickformat": ".0%", "zeroline": True},
        yaxis=rows_axis(len(names)) | {"ticktext": [label(name) for name in names]},
        bargap=0.25,
        showlegend=True,
    )
    doubt = " Pale bars: the interval holds 0." if _unsure(rows).any() else ""
    rule = "K: what the circuit names for a head, else the rest of its group."
    caption = f"(F(C \\ K) − F(C \\ (K + head))) / F(M). {rule}{doubt} {_how(table)}"
    layouts = [_bar_layout(width, names, groups) for width in (WIDE, NARROW)]
    return framed(figure, minimality_finding(table), caption, *layouts)


def evaluation_blocks(table: xr.Dataset, colours: Mapping[str, str] | None = None) -> list[Block]:
    """The pictures of one of the tests, which its `method` names."""
    if table.attrs.get("method") == "faithfulness":
        controls = control_table(table)
        more = [Details(f"The {counted(len(controls.rows), 'random circuit')}", (controls,))] if controls.rows else []
        return [faithfulness_table(table), *more]
    if table.attrs.get("method") == "faithfulness curve":
        return [Figure(curve_lines(table), "", _prompts(table))]
    if table.attrs.get("method") == "completeness":
        many = f"All {table.sizes['removed']} sets K"
        return [completeness_scatter(table), Details(many, (completeness_table(table),))]
    return [Figure(minimality_bars(table, colours))]


_SCALES = ("difference", "ratio", "share")
_KEPT = {"model": "the model", "circuit": "the circuit"}


def part_of(table: xr.Dataset) -> str:
    """What the circuit is made of, one of it: head or edge."""
    return parts_of(table).removesuffix("s")


def scales_of(table: xr.Dataset) -> dict[str, str]:
    """The scales of scores, as a table's columns."""
    return dict(zip(_SCALES, ("F(M) − F", "F / F(M)", f"above no {part_of(table)}"), strict=True))


def _how(table: xr.Dataset) -> str:
    """What replaces the heads or edges that are ablated, and what intervals are."""
    means = {"template": "their mean by template", "mean": "their mean", "zero": "zero", "resample": "another prompt's"}
    means["donor"] = "the corrupted prompts' values"
    how, source = (str(table.attrs.get(name, "")) for name in ("how", "source"))
    of = f" over the {source} prompts" if source in ("clean", "corrupted") and how in ("template", "mean") else ""
    text = f"{parts_of(table).capitalize()} that are not kept: {means.get(how, how)}{of}. " if how else ""
    return text + _prompts(table)


def _prompts(table: xr.Dataset) -> str:
    """What intervals are, and on which prompts something was chosen."""
    level, n = float(table.attrs.get("level", 0.95)), _n_measured(table)
    over = prompts_of({"n_clusters": n, **table.attrs, "n_prompts": n})
    halves = halves_said(table.attrs)
    said = f"{capital(halves)}. " if halves else ""
    return said + (f"Intervals: {percent(level)} over {over}." if n > 1 else "One prompt: no interval.")


def _n_measured(table: xr.Dataset) -> int:
    return int(table.attrs.get("measured_on", table.sizes.get("prompt", 1)))


def _bars(figure: go.Figure, rows: xr.Dataset, group: str, colour: str) -> None:
    chosen = np.flatnonzero(rows["group"].values == group)
    table = rows.isel(address=chosen)
    share, low, high = (table[name].values for name in ("share", "share_low", "share_high"))
    hover = [
        (label(str(row["address"].item())),
         label(" ".join(table.attrs["members"][row["address"].item()]) or "no other head"),
         percent(float(lo)), percent(float(hi)), label(changed(row)))
        for row, lo, hi in zip((table.isel(address=n) for n in range(len(chosen))), low, high, strict=True)
    ]  # fmt: skip
    figure.add_bar(
        x=share,
        y=chosen,
        orientation="h",
        name=label(group),
        marker={"color": colour, "opacity": np.where(_unsure(table), 0.35, 0.95)},
        error_x=whiskers(share, low, high),
        customdata=hover,
        hovertemplate=(
            f"<b>%{{customdata[0]}}</b> ({label(group)})<br>%{{customdata[4]}}, interval %{{customdata[2]}} to "
            "%{customdata[3]}<br>K: %{customdata[1]}<extra></extra>"
        ),
    )


def _unsure(table: xr.Dataset) -> np.ndarray:
    return (table["share_low"].values <= 0) & (table["share_high"].values >= 0)


def _bar_layout(width: int, names: list[str], groups: list[str]) -> Layout:
    base = single(width, legend=groups, height=_ROW * max(len(names), 3))
    return Layout(base.height, 16 + round(6.6 * max(map(len, names))), base.right, base.top, base.bottom, base.updates)
