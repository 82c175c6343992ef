"""What the tests of a circuit show, in a sentence computed from them.

The tests are the Datasets of `uw.evaluate`; F is the metric's mean over prompts, M the model, C the circuit, and K a
set of heads that is taken out of both.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from unweave.results.labels import number
from unweave.views.wording import counted, interval, listed, percent

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


def faithfulness_finding(table: xr.Dataset) -> str:
    """How much of the model's score the circuit has alone, above no head at all, and against the controls."""
    own, score = table.sel(kept="circuit"), table["score"].mean("prompt")
    mean, whole, none = (float(score.sel(kept=name)) for name in ("circuit", "model", "nothing"))
    parts = parts_of(table)
    heads = f"Alone, the circuit's {int(own[parts])} of {table.attrs.get(f'model_{parts}', '?')} {parts}"
    if scale_of(table, none, whole) == "ratio":
        said = f"{heads} give {percent(float(own['ratio']))}{_span(own)} of the model's {_metric(table)} "
        said += f"(F(C) {number(mean)}, F(M) {number(whole)})"
    else:
        said = f"{heads} have a mean {_metric(table)} of {number(mean)}, the model {number(whole)}"
    return "; ".join([said, floor_said(table), *filter(None, [controls_said(table)])])


def floor_said(table: xr.Dataset) -> str:
    """What no head (or edge) at all gives, and the circuit's share of what is above that."""
    own, score, part = table.sel(kept="circuit"), table["score"].mean("prompt"), parts_of(table).removesuffix("s")
    mean, whole, none = (float(score.sel(kept=name)) for name in ("circuit", "model", "nothing"))
    zero = table.sel(kept="nothing")
    gives = number(none)
    if scale_of(table, none, whole) == "ratio":
        gives = f"{percent(float(zero['ratio']))}{_span(zero)}"
    if good(table) * (mean - none) <= 0:
        return f"no better than no {part} at all ({gives})"
    if good(table) * (whole - none) <= 0 or "share" not in own.coords:
        return f"no {part} gives {gives}"
    share = f"{percent(float(own['share']))}{_span(own, 'share')}"
    return f"no {part} gives {gives}; from there the circuit covers {share} of the way to the model"


def controls_said(table: xr.Dataset) -> str:
    """What random circuits of the same size give, and where the circuit stands among them; "" if there are none."""
    random = [name for name in table["kept"].values if str(name).startswith("random")]
    if not random:
        return ""
    score = table["score"].mean("prompt")
    scale = scale_of(table, float(score.sel(kept="nothing")), float(score.sel(kept="model")))
    shown = table[scale].sel(kept=random).values if scale in table.coords else score.sel(kept=random).values
    write = percent if scale in table.coords else number
    worse = int((good(table) * (score.sel(kept="circuit") - score.sel(kept=random)) > 0).sum())
    spread = write(float(np.median(shown)))
    if len(random) > 1:
        spread = f"{spread} in the median, {write(float(shown.min()))} to {write(float(shown.max()))}"
    circuits = "a random circuit as large"
    if len(random) > 1:
        circuits = f"{len(random)} random circuits of as many {parts_of(table)}"
    return f"{circuits}: {spread}; the circuit is better than {worse} of {len(random)}"


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
    said = [f"{best} alone gives {write(values[min(1, last)])}{_span(table.isel(size=min(1, last)), scale)}"]
    for few in (3, 6):
        if few in sizes and sizes[-1] > few:
            said.append(f"the {first} {few} {write(values[sizes.index(few)])}")
    if sizes[-1] > 1:
        said.append(f"all {sizes[-1]} {write(values[-1])}; without {best} the others give {write(without[1])}")
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
    members = members_of(table, worst["removed"].item())
    scores = ", ".join(
        f"F({name} \\ K) {number(float(worst[key].mean()))}" for name, key in (("C", "circuit"), ("M", "model"))
    )
    label = worst["removed"].item()
    which = (
        f"without {_heads(members)}" if members else f"without {label}" if label != "none" else "with nothing removed"
    )
    where = f"{which}: {scores}, of F(M) {number(_whole(table))}"
    if failed.any():
        return (
            f"Not complete: circuit and model differ for {int(failed.sum())} of {counted(many, 'set')} K, most {where}"
        )
    return f"For none of {counted(many, 'set')} K circuit and model are clearly apart; they differ most {where}"


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


def _heads(names: Sequence[str]) -> str:
    if len(names) <= _MOST_NAMED:
        return listed(names)
    return f"{', '.join(names[:_MOST_NAMED])} and {len(names) - _MOST_NAMED} more"


def _metric(table: xr.Dataset) -> str:
    return str(table.attrs.get("metric", table.attrs.get("quantity", "score")))


def _whole(table: xr.Dataset) -> float:
    """F(M), on the prompts of the table."""
    return float(table["model"].isel(removed=int(np.argmax(table["size"].values == 0))).mean())


def _span(row: xr.Dataset, name: str = "ratio") -> str:
    """The interval of a share; "" where there is none."""
    if f"{name}_low" not in row.coords or not np.isfinite(float(row[f"{name}_low"])):
        return ""
    return f" ({percent(float(row[f'{name}_low']))} to {percent(float(row[f'{name}_high']))})"


def _of(table: xr.Dataset, scale: str) -> str:
    """What shares are of."""
    if not scale:
        return f" ({_metric(table)})"
    floor = parts_of(table).removesuffix("s")
    return f" of the model's {_metric(table)}" if scale == "ratio" else f" of the way from no {floor} to the model"
