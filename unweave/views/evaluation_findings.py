"""What the tests of a circuit show, in a sentence computed from them.

The tests are the Datasets of `uw.evaluate`; F is the metric's mean over prompts, M the model, C the circuit, and K a
set of heads that is taken out of both.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from unweave.results.labels import number
from unweave.views.wording import counted, few, interval, percent, spread

_MOST_NAMED = 4
# Smaller gaps, as a share of F(M), are no failure of completeness.
TOLERANCE = 0.05


def good(table: xr.Dataset) -> int:
    """1 where a higher score is better, -1 where a lower one is."""
    return -1 if table.attrs.get("better") == "lower" else 1


def parts_of(table: xr.Dataset) -> str:
    """What the circuit is made of: heads or edges."""
    return str(table.attrs.get("parts", "heads"))


def members_of(table: xr.Dataset, label: str) -> list[str]:
    """The heads of a set, by its label; of edges none are told."""
    return table.attrs.get("members", {}).get(label, [])


def scale_of(table: xr.Dataset, none: float, whole: float) -> str:
    """What scores are told as shares of: `ratio`, F / F(M), where more is better from 0 on, else `share`, the way from
    F(no head) to F(M).
    """
    return "ratio" if good(table) > 0 and whole > 0 else "share" if good(table) * (whole - none) > 0 else ""


@dataclass(frozen=True)
class Scores:
    """F of the circuit, of the model, and of no head (or edge) at all; and what they are told as shares of."""

    circuit: float
    model: float
    nothing: float
    scale: str


def scores_of(table: xr.Dataset) -> Scores:
    """The scores of a test of faithfulness."""
    score = table["score"].mean("prompt")
    circuit, model, nothing = (float(score.sel(kept=name)) for name in ("circuit", "model", "nothing"))
    return Scores(circuit, model, nothing, scale_of(table, nothing, model))


def faithfulness_finding(table: xr.Dataset) -> str:
    """How much of the model's score the circuit has by itself, above no head at all, and against the controls."""
    own, scores, parts = table.sel(kept="circuit"), scores_of(table), parts_of(table)
    metric, numbers = _metric(table), (number(scores.circuit), number(scores.model))
    said = f"By themselves, the circuit's {int(own[parts])} of {table.attrs.get(f'model_{parts}', '?')} {parts} "
    if scores.scale == "ratio":
        said += f"give {share_said(own, 'ratio')} of the model's {metric} (F(C) {numbers[0]}, F(M) {numbers[1]})"
    else:
        said += f"have a mean {metric} of {numbers[0]}, the model {numbers[1]}"
    return "; ".join(filter(None, (said, floor_said(table), controls_said(table))))


def floor_said(table: xr.Dataset) -> str:
    """What no head (or edge) at all gives, and the circuit's share of what is above that."""
    own, scores, part = table.sel(kept="circuit"), scores_of(table), parts_of(table).removesuffix("s")
    zero = table.sel(kept="nothing")
    gives = share_said(zero, "ratio") if scores.scale == "ratio" else number(scores.nothing)
    if good(table) * (scores.circuit - scores.nothing) <= 0:
        return f"no better than no {part} at all ({gives})"
    if good(table) * (scores.model - scores.nothing) <= 0 or "share" not in own.coords:
        return f"no {part} gives {gives}"
    return f"no {part} gives {gives}; from there the circuit covers {share_said(own, 'share')} of the way to the model"


def controls_said(table: xr.Dataset) -> str:
    """What random circuits of the same size give, and where the circuit is among them; "" if there are none."""
    random = [name for name in table["kept"].values if str(name).startswith("random")]
    if not random:
        return ""
    score, scale = table["score"].mean("prompt"), scores_of(table).scale
    shown = table[scale].sel(kept=random).values if scale in table.coords else score.sel(kept=random).values
    write = percent if scale in table.coords else number
    worse = int((good(table) * (score.sel(kept="circuit") - score.sel(kept=random)) > 0).sum())
    middle, better = write(float(np.median(shown))), f"the circuit is better than {worse} of {len(random)}"
    if len(random) == 1:
        return f"a random circuit as large: {middle}; {better}"
    ends = f"{middle} in the median, {write(float(shown.min()))} to {write(float(shown.max()))}"
    return f"{len(random)} random circuits of as many {parts_of(table)}: {ends}; {better}"


def curve_finding(table: xr.Dataset) -> str:
    """How much the best head and the best few heads give, and the circuit without the best."""
    score, rest = (table[name].mean("prompt").values for name in ("score", "rest"))
    scale = scale_of(table, float(score[0]), float(table["difference"][0]) + float(score[0]))
    write = percent if scale else number
    values, without = (table[scale].values, table[f"rest_{scale}"].values) if scale else (score, rest)
    values, without, sizes = values.tolist(), without.tolist(), table["size"].values.tolist()
    last = len(sizes) - 1
    best = str(table["address"].values[min(1, last)])
    first = "best" if parts_of(table) == "heads" else "largest"
    said = [f"{best} by itself gives {write(values[min(1, last)])}{_span(table.isel(size=min(1, last)), scale)}"]
    for n in (3, 6):
        if n in sizes and sizes[-1] > n:
            said.append(f"the {first} {n} give {write(values[sizes.index(n)])}")
    if sizes[-1] > 1:
        said.append(f"all {sizes[-1]} give {write(values[-1])}; without {best} the others give {write(without[1])}")
    return ", ".join(said) + _of(table, scale)


def fails(table: xr.Dataset) -> np.ndarray:
    """The sets K without which circuit and model are apart: by more than 5 % of F(M), and beyond the interval."""
    low, high = table["difference_low"].values, table["difference_high"].values
    apart = table["gap"].values > TOLERANCE * abs(_whole(table))
    return apart & ~((low <= 0) & (high >= 0))


def completeness_finding(table: xr.Dataset) -> str:
    """Whether circuit and model stay alike without the same heads, and where they are furthest apart."""
    failed, many = fails(table), table.sizes["removed"]
    gap = table["gap"].values
    worst = table.isel(removed=int(np.argmax(np.where(failed, gap, -1.0) if failed.any() else gap)))
    label = worst["removed"].item()
    removed = few(members_of(table, label), _MOST_NAMED) or label
    which = "with nothing removed" if removed == "none" else f"without {removed}"
    circuit, model = (number(float(worst[name].mean())) for name in ("circuit", "model"))
    where = f"{which}: F(C \\ K) {circuit}, F(M \\ K) {model}, of F(M) {number(_whole(table))}"
    sets = counted(many, "set")
    if failed.any():
        return f"Not complete: circuit and model differ for {int(failed.sum())} of {sets} K, most {where}"
    return f"For none of {sets} K do circuit and model clearly differ; they differ most {where}"


def minimality_counts(table: xr.Dataset) -> tuple[int, int]:
    """How many heads help the answer, and how many work against it, beyond their interval."""
    clear = (table["share_low"] > 0) | (table["share_high"] < 0)
    change = good(table) * (table["without_k"] - table["without_both"]).mean("prompt")
    return int((clear & (change > 0)).sum()), int((clear & (change < 0)).sum())


def minimality_finding(table: xr.Dataset) -> str:
    """How many of the circuit's heads help and how many work against the answer, which matters most and which least."""
    n = table.sizes["address"]
    helping, against = minimality_counts(table)
    sizes = table["size"].values
    most, least = (table.isel(address=int(pick)) for pick in (np.argmax(sizes), np.argmin(sizes)))
    known = np.isfinite(table["share_low"].values).any()
    clear = helping + against
    said = f"{clear or 'none'} of {counted(n, 'head')} {'matters' if clear < 2 else 'matter'} beyond the interval"
    said += f", {helping} helping and {against} working against the answer" if clear else ""
    said = said if known else counted(n, "head")
    first = f"{most['address'].item()} changes F most, by {changed(most)}"
    return f"{said}: {first}" if n == 1 else f"{said}: {first}, {least['address'].item()} least, by {changed(least)}"


def changed(row: xr.Dataset) -> str:
    """What a head changes F by: as a share of F(M), and in the metric's unit."""
    change = float((row["without_k"] - row["without_both"]).mean())
    unit = str(row.attrs.get("metric_unit", ""))
    return f"{percent(float(row['share']))} of F(M) ({f'{number(change)} {unit}'.rstrip()})"


def completeness_rows(table: xr.Dataset) -> list[tuple[str, ...]]:
    """Of each K: its label, its heads, F(C \\ K), F(M \\ K), and their difference with its interval."""
    mean = table[["circuit", "model"]].mean("prompt")
    rows = []
    for place, label in enumerate(table["removed"].values):
        row, means = table.isel(removed=place), mean.isel(removed=place)
        members = " ".join(members_of(table, label)) or "–"
        spread = interval(float(row["difference_low"]), float(row["difference_high"]))
        scores = [number(float(means[name])) for name in ("circuit", "model")]
        rows.append((str(label), members, *scores, number(float(row["difference"])), spread))
    return rows


def _metric(table: xr.Dataset) -> str:
    return str(table.attrs.get("metric", table.attrs.get("quantity", "score")))


def _whole(table: xr.Dataset) -> float:
    """F(M), on the prompts of the table."""
    return float(table["model"].isel(removed=int(np.argmax(table["size"].values == 0))).mean())


def _span(row: xr.Dataset, name: str) -> str:
    """The interval of a share; "" if there is none."""
    known = f"{name}_low" in row.coords
    return spread(float(row[f"{name}_low"]), float(row[f"{name}_high"]), percent) if known else ""


def share_said(row: xr.Dataset, name: str) -> str:
    """A share and its interval."""
    return f"{percent(float(row[name]))}{_span(row, name)}"


def _of(table: xr.Dataset, scale: str) -> str:
    """What shares are of."""
    if not scale:
        return f" ({_metric(table)})"
    floor = parts_of(table).removesuffix("s")
    return f" of the model's {_metric(table)}" if scale == "ratio" else f" of the way from no {floor} to the model"
