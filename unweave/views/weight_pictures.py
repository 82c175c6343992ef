"""Pictures of what is read off the weights: QK and OV circuits, composition, copying."""

import numpy as np
import xarray as xr

from unweave.errors import InputError
from unweave.results.labels import number
from unweave.views.blocks import Block, Figure, Table
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.lines import markers
from unweave.views.sense import meaning, measure
from unweave.views.wording import capital, listed, percent

_MOST_MAPS, _MOST_CELLS, _MOST_PAIRS, _MOST_HEADS = 4, 100_000, 12, 40
# From this share of rows on, a title says that a head looks at itself, or at its mirror.
_RULE = 0.3
_CROSSES = "Crosses: the receiver is in no later layer."
# A pair composes more than chance from this many standard deviations of random pairs on.
_ABOVE = 3.0


def circuit_blocks(result: xr.DataArray) -> list[Block]:
    """QK and OV circuits as heat maps, a panel for each head; of many heads those with the largest cells.

    Args:
        result: of `uw.weights.qk_circuit` or `uw.weights.ov_circuit`, `(address, query, key)` and the like.

    Raises:
        InputError: more cells than can be drawn.
    """
    y, x = (str(dim) for dim in result.dims[1:])
    if result.sizes[x] * result.sizes[y] > _MOST_CELLS:
        raise InputError(
            f"result: {result.sizes[y]} x {result.sizes[x]} cells are too many to draw; choose some: "
            f"`result.isel({y}=slice(50))`"
        )
    size = np.abs(result.values).reshape(result.sizes["address"], -1).max(axis=1)
    kept = np.sort(np.argsort(-size, kind="stable")[:_MOST_MAPS])
    shown = result.isel(address=kept)
    figure = heatmap(shown, x=x, y=y, facet="address")
    left = result.sizes["address"] - len(kept)
    notes = [f"Read off the weights; biases are left out. {', '.join(meaning(result.attrs))}."]
    notes += [f"Left out: {left} heads with smaller cells."] if left else []
    notes += [f"{capital(str(result.attrs['notes'])).rstrip('.')}."] if result.attrs.get("notes") else []
    return [Figure(figure, circuit_finding(shown), " ".join(notes))]


def circuit_finding(result: xr.DataArray) -> str:
    """What each head looks at, or says, row by row."""
    y, x = (str(dim) for dim in result.dims[1:])
    look = _says if x == "output" else _looks
    said = [look(result.sel(address=head).transpose(y, x), str(head)) for head in result["address"].values]
    where = {"tokens": "token by token", "positions": "position by position", "both": "tokens and positions"}
    return f"{where[str(result.attrs['over'])].capitalize()}, {'; '.join(said)}"


def composition_blocks(result: xr.DataArray) -> list[Block]:
    """Composition scores as distances from random pairs, and the pairs that compose most.

    Args:
        result: `(kind, sender, receiver)` of `uw.weights.composition_scores`.
    """
    mean, std = float(result.attrs["baseline_mean"]), float(result.attrs["baseline_std"])
    above = ((result - mean) / std).assign_attrs(result.attrs)
    above.attrs |= {"quantity": "distance from random pairs", "unit": "their standard deviations"}
    above.attrs |= {"zero": "as random pairs", "one": "one standard deviation above them"}
    crosses = _CROSSES
    if max(result.sizes["sender"], result.sizes["receiver"]) > _MOST_HEADS:
        above = above.groupby("sender_layer").max().groupby("receiver_layer").max().assign_attrs(above.attrs)
        above = above.rename(sender_layer="earlier layer", receiver_layer="later layer")
        crosses = f"The largest score of each pair of layers. {crosses}"
    else:
        above = above.rename(sender="earlier head", receiver="later head")
    crosses = crosses if bool(above.isnull().any()) else crosses.replace(_CROSSES, "")
    figure = heatmap(above, x=str(above.dims[2]), y=str(above.dims[1]), facet="kind")
    pairs, seed = result.attrs["baseline_pairs"], result.attrs["seed"]
    random = f"{pairs} pairs of random matrices of that rank score {number(mean)} ± {number(std)} (seed {seed})."
    found = composition_finding(result)
    return [Figure(figure, found, f"{random} {crosses}".strip()), _pairs_table(result, mean, std)]


def composition_finding(result: xr.DataArray) -> str:
    """The pairs that compose more than chance, each with its kinds."""
    mean, std = float(result.attrs["baseline_mean"]), float(result.attrs["baseline_std"])
    high = [row for row in _ranked(result) if row[3] > mean + _ABOVE * std]
    if not high:
        kind, sender, receiver, score = _ranked(result)[0]
        most = f"{kind}-composition of {sender} with {receiver} ({number(score)})"
        return f"No pair composes more than random matrices do ({number(mean)} ± {number(std)}); most {most}"
    pairs: dict[tuple[str, str], list[str]] = {}
    for kind, sender, receiver, score in high:
        pairs.setdefault((sender, receiver), []).append(f"{kind} {number(score)}")
    said = [f"{sender} with {receiver} ({listed(kinds)})" for (sender, receiver), kinds in list(pairs.items())[:3]]
    said[0] = said[0].replace(" with ", " composes with ", 1)
    more = [f"{len(pairs) - 3} more pairs"] if len(pairs) > 3 else []
    return f"{listed(said + more)}, above random pairs ({number(mean)} ± {number(std)})"


def place_blocks(result: xr.DataArray) -> list[Block]:
    """One marker for each position or token: K- and V-composition circuits, attribution through a head."""
    (x,) = [str(dim) for dim in result.dims if dim != "prompt"]
    # Where prompts differ, the tokens of the first would say nothing of the others.
    several = result.sizes.get("prompt", 1) > 1
    figure = markers(result.drop_vars("token") if several and x == "pos" and "token" in result.coords else result, x=x)
    sender, receiver = result.attrs["sender"], result.attrs["receiver"]
    verb = "asks" if result.attrs["method"] == "K-composition" else "says"
    values = Figure(figure).title.partition(": ")[2]
    return [Figure(figure, f"What {receiver} {verb} of what {sender} moves: {values}")]


def copying_blocks(result: xr.DataArray) -> list[Block]:
    """Copying scores from eigenvalues, `(layer, head)`, as a heat map."""
    note = f"Read off the weights. {', '.join(meaning(result.attrs))}, −1 = every mixture of tokens lowers itself."
    return [Figure(heatmap(result, x="head"), "", note)]


def _looks(table: xr.DataArray, head: str) -> str:
    """Whether a head's rows are largest at themselves, at their mirror image, or at one column."""
    best, n = table.values.argmax(axis=1), table.shape[1]
    if table.shape[0] == n:
        rows = np.arange(n)
        own = float((best == rows).mean())
        # Positions alone have a mirror image, and under a causal mask the first half cannot see it.
        places = str(table.dims[0]) == "q_pos"
        mirror = float((best == n - 1 - rows)[n // 2 :].mean()) if places else 0.0
        said = [f"its mirror image from {percent(mirror)} of the rows after the middle"] if mirror >= _RULE else []
        said += [f"itself from {percent(own)} of the rows"] if own >= _RULE else []
        if said:
            return f"{head} looks most at {listed(said)}"
    column, times = _commonest(best)
    name, share = table[table.dims[1]].values[column], times / len(best)
    if share >= _RULE:
        return f"{head} looks most at {name}, from {percent(share)} of the rows"
    return f"{head} looks at nothing in particular (most often {name}, from {percent(share)} of the rows)"


def _says(table: xr.DataArray, head: str) -> str:
    """The largest cell of a head, and the smallest, which of two classes is the same again."""
    names = {dim: table[dim].values for dim in table.dims}
    said = []
    for place in (int(table.values.argmax()), int(table.values.argmin())):
        row, column = np.unravel_index(place, table.shape)
        where = " → ".join(str(names[dim][at]) for dim, at in zip(table.dims, (row, column), strict=True))
        said.append(f"{where} ({number(float(table.values[row, column]))})")
    return f"{head} writes most for {said[0]}" + (f" and least for {said[1]}" if table.shape[1] > 2 else "")


def _commonest(columns: np.ndarray) -> tuple[int, int]:
    values, times = np.unique(columns, return_counts=True)
    return int(values[times.argmax()]), int(times.max())


def _ranked(result: xr.DataArray) -> list[tuple[str, str, str, float]]:
    """(kind, sender, receiver, score), the largest first."""
    flat = result.values.ravel()
    order = [int(n) for n in np.argsort(-flat, kind="stable") if np.isfinite(flat[n])]
    kinds, senders, receivers = (result[dim].values for dim in ("kind", "sender", "receiver"))
    places = [np.unravel_index(n, result.shape) for n in order]
    return [(str(kinds[k]), str(senders[s]), str(receivers[r]), float(result.values[k, s, r])) for k, s, r in places]


def _pairs_table(result: xr.DataArray, mean: float, std: float) -> Table:
    rows = tuple(
        (f"{sender} → {receiver}", kind, number(score, 3), number((score - mean) / std))
        for kind, sender, receiver, score in _ranked(result)[:_MOST_PAIRS]
    )
    header = ("pair", "through", "score", "standard deviations above random")
    caption = f"{measure(result.attrs).capitalize()}: {', '.join(meaning(result.attrs))}."
    return Table(header, rows, "The pairs that compose most", caption, "llrr")
