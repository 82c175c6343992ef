"""Curves of edge circuits: how much of the score the first edges give, one curve or several side by side.

    f = (m(C) - m(none)) / (m(M) - m(none))

C keeps the first edges, M all of them. CMD is the area between f and 1, CPR that under f, over the share of edges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from unweave.results.labels import number
from unweave.results.summary import summaries, summary
from unweave.views.blocks import Block, Details, Figure, Table, Text
from unweave.views.charts.lines import lines
from unweave.views.theme import NEUTRAL
from unweave.views.wording import Result, capital, interval, label, listed, percent, spread

_MOST = 0.8
# A smaller share of the score is a rounding error, and no scale.
_LEAST = 1e-9
_UNKNOWN = float("nan")
# What tells curves apart, of those that differ in it.
_OF = {"scores": "{}", "by": "by {}", "dead_ends": "dead ends {}", "ablated": "{}"}
_HOW = {
    "scores": "Effects are",
    "by": "Edges are kept by",
    "dead_ends": "Dead ends are",
    "ablated": "Edges that are not kept carry",
}


@dataclass(frozen=True)
class _Curve:
    """A curve: `f` is a summary along `share`, `cmd` and `cpr` are value, low and high."""

    result: xr.DataArray
    f: xr.Dataset
    cmd: tuple[float, float, float]
    cpr: tuple[float, float, float]


def curve_blocks(results: Result | Sequence[Result]) -> list[Block]:
    """The curve of a result of `uw.curve`, or of several in one figure; with its areas, and every point in a table.

    Args:
        results: scores `[prompt, share]` with the scores without and with all edges, or several. Averages and
            summaries no longer know these: their scores are drawn as they are.
    """
    given = [results] if isinstance(results, (xr.DataArray, xr.Dataset)) else list(results)
    names = curve_names(given)
    whole = [one for one in given if isinstance(one, xr.DataArray) and {"none", "whole"} <= set(one.coords)]
    if len(whole) < len(given):
        tables = {name: next(iter(summaries(result).values())) for name, result in zip(names, given, strict=True)}
        return [Figure(lines(tables, x="share", log=True))]
    curves = {name: _curve(result) for name, result in zip(names, whole, strict=True)}
    known = {name: curve for name, curve in curves.items() if np.isfinite(curve.f["mean"].values).any()}
    if not known:
        return [Text(("The curve has no scale: with and without all edges the score is the same",))]
    figure = lines({name: curve.f for name, curve in known.items()}, x="share", log=True, title=_found(known))
    figure.update_xaxes(title_text="share of the edges kept")
    for place, said in ((0, "no edge"), (1, "all edges")):
        line = {"color": NEUTRAL, "width": 1.2, "dash": "dash"}
        figure.add_hline(y=place, line=line, annotation={"text": label(said), "font": {"size": 11, "color": NEUTRAL}})
    return [Figure(figure, note=_how(given)), _areas_table(curves), Details("Every point", (_points_table(curves),))]


def curve_names(results: Sequence[Result]) -> list[str]:
    """What each curve is called: its own name, or in what it differs from the others; no two are the same."""
    differ = {name for name in _OF if len({str(result.attrs.get(name, "")) for result in results}) > 1}
    names: list[str] = []
    for result in results:
        said = ", ".join(form.format(result.attrs.get(name, "")) for name, form in _OF.items() if name in differ)
        own = str(getattr(result, "name", "") or said or f"by {result.attrs.get('by', 'size')}")
        names.append(own if own not in names else f"{own} ({len(names) + 1})")
    return names


def _curve(result: xr.DataArray) -> _Curve:
    none, whole = result["none"], result["whole"]
    gap = float((whole - none).mean())
    gap = gap if abs(gap) > _LEAST * float(abs(whole).max()) else _UNKNOWN
    what = {"quantity": "faithfulness f", "unit": "", "share_of": "whole none", "zero": "", "one": ""}
    attrs = {name: value for name, value in result.attrs.items() if name != "measure"} | what
    f = ((result - none) / gap).transpose(..., "share").assign_attrs(attrs)
    table = summary(f)
    order = np.argsort(table["share"].values)
    x, y = table["share"].values[order], table["mean"].values[order]
    areas = [_area(x, values) for values in (np.abs(1 - y), y)]
    cmd, cpr = ((area, *_ends(result, name, area)) for name, area in zip(("cmd", "cpr"), areas, strict=True))
    return _Curve(result, table.isel(share=order), cmd, cpr)


def _area(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.trapezoid(y, x)) if len(x) > 1 else float(y[0])


def _ends(result: xr.DataArray, name: str, area: float) -> tuple[float, float]:
    """The interval of an area, if it is that of this very curve: a slice keeps the attributes of the whole."""
    known = float(result.attrs.get(name, _UNKNOWN))
    alike = np.isclose(known, area, rtol=1e-3, atol=1e-6)
    low, high = (float(result.attrs.get(f"{name}_{end}", _UNKNOWN)) for end in ("low", "high"))
    return (low, high) if alike else (_UNKNOWN, _UNKNOWN)


def _found(curves: Mapping[str, _Curve]) -> str:
    """Of one curve how few edges give most of the score; of several whose areas are nearest to all of it, or how few
    edges of each give most if they are not over the same shares."""
    alike = len({tuple(curve.f["share"].values.tolist()) for curve in curves.values()}) == 1
    if len(curves) > 1 and not alike:
        return capital("; ".join(f"{name}: {_enough(curve)}" for name, curve in curves.items()))
    if len(curves) > 1:
        order = sorted(curves, key=lambda name: np.nan_to_num(curves[name].cmd[0], nan=np.inf))
        told = [f"{name} {_with_interval(curves[name].cmd)}" for name in order]
        return f"CMD, the smaller the better: {listed(told)}"
    (curve,) = curves.values()
    areas = f"CMD {_with_interval(curve.cmd)}, CPR {_with_interval(curve.cpr)}"
    return f"{_enough(curve)} of the score that all edges give; {areas}"


def _enough(curve: _Curve) -> str:
    """The fewest edges that give most of the score, or those that give the most."""
    f = curve.f["mean"].values
    enough = np.flatnonzero(f >= _MOST)
    at = int(enough[0]) if len(enough) else int(np.nanargmax(f))
    edges = f"{percent(float(curve.f['share'].values[at]))} of the edges"
    edges += f" ({int(curve.f['asked'].values[at])})" if "asked" in curve.f.coords else ""
    return f"{edges} give {percent(float(f[at]))}"


def _with_interval(value: tuple[float, float, float]) -> str:
    return number(value[0]) + spread(*value[1:])


def _how(results: Sequence[Result]) -> str:
    """What the numbers are, and what all curves have in common."""
    said = ["f is the circuit's score, from that without edges (0) to that with all (1), not clamped."]
    shared = {name: {str(result.attrs.get(name, "")) for result in results} for name in _OF}
    alike = {name: values.pop() for name, values in shared.items() if len(values) == 1}
    said += [f"{_HOW[name]} {value}." for name, value in alike.items() if value]
    return " ".join(said)


def _areas_table(curves: Mapping[str, _Curve]) -> Table:
    spans = {name: curve.f["share"].values[[0, -1]] for name, curve in curves.items()}
    rows = tuple(
        (name, " to ".join(map(percent, spans[name])), _with_interval(curve.cmd), _with_interval(curve.cpr))
        for name, curve in curves.items()
    )
    said = "CMD: area between f and 1. CPR: area under f, which leaving out edges that work against the answer raises."
    return Table(("curve", "over", "CMD", "CPR"), rows, "", said, align="llrr")


def _points_table(curves: Mapping[str, _Curve]) -> Table:
    rows = []
    for name, curve in curves.items():
        table, scores = curve.f, curve.result
        mean = (scores.mean("prompt") if "prompt" in scores.dims else scores).sel(share=table["share"])
        for place in range(table.sizes["share"]):
            counts = [
                str(int(table[each].values[place])) if each in table.coords else "–" for each in ("asked", "kept")
            ]
            low, high = (float(table[end].values[place]) for end in ("low", "high"))
            f = number(float(table["mean"].values[place]))
            share = percent(float(table["share"].values[place]))
            rows.append((name, share, *counts, number(float(mean.values[place])), f, interval(low, high)))
    metric = str(next(iter(curves.values())).result.attrs.get("metric", "score"))
    header = ("curve", "share", "edges", "without dead ends", metric, "f", "interval")
    return Table(header, tuple(rows), align="lrrrrrr")
