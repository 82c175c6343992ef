"""What a result shows, in a sentence computed from it: the titles of figures.

One rule: the largest cells are named, with their sizes, and what the method claims of such cells (`Claim`); without a
claim, the highest and the lowest. A cell is named if it is significantly different from 0 (its adjusted p-value is at
most 0.05, or, if the prompts are too few for any adjusted p-value to be that small, its interval leaves out 0), and if
it is large: at least a twentieth of the scale (the gap between the baselines; the whole logit difference) and half as
large as the largest. Otherwise the title says that there is none, and the largest with its interval.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from unweave.nodes import read_node
from unweave.registry import Claim, method_of, referenced
from unweave.results.labels import number, p_value
from unweave.results.summary import significant
from unweave.results.top import Row, top
from unweave.views.certainty import LEVEL, testable
from unweave.views.scope import axes_lost, place_text, scope_of, spoken
from unweave.views.sense import Sense, measure, sense_of
from unweave.views.wording import capital, listed, percent, spread, visible


def largest(tables: Mapping[str, xr.Dataset]) -> str:
    """A title: the highest means, the lowest, and how many differ from 0.

    `Effect: 23.3 (0.51) and 20.0 (0.44) are highest, 29.0 (−0.24) is lowest; 21 of 270 cells differ from 0`
    """
    high = [row for row in top(tables, 3, by="high") if row.mean > 0]
    low = [row for row in top(tables, 1, by="low") if row.mean < 0]
    said = [f"{with_values(high)} {'is' if len(high) == 1 else 'are'} highest"] if high else []
    said += [f"{with_values(low)} is lowest"] if low else []
    what = " and ".join(dict.fromkeys(str(table.attrs.get("quantity", "mean")) for table in tables.values()))
    return f"{what.capitalize()}: {', '.join(said) or 'all cells are 0'}{_how_many_differ(tables)}"


def steepest(labels: Sequence[str], means: np.ndarray, what: str) -> str:
    """A title for a quantity that builds up along an axis: where it changes most, and where it ends."""
    known = np.flatnonzero(np.isfinite(means))
    steps = np.diff(means[known])
    if not len(steps):
        return what.capitalize()
    at = int(np.argmax(np.abs(steps)))
    way = "rises" if steps[at] > 0 else "falls"
    size, end = number(abs(float(steps[at]))), number(float(means[known[-1]]))
    return f"{what.capitalize()} {way} most at {labels[known[at + 1]]}, by {size}, and ends at {end}"


def with_values(rows: Sequence[Row]) -> str:
    """`23.3 (0.51), 20.0 (0.44) and 17.4 (0.33)`"""
    return listed([f"{f'{row.label} {visible(row.token)}'.strip()} ({number(row.mean)})" for row in rows])


def _how_many_differ(tables: Mapping[str, xr.Dataset]) -> str:
    if not all(testable(table.attrs) for table in tables.values()):
        return ""
    clear = sum(int((table["p_holm"] <= LEVEL).sum()) for table in tables.values())
    tests = sum(int(table.attrs["n_tests"]) for table in tables.values())
    return f"; {clear} of {tests} cells differ from 0" if tests else ""


LEAST, NEAR, MOST_NAMED, MOST_RECEIVERS = 0.05, 0.5, 3, 4
NOUNS = {
    "z": "output",
    "q": "query",
    "k": "key",
    "v": "value",
    "pattern": "attention pattern",
    "mlp_post": "activation",
    "resid_pre": "residual stream",
    "resid_mid": "residual stream",
    "resid_post": "residual stream",
    "attn_out": "attention output",
    "mlp_out": "MLP output",
    "mlp": "MLP",
    "layer": "layer",
    "result": "output",
}
# What a knockout puts in the place of what it takes out.
INSTEAD = {"zero": "zero", "mean": "the mean", "template": "the template's mean", "gaussian": "noise"}
RECEIVED = {"q": ("query", "queries"), "k": ("key", "keys"), "v": ("value", "values"), "": ("", "")}
Write = Callable[[float], str]
PLACES = ("pos", "role", "q_pos")


def finding(table: xr.Dataset) -> str:
    """The title that a result earns: what it is a part of, if it is a slice or a partial sweep, and what it shows.

    Args:
        table: the summary of a result of one site; of an attribution with the whole as its attribute `total`.
    """
    known, scope, dims = method_of(table.attrs), scope_of(table), table["mean"].dims
    said = ""
    if known and not axes_lost(table) and _tested(table):  # a mean over layers is no patch
        if known.title and dims:
            said = referenced(known.title)(table)
        elif known.claim and (not known.claim.change or {"metric", "direction"} <= set(table.attrs)):
            said = claimed(table, known.claim)  # a difference of two may lack either
    said = said or (largest({"": table}) if dims else value_finding(table))
    return said if said.startswith(scope) else spoken(scope, said)


def value_finding(table: xr.Dataset) -> str:
    """A result of one number."""
    ends = spread(float(table["low"]), float(table["high"]))
    return f"{measure(table.attrs).capitalize()}: {number(float(table['mean']))}{ends}"


def _all_stages(table: xr.Dataset) -> bool:
    """Whether a logit lens has every stage, so that its steps are single attentions, MLPs or layers."""
    if table["mean"].dims != ("stage",):
        return False
    first, last, n = str(table["stage"].values[0]), str(table["stage"].values[-1]), table.sizes["stage"] - 1
    layers = int(table.attrs.get("n_layers", n))
    return first == "0_pre" and last == "final" and ("n_layers" not in table.attrs or n in (layers, 2 * layers))


def _tested(table: xr.Dataset) -> bool:
    """Whether cells have intervals: one prompt, one cluster and averages have none."""
    known, zero = np.isfinite(table["low"].values), np.nan_to_num(table["mean"].values) == 0
    return bool((known & (~zero | zero.all())).any())  # a cell that is exactly 0 always has one


@dataclass(frozen=True)
class Leaders:
    """The cells worth naming: the largest of the main sign, and the largest against it. Both may be empty.

    `unsure` are cells that are larger than the named ones of their sign, and not significantly different from 0.
    """

    helping: tuple[Row, ...]
    against: tuple[Row, ...]
    unsure: tuple[Row, ...] = ()


def leaders(table: xr.Dataset, scale: float = 1.0, sign: int = 1) -> Leaders:
    """The cells of a summary that a title names.

    Args:
        table: a summary of one site.
        scale: what an effect of 1 is, in the unit of the table.
        sign: of the cells that help.
    """
    kept = table.copy()
    kept["mean"] = table["mean"].where(significant(table), 0.0)
    first = next(iter(top(kept, 1)), None)
    if first is None or abs(first.mean) < LEAST * abs(scale):
        return Leaders((), ())
    bound = NEAR * abs(first.mean)
    with_it, against_it = ("high", "low") if sign > 0 else ("low", "high")
    helping = [row for row in top(kept, MOST_NAMED, with_it) if row.mean * sign >= bound]
    against = [row for row in top(kept, 1, against_it) if -row.mean * sign >= max(bound / 2, LEAST * abs(scale))]
    unsure = []
    for by, way, known in ((with_it, sign, helping), (against_it, -sign, against)):
        floor = abs(known[0].mean) if known else bound
        unsure += [row for row in top(table, 1, by) if row.mean * way > floor]
    return Leaders(tuple(helping), tuple(against), tuple(unsure))


def lens_finding(table: xr.Dataset) -> str:
    """Where along the stages `0_pre, 0_mid, …, final` the answer is written; "" if some are left out."""
    if not _all_stages(table):
        return ""
    stages = [str(stage) for stage in table["stage"].values]
    mean = table["mean"].values
    final = float(mean[-1])
    if not bool(significant(table)[-1]):
        ends = spread(float(table["low"][-1]), float(table["high"][-1]))
        return f"No layer writes the answer: the final logit difference is {number(final)}{ends}"
    steps = np.diff(mean) * np.sign(final)
    half = stages[int(np.argmax(mean * np.sign(final) >= abs(final) / 2))]
    most = int(np.argmax(steps))
    said = f"Half of the final logit difference of {number(final)} is there {_reached(half)}"
    said += f"; the largest step is {_writer(stages[most], stages[most + 1])} (+{number(steps[most])})"
    peak = int(np.argmax(mean * np.sign(final)))
    if abs(mean[peak]) > 1.1 * abs(final):
        said += f"; it peaks at {number(float(mean[peak]))} {_reached(stages[peak])}, and falls"
    return said


def claimed(table: xr.Dataset, claim: Claim) -> str:
    """Which cells do what their method claims of cells, whatever the metric, direction and measure."""
    sense, dims = sense_of(table), set(map(str, table["mean"].dims))
    stream = str(table.attrs.get("site", "")).startswith("resid")
    if stream and len(dims) == 2 and "layer" in dims and dims & set(PLACES) and sense.plain:
        return where_finding(table, sense)
    total = float(table.attrs.get("total", np.nan)) if not sense.measure else np.nan
    # A change or a contribution has no scale of its own: what is large is measured by the whole, or by the largest.
    largest_mean = float(abs(table["mean"]).max()) if np.isnan(total) else total
    found = leaders(table, 1.0 if sense.measure in ("effect", "drop") else largest_mean, sense.carries)
    words, rows = _words(table), (*found.helping, *found.against)
    if not rows:
        none = claim.one if claim.one and table["mean"].size == 1 else claim.none
        of = "" if np.isnan(total) else f" of a logit difference of {number(total)}"
        return f"{none.format(**words)}: {largest_cell(table, sense.write)}{of}"
    places = {_at(row) for row in rows}
    # One place for all is said once; otherwise each cell names its own.
    shared = places.pop() if len(places) == 1 and len(rows) > 1 else ""
    said = [_helping(found.helping, claim, words, sense, shared)] if found.helping else []
    said += [_opposing(found.against[0], claim, words, sense, bool(shared))] if found.against else []
    text = "; ".join(said) if len(said) > 1 else said[0].replace("against it", "against the answer")
    return (capital(text) if text.startswith("layer") else text) + unsure_said(found, sense.write)


def _helping(rows: Sequence[Row], claim: Claim, words: Mapping[str, str], sense: Sense, shared: str) -> str:
    several, values = len(rows) > 1, [row.mean for row in rows]
    start = f"{_names(rows, bare=bool(shared))} {claim.does[several].format(**words)}{shared}"
    if not claim.change:
        return f"{start} ({listed(list(map(sense.write, values)))})"
    act, outcome = claim.restored if sense.good == sense.carries else claim.corrupted
    change = f"{claim.change[several].format(act=act, **words)}{' there' if shared else ''}"
    return f"{start}: {change} {sense.outcome(values, outcome)}"


def _opposing(row: Row, claim: Claim, words: Mapping[str, str], sense: Sense, bare: bool) -> str:
    higher = "rises" if row.mean * sense.rises > 0 else "falls"
    way = "gains" if sense.plain else f"is better: the {sense.metric} {higher} by"
    size = f"{sense.write(row.mean)} {sense.unit}".rstrip() if sense.measure == "change" else sense.write(row.mean)
    more = {"name": _names([row], bare), "size": size, "gains": f"{way} {sense.amount([row.mean])}"}
    return claim.against.format(**more, **words).replace("  ", " ")


def _words(table: xr.Dataset) -> dict[str, str]:
    """What a claim names of a result: what is changed, by what it is replaced, and through which receivers it acts."""
    site, dims = str(table.attrs.get("site", "")), table["mean"].dims
    part = NOUNS.get(site, "")
    whom = receivers_said(table.attrs.get("receivers", ["logits"]))
    through = "" if whom == "the logits" else f"through {whom}"
    return {
        "noun": part or next((name for name in ("head", "sender", "edge") if name in dims), "part"),
        "its": f"its {part}" if part else "it",
        "their": f"their {part}" if part else "them",
        "instead": INSTEAD.get(str(table.attrs.get("how", "")), "another prompt's"),
        "through": through,
        "how": through or f"directly on {whom}",
    }


def unsure_said(found: Leaders, write: Write) -> str:
    """The cells that are larger than those named, each with its interval and p-value, and that they may be chance."""
    cells = [
        f"{_names([row])} ({write(row.mean)}, {write(row.low)} to {write(row.high)}, adjusted {p_value(row.p_holm)})"
        for row in found.unsure
    ]
    return f"; large too, but not significantly different from 0: {listed(cells)}" if cells else ""


def receivers_said(receivers: Sequence[str]) -> str:
    """`["v 8.6", "v 8.10", "mlp 9"]` in words: `the values of 8.6 and 8.10 and MLP 9`."""
    if list(receivers) == ["logits"]:
        return "the logits"
    by_input: dict[str, list[str]] = {}
    for node in map(read_node, receivers):
        kind = node.site if node.site in RECEIVED else ""
        by_input.setdefault(kind, []).append(node.short if kind else str(node).replace("mlp", "MLP"))
    parts = []
    for kind, names in by_input.items():
        few = listed(names) if len(names) <= MOST_RECEIVERS else f"{len(names)} {'heads' if kind else 'MLPs'}"
        parts.append(f"the {RECEIVED[kind][len(names) > 1]} of {few}" if kind else few)
    return listed(parts)


def where_finding(table: xr.Dataset, sense: Sense) -> str:
    """Where the answer sits from layer to layer: the residual stream over (layer, place)."""
    place = next(str(dim) for dim in table["mean"].dims if dim in PLACES)
    effect = table["mean"].where(significant(table), 0.0).transpose("layer", place).sortby("layer") * sense.carries
    swept = effect["layer"].values.tolist()
    rows = zip(swept, effect.values, strict=True)
    runs = _runs([(layer, int(np.argmax(line))) for layer, line in rows if line.max() >= NEAR])
    if not runs:
        return f"No one position holds half of the answer: {largest_cell(table, percent)}"
    stays = [f"at {place_text(table, place, at)} {_layers(at_layers, swept, table.attrs)}" for at, *at_layers in runs]
    verb = "restores" if sense.good == sense.carries else "costs"
    return f"The answer is carried {listed(stays)}: there one position {verb} {percent(NEAR)} or more"


def _names(rows: Sequence[Row], bare: bool = False) -> str:
    names = [_unit(row) or _at(row).removeprefix(" at ") if bare else _unit_at(row) for row in rows]
    if len(rows) > 1 and all(re.fullmatch(r"layer \d+", name) for name in names):
        return "layers " + listed([name.removeprefix("layer ") for name in names])
    return listed(names)


def _unit_at(row: Row) -> str:
    return f"{_unit(row)}{_at(row)}" if _unit(row) else _at(row).removeprefix(" at ")


def _unit(row: Row) -> str:
    """A cell by its name on the picture, without its place: `23.3`, `layer 23 attn`."""
    unit, at, _ = row.label.partition(" @ ")
    return unit if at or not _at(row) else ""


def _at(row: Row) -> str:
    """Where a cell stands: ` at S2`, ` at token 12 ·gave`, ` from token 14 to token 4`; empty where it has no place."""
    where = row.where
    if "k_pos" in where:
        return f" from token {where['q_pos']} to token {where['k_pos']}"
    name = next((name for name in PLACES if name in where), None)
    if name is None:
        return ""
    return f" at {where[name]}" if name == "role" else f" at token {where[name]} {visible(row.token)}".rstrip()


def largest_cell(table: xr.Dataset, write: Write) -> str:
    """The largest of a summary's cells, for a title that found nothing."""
    row = next(iter(top(table, n=1)), None)
    if row is None:
        return "every effect is 0"
    value = f"{write(row.mean)}{spread(row.low, row.high, write)}"
    size = table["mean"].size
    return f"the effect is {value}" if size == 1 else f"the largest of {size} means is {value} at {_names([row])}"


def _reached(stage: str) -> str:
    if stage == "final":
        return "only after the last layer"
    layer, part = stage.split("_")
    return f"before layer {layer}" if part == "pre" else f"within layer {layer}"


def _writer(before: str, after: str) -> str:
    layer = before.split("_")[0]
    if after.endswith("_mid"):
        return f"layer {layer}'s attention"
    return f"layer {layer}'s MLP" if before.endswith("_mid") else f"layer {layer}"


def _runs(held: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(place, first layer, last layer) of each stretch of layers that hold the answer at one place."""
    runs: list[tuple[int, int, int]] = []
    for layer, place in held:
        if runs and runs[-1][0] == place and runs[-1][2] == layer - 1:
            runs[-1] = (place, runs[-1][1], layer)
        else:
            runs.append((place, layer, layer))
    return runs


def _layers(stretch: Sequence[int], swept: Sequence[int], attrs: Mapping) -> str:
    """A stretch of layers in words: it begins only where the layer before it was swept, and ends with the model."""
    first, last = stretch
    ends = last == int(attrs.get("n_layers", max(swept) + 1)) - 1
    if ends and first == last:
        return f"in the last layer, {last}"
    if ends and (first == 0 or first - 1 in swept):
        return f"from layer {first} on"
    return f"in layer {first}" if first == last else f"in layers {first} to {last}"
