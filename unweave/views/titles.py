"""What a result shows, in a sentence computed from it: the titles of figures.

Every sentence is chosen by the numbers, and says so where there is nothing to find. A cell counts as found when it is
told from 0: its adjusted p-value is at most 0.05, or, where the prompts are too few for any adjusted p-value to be that
small, its interval leaves out 0. Cells are named when they are also large: at least a twentieth of the scale (the gap
between the baselines; the whole logit difference) and half as large as the largest.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from unweave.results.labels import cell_label, number
from unweave.results.top import Row, top
from unweave.views.baselines import Baseline
from unweave.views.prompts import real_tokens
from unweave.views.text import visible
from unweave.views.wording import counted, interval, listed, percent

if TYPE_CHECKING:
    import xarray

LEVEL, LEAST, NEAR, MOST_NAMED = 0.05, 0.05, 0.5, 3
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
}
PARTS = {"attn": "attention", "mlp": "MLP"}
Write = Callable[[float], str]
_OWN = "that token itself"
PLACES = ("pos", "role", "q_pos")


@dataclass(frozen=True)
class Leaders:
    """The cells worth naming: the largest of the main sign, and the largest against it. Both may be empty."""

    helping: tuple[Row, ...]
    against: tuple[Row, ...]


def told_from_zero(table: "xarray.Dataset") -> Bool[np.ndarray, "..."]:
    """Which cells of a summary differ from 0 by more than the choice of prompts explains."""
    if float(table.attrs.get("p_holm_smallest", 1.0)) <= LEVEL:
        return np.asarray(table["p_holm"].values <= LEVEL)
    low, high = table["low"].values, table["high"].values
    return np.asarray((low > 0) | (high < 0))


def leaders(table: "xarray.Dataset", scale: float = 1.0, sign: int = 1) -> Leaders:
    """The cells of a summary that a title names.

    Args:
        table: a summary of one site.
        scale: what an effect of 1 is, in the unit of the table.
        sign: -1 where helping cells are negative, as they are when a clean run is spoiled.
    """
    kept = table.copy()
    kept["mean"] = table["mean"].where(told_from_zero(table), 0.0)
    first = next(iter(top(kept, 1)), None)
    if first is None or abs(first.mean) < LEAST * abs(scale):
        return Leaders((), ())
    bound = NEAR * abs(first.mean)
    with_it, against_it = ("high", "low") if sign > 0 else ("low", "high")
    helping = [row for row in top(kept, MOST_NAMED, with_it) if row.mean * sign >= bound]
    against = [row for row in top(kept, 1, against_it) if -row.mean * sign >= max(bound / 2, LEAST * abs(scale))]
    return Leaders(tuple(helping), tuple(against))


def task_finding(clean: Baseline, metric: str = "logit difference") -> str:
    """Whether the model does the task."""
    n = counted(clean.n, "prompt")
    spread = f" ({interval(clean.low, clean.high)})" if clean.n > 1 else ""
    worth = f"mean {metric} {number(clean.mean)}{spread}"
    if metric != "logit difference":
        return f"On {n} the {worth}"
    share = f"the right answer ahead on {percent(clean.above_zero)} of {n}, {worth}"
    if clean.above:
        return f"The model does the task: {share}"
    return (
        f"The model prefers the wrong answer: {share}" if clean.high < 0 else f"The model does not do the task: {share}"
    )


def lens_finding(table: "xarray.Dataset") -> str:
    """Where along the stages `0_pre, 0_mid, …, final` the answer is written."""
    stages = [str(stage) for stage in table["stage"].values]
    mean = table["mean"].values
    final = float(mean[-1])
    if not bool(told_from_zero(table)[-1]):
        spread = interval(float(table["low"][-1]), float(table["high"][-1]))
        return f"No layer writes the answer: the final logit difference is {number(final)} ({spread})"
    steps = np.diff(mean) * np.sign(final)
    half = stages[int(np.argmax(mean * np.sign(final) >= abs(final) / 2))]
    largest = int(np.argmax(steps))
    said = f"Half of the final logit difference of {number(final)} is there {_reached(half)}"
    said += f"; the largest step is {_writer(stages[largest], stages[largest + 1])} (+{number(steps[largest])})"
    peak = int(np.argmax(mean * np.sign(final)))
    if abs(mean[peak]) > 1.1 * abs(final):
        said += f"; it peaks at {number(float(mean[peak]))} {_reached(stages[peak])}, and falls"
    return said


def attribution_finding(table: "xarray.Dataset", total: float) -> str:
    """Which parts write the answer. `total` is the whole mean logit difference."""
    found = leaders(table, scale=total)
    if not found.helping and not found.against:
        return f"No part stands out: {largest_cell(table, number)} of a logit difference of {number(total)}"
    said = []
    if found.helping:
        verb = "writes" if len(found.helping) == 1 else "write"
        said.append(f"{_names(found.helping)} {verb} towards the answer ({_values(found.helping, number)})")
    if found.against:
        said.append(f"{_names(found.against)} writes against it ({_values(found.against, number)})")
    return _sentence(said)


def patch_finding(table: "xarray.Dataset", site: str, direction: str = "denoise") -> str:
    """Which cells carry the answer, for effects of patching one site."""
    dims = set(map(str, table["mean"].dims))
    if site.startswith("resid") and "layer" in dims and dims & set(PLACES) and len(dims) == 2:
        return where_finding(table, direction)
    found = leaders(table, sign=1 if direction == "denoise" else -1)
    noun = NOUNS.get(site, "")
    if not found.helping and not found.against:
        return f"No single {noun or 'patch'} carries the answer: {largest_cell(table, percent)}"
    return _patched(found, noun, direction)


def where_finding(table: "xarray.Dataset", direction: str = "denoise") -> str:
    """Where the answer sits from layer to layer: the residual stream over (layer, place)."""
    place = next(str(dim) for dim in table["mean"].dims if dim in PLACES)
    sign = 1 if direction == "denoise" else -1
    effect = table["mean"].where(told_from_zero(table), 0.0).transpose("layer", place) * sign
    held = [
        (int(effect["layer"][row]), int(np.argmax(line)))
        for row, line in enumerate(effect.values)
        if line.max() >= NEAR
    ]
    if not held:
        return f"No one position holds half of the answer: {largest_cell(table, percent)}"
    runs = _runs(held)
    stays = [f"at {_place_name(table, place, at)} {_layers(first, last, effect)}" for at, first, last in runs]
    verb = "restores" if direction == "denoise" else "costs"
    return f"The answer is carried {listed(stays)}: there one position {verb} {percent(NEAR)} or more"


def attention_finding(patterns: "xarray.DataArray", roles: Mapping[str, Sequence[int]] | None = None) -> str:
    """Where heads look from the last token, on average over prompts.

    Args:
        patterns: `(prompt, address, q_pos, k_pos)`.
        roles: positions of each prompt by name; without them, places are named by number and by token.
    """
    looks: dict[str, list[tuple[str, float]]] = {}
    for head in patterns["address"].values:
        target, share = _target(patterns.sel(address=head), roles or {})
        looks.setdefault(target, []).append((str(head), share))
    said = [
        f"{listed([head for head, _ in heads])} {'looks' if len(heads) == 1 else 'look'} most at {target} "
        f"({listed([number(share) for _, share in heads])})"
        for target, heads in looks.items()
    ]
    return f"From the last token, {'; '.join(said)}"


def _patched(found: Leaders, noun: str, direction: str) -> str:
    verb = "restores" if direction == "denoise" else "costs"
    act = "patching" if direction == "denoise" else "spoiling"
    rows = (*found.helping, *found.against)
    places = {_place(row) for row in rows}
    # One place for all is said once; otherwise each cell names its own.
    shared = places.pop() if len(places) == 1 and len(rows) > 1 else ""
    there = " there" if shared else ""
    said = []
    if found.helping:
        single = len(found.helping) == 1
        sizes = listed([percent(abs(row.mean)) for row in found.helping])
        what = f"{'its' if single else 'their'} {noun}" if noun else "it" if single else "them"
        verbs = f"{'carries' if single else 'carry'} the answer{shared}: {act} {what}{there} {verb} {sizes}"
        said.append(f"{_names(found.helping, bare=bool(shared))} {verbs}")
    if found.against:
        said.append(f"{_names(found.against, bare=bool(shared))} works against it ({percent(found.against[0].mean)})")
    return _sentence(said)


def _sentence(parts: Sequence[str]) -> str:
    """Parts joined; one that stands alone says what `it` is."""
    text = "; ".join(parts)
    text = text if len(parts) > 1 else text.replace("against it", "against the answer")
    return text[:1].upper() + text[1:] if text.startswith(("layer", "the ")) else text


def _names(rows: Sequence[Row], bare: bool = False) -> str:
    names = [_unit(row) if bare else f"{_unit(row)}{_place(row)}" for row in rows]
    if len(rows) > 1 and all(re.fullmatch(r"layer \d+", name) for name in names):
        return "layers " + listed([name.removeprefix("layer ") for name in names])
    return listed(names)


def _unit(row: Row) -> str:
    """A cell in a sentence, without its place: `23.3`, `layer 23's attention`, `the embed`."""
    where = row.where
    if "component" in where:
        layer, _, part = str(where["component"]).partition("_")
        return f"layer {layer}'s {PARTS[part]}" if layer.isdigit() and part in PARTS else f"the {where['component']}"
    if "part" in where:
        return f"layer {where['layer']}'s {PARTS.get(str(where['part']), where['part'])}"
    return cell_label({name: value for name, value in where.items() if name not in (*PLACES, "k_pos")})


def _place(row: Row) -> str:
    """Where a cell stands: ` at S2`, ` at token 12 ·gave`, ` from token 14 to token 4`; empty where it has no place."""
    where = row.where
    if "k_pos" in where:
        return f" from token {where['q_pos']} to token {where['k_pos']}"
    name = next((name for name in PLACES if name in where), None)
    if name is None:
        return ""
    return f" at {where[name]}" if name == "role" else f" at token {where[name]} {visible(row.token)}".rstrip()


def _values(rows: Sequence[Row], write: Write) -> str:
    return listed([write(row.mean) for row in rows])


def largest_cell(table: "xarray.Dataset", write: Write) -> str:
    """The largest of a summary's cells, for a title that found nothing."""
    first = list(top(table, n=1))
    if not first:
        return "every effect is 0"
    row = first[0]
    spread = f" ({write(row.low)} to {write(row.high)})" if np.isfinite(row.low) else ""
    if table["mean"].size == 1:
        return f"the effect is {write(row.mean)}{spread}"
    return f"the largest of {table['mean'].size} means is {write(row.mean)}{spread} at {_names([row])}"


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
        if runs and runs[-1][0] == place:
            runs[-1] = (place, runs[-1][1], layer)
        else:
            runs.append((place, layer, layer))
    return runs


def _layers(first: int, last: int, effect: "xarray.DataArray") -> str:
    if last == int(effect["layer"].max()):
        return f"from layer {first} on" if first != last else f"in the last layer, {last}"
    return f"in layer {first}" if first == last else f"in layers {first} to {last}"


def _place_name(table: "xarray.Dataset", dim: str, index: int) -> str:
    name = table[dim].values[index]
    if dim == "role":
        return str(name)
    coord = {"pos": "token", "q_pos": "q_token"}[dim]
    shared = coord in table.coords and table.attrs.get("tokens") == "every prompt"
    return f"token {name} {visible(str(table[coord].values[index]))}".strip() if shared else f"token {name}"


def _target(pattern: "xarray.DataArray", roles: Mapping[str, Sequence[int]]) -> tuple[str, float]:
    """What a head looks at most from each prompt's last token: a role or a position, and the mean share."""
    values = pattern.transpose("prompt", "q_pos", "k_pos").values
    tokens = pattern["q_token"].transpose("prompt", "q_pos").values if "q_token" in pattern.coords else None
    lengths = [values.shape[1]] * len(values) if tokens is None else [len(real_tokens(row.tolist())) for row in tokens]
    last = np.stack([values[row, length - 1] for row, length in enumerate(lengths)])
    own = [length - 1 for length in lengths]
    # A role that is always the last token is not told from it.
    named = {_OWN if list(places) == own else name: places for name, places in {_OWN: own, **roles}.items()}
    shares = {name: float(np.mean([last[row, at] for row, at in enumerate(places)])) for name, places in named.items()}
    column = int(np.argmax(last.mean(0)))
    share = float(last[:, column].mean())
    # A role that stands at one position in all prompts has that position's mean, but for rounding: the role is named.
    if share > max(shares.values()) + 1e-9:
        shares = {_column_name(column, tokens): share}
    target = max(shares, key=lambda name: shares[name])
    return target, shares[target]


def _column_name(column: int, tokens: np.ndarray | None) -> str:
    name = "the first token" if column == 0 else f"token {column}"
    alike = tokens is not None and len(set(tokens[:, column])) == 1
    return f"{name} {visible(str(tokens[0, column]))}" if tokens is not None and alike else name
