"""Edges made visible: the graph of the strongest, sums from layer to layer, effects against scores, and a table.

An edge that was not run has no effect: it is neither drawn nor counted as 0.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from jaxtyping import Float

from unweave.circuits.circuit import Group
from unweave.nodes import Edge, Node, read_node
from unweave.results.labels import number, p_value
from unweave.results.summary import significant, summary
from unweave.views.blocks import Block, Details, Figure, Table, Text
from unweave.views.captions import finding
from unweave.views.certainty import caption, too_few, unclear
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.scatter import scatter
from unweave.views.circuit_drawing import CircuitDrawing
from unweave.views.pictures import tables_of
from unweave.views.scope import scope_of, spoken
from unweave.views.sense import meaning, measure, sense_of
from unweave.views.wording import Result, capital, counted, interval, listed, p_cell, percent

MOST_DRAWN, MOST_LISTED, MOST_SUMS = 100, 50, 3
SCORES = ("gradient", "local")
COLUMNS = ("embed", "heads", "MLPs", "logits")
_ENDS = ("sender", "receiver", "input", "sender_layer", "receiver_layer")
_LAST = 10**6  # above any layer
_RUN = {"largest": "one of the largest", "drawn": "a random control"}


def edge_blocks(result: Result) -> list[Block]:
    """The pictures of a result of `uw.edges`, a slice or a mean of it over prompts, or its summary.

    Args:
        result: with the dimensions `edge` and, if prompts are known, `prompt`.
    """
    (table,) = tables_of(result).values()
    chosen = strongest(table, MOST_DRAWN)
    known = int(np.isfinite(table["mean"].values).sum())
    if not chosen.sizes["edge"]:
        said = f"The effect of {known} edges is exactly 0" if known else "No edge was run"
        return [Text((spoken(scope_of(table), said),))]
    title = finding(table)
    if any(name not in table.coords for name in _ENDS):
        return [replace(edge_table(table), title=title)]
    blocks: list[Block] = [edge_drawing(chosen, title, known)]
    sums = layer_sums(result)
    blocks += [sums_figure(sums, known)] if sums.sizes["from"] * sums.sizes["to"] > 1 and known > 1 else []
    blocks += [scores_figure(table, name) for name in SCORES if name in table.coords and known > 1]
    listing = edge_table(table)
    return [*blocks, Details(f"The {counted(len(listing.rows), 'strongest edge')}", (listing,))]


def strongest(table: xr.Dataset, n: int) -> xr.Dataset:
    """The `n` edges of a summary with the largest means, the largest first, without those that are 0 or not known."""
    sizes = np.nan_to_num(np.abs(table["mean"].values))
    order = np.argsort(-sizes, kind="stable")[:n]
    return table.isel(edge=order[sizes[order] > 0])


def edge_drawing(table: xr.Dataset, title: str, known: int) -> CircuitDrawing:
    """The graph of all edges of a summary, from the embeddings at the bottom to the logits on top.

    A key or value that heads share is one receiver: its path goes to the first of its heads that has other edges here,
    and to a box of its own, `16.kv0`, if none has.

    Args:
        table: a summary of the edges to draw, the strongest first.
        title: what was found.
        known: of how many edges these are the strongest.
    """
    edges, names = _joined(table)
    drawn = zip(edges, unclear(table), strict=True)
    about = {"quantity": str(table.attrs.get("quantity", "effect")), "unit": str(table.attrs.get("metric_unit", ""))}
    return CircuitDrawing(
        groups=_groups(edges),
        edges=edges,
        roles=COLUMNS,
        attrs={**about, **{name: table.attrs[name] for name in ("gap",) if name in table.attrs}},
        notes={str(edge): _evidence(table.isel(edge=place)) for place, edge in enumerate(edges)},
        pale={str(edge) for edge, unsure in drawn if unsure},
        names=names,
        carries=sense_of(table).carries,
        title=title,
        caption=_drawn_caption(table, known, bool(names)),
    )


def _joined(table: xr.Dataset) -> tuple[tuple[Edge, ...], dict[Node, str]]:
    """The edges of a summary, and what heads are called that stand for all that share a key or value."""
    share = max(1, int(table.attrs.get("n_heads", 1)) // max(1, int(table.attrs.get("n_kv_heads", 1))))
    columns = [table[name].values.tolist() for name in (*_ENDS[:3], "mean", "low", "high")]
    rows = [
        (read_node(sender), receiver, _receivers(receiver, kind, share), kind, numbers)
        for sender, receiver, kind, *numbers in zip(*columns, strict=True)
    ]
    own = {node for sender, _, heads, *_ in rows for node in (sender, *(heads if len(heads) == 1 else ()))}
    edges, names = [], dict[Node, str]()
    for sender, receiver, heads, kind, numbers in rows:
        at = next((head for head in heads if head in own), heads[0])
        names |= {} if at in own else {at: receiver}
        edges.append(Edge(sender, at, kind, *numbers, shared=[head for head in heads if head != at]))
    return tuple(edges), names


def _receivers(name: str, kind: str, share: int) -> tuple[Node, ...]:
    """The heads, the MLP or the logits that read at a receiver; several heads if it is a shared key or value."""
    node = read_node(name)
    if not kind:
        return (node,)
    first, n = (node.head[1] * share, share) if node.kv else (node.head[1], 1)
    return tuple(Node("z", node.layer, first + place) for place in range(n))


def _groups(edges: Sequence[Edge]) -> tuple[Group, ...]:
    nodes = {node for edge in edges for node in (edge.sender, edge.receiver)}
    heads = sorted(node.head for node in nodes if node.site == "z")
    mlps = sorted(node.layer for node in nodes if node.site == "mlp_out")
    found = Group("heads", tuple(heads), ("heads",)), Group("MLPs", (), ("MLPs",), tuple(mlps))
    return tuple(group for group in found if group.nodes)


def _evidence(edge: xr.Dataset) -> str:
    """What is known of an edge besides its effect and interval."""
    p = float(edge["p_holm"])
    said = [f"adjusted {p_value(p)}"] if np.isfinite(p) else []
    said += [f"{name} score {number(float(edge[name]))}" for name in SCORES if name in edge.coords]
    said += [f"run as {_RUN.get(str(edge['run'].item()), 'asked')}"] if "run" in edge.coords else []
    return "; ".join(said)


def _drawn_caption(table: xr.Dataset, known: int, boxed: bool) -> str:
    """What is drawn, and how sure it is."""
    n = table.sizes["edge"]
    what = f"The {n} strongest of {known} edges" if n < known else counted(n, "edge")
    run = " that were run" if "run" in table.coords else ""
    rows = "rows are layers, the stream runs upwards."
    shared = " A box such as 16.kv0 is a key or value that several heads read." if boxed else ""
    notes = str(table.attrs.get("notes", ""))
    more = f" {capital(notes)}." if notes else ""
    return f"{what}{run}; {rows}{shared} {caption([table], mark='Pale paths', scale=meaning(table.attrs))}{more}"


def edge_table(table: xr.Dataset, n: int = MOST_LISTED) -> Table:
    """The `n` largest edges with their intervals, adjusted p-values and, if they are known, scores."""
    chosen = strongest(table, n)
    columns = [[str(name) for name in chosen["edge"].values], [number(float(mean)) for mean in chosen["mean"].values]]
    columns += [list(map(interval, chosen["low"].values, chosen["high"].values))]
    columns += [[p_cell(float(p)) for p in chosen["p_holm"].values]]
    header = ["edge", measure(table.attrs).partition(" (")[0], f"{_level(table)} interval", "adjusted p"]
    for name in SCORES:
        if name in chosen.coords:
            header.append(name)
            columns.append([number(float(score)) for score in chosen[name].values])
    side = "lrrr" + "r" * (len(header) - 4)
    if "run" in chosen.coords:
        header, columns, side = [*header, "run as"], [*columns, list(map(str, chosen["run"].values))], side + "l"
    few = too_few([table])
    return Table(tuple(header), tuple(zip(*columns, strict=True)), "", f"{few}." if few else "", align=side)


def _level(table: xr.Dataset) -> str:
    return percent(float(table.attrs.get("level", 0.95)))


def layer_sums(result: Result) -> xr.DataArray:
    """Of each prompt, the sum of the effects of all edges from one layer to another that are known; NaN if none is.

    Returns:
        `[prompt, from, to]`; the embeddings are the first sender, the logits the last receiver.
    """
    alone = isinstance(result, xr.Dataset)
    array = (result["mean"].assign_attrs(result.attrs) if alone else result).transpose(..., "edge")
    (senders, row), (receivers, column) = (
        np.unique(np.where(array[name] < 0, outside, array[name]), return_inverse=True)
        for name, outside in (("sender_layer", -1), ("receiver_layer", _LAST))
    )
    values = np.atleast_2d(array.values.astype(np.float64))
    sums, counts = (np.zeros((len(values), len(senders), len(receivers))) for _ in range(2))
    for total, each in ((sums, np.nan_to_num(values)), (counts, np.isfinite(values))):
        np.add.at(total.transpose(1, 2, 0), (row, column), each.T)
    sums[counts == 0] = np.nan
    kept = array.isel(edge=0, drop=True)
    kept = kept.drop_vars([name for name in (*_ENDS, *SCORES, "run") if name in kept.coords])
    outside = {-1: "embed", _LAST: "logits"}
    axes = {
        name: [outside.get(layer, str(layer)) for layer in layers.tolist()]
        for name, layers in (("from", senders), ("to", receivers))
    }
    attrs = {**array.attrs, "quantity": f"sum of {array.attrs.get('quantity', 'effect')}s", "zero": "", "one": ""}
    if alone:
        attrs.pop("level", None)  # sums of means have no interval
    shaped = sums.reshape(*kept.shape, len(senders), len(receivers))
    return xr.DataArray(shaped, dims=(*kept.dims, *axes), coords={**kept.coords, **axes}, attrs=attrs)


def sums_figure(sums: xr.DataArray, known: int) -> Figure:
    """The sums as a heat map, early layers at the left and at the bottom."""
    table = summary(sums)
    some = "verify" in sums.attrs
    note = f"Blank: no edge. {str(sums.attrs['quantity'])[7:].capitalize()} of single edges need not add up."
    note = note.replace("no edge", f"no edge, or none of the {known} that were run") if some else note
    return Figure(heatmap(table, x="to", y="from", crosses=False), sums_finding(table), note=note)


def sums_finding(table: xr.Dataset) -> str:
    """Between which layers most goes."""
    mean = table["mean"].values
    sure = significant(table) if "level" in table.attrs else np.isfinite(mean)
    sizes = np.where(sure, np.nan_to_num(np.abs(mean)), 0.0)
    order = np.argsort(-sizes, axis=None, kind="stable")[:MOST_SUMS]
    found = [place for place in order.tolist() if sizes.flat[place] > 0]
    if not found:
        return "No sum from one layer to another is different from 0"
    ends = [np.unravel_index(place, mean.shape) for place in found]
    told = [
        f"{_end(table, 'from', start)} to {_end(table, 'to', end)} ({number(float(mean[start, end]))})"
        for start, end in ends
    ]
    return f"Summed by layer, most goes from {listed(told)}"


def _end(table: xr.Dataset, dim: str, place: int) -> str:
    name = str(table[dim].values[place])
    return f"layer {name}" if name.isdecimal() else f"the {name.replace('embed', 'embeddings')}"


def scores_figure(table: xr.Dataset, name: str) -> Figure:
    """Exact effects of the edges that were run against one of their scores; the worst misses are named."""
    run = table.isel(edge=np.flatnonzero(np.isfinite(table["mean"].values)))
    exact = run["mean"].assign_attrs({**table.attrs, "quantity": "effect", "unit": ""})
    score = exact.copy(data=run[name].values).assign_attrs(quantity=f"{name} score")
    kinds = [_RUN.get(str(kind), "other") for kind in run["run"].values] if "run" in run.coords else []
    colours = dict(zip(map(str, run["edge"].values), kinds, strict=False))
    figure = scatter(score, exact, diagonal=True, misses=True, colour=colours or None)
    said = f"A point for each of {counted(run.sizes['edge'], 'edge')}: the largest by either score, and a random sample"
    shown = f"{said}. On the line the score is the effect; the worst misses are named."
    return Figure(figure, misses_finding(run, name), shown)


def misses_finding(run: xr.Dataset, name: str) -> str:
    """How well a score predicts the effects of the edges that were run, and where it is furthest off."""
    exact, score = run["mean"].values, run[name].values
    worst = int(np.argmax(np.abs(exact - score)))
    miss = f"{run['edge'].values[worst]} (score {number(float(score[worst]))}, effect {number(float(exact[worst]))})"
    n = counted(len(exact), "edge")
    alike = _correlation(score, exact)
    told = f" correlate at {number(alike)} with their effects" if np.isfinite(alike) else ""
    return f"{name.capitalize()} scores of the {n} that were run{told}; the largest miss is {miss}"


def _correlation(one: Float[np.ndarray, " edge"], other: Float[np.ndarray, " edge"]) -> float:
    """Pearson's; NaN for fewer than three edges, or if one of them is all alike."""
    if len(one) < 3 or not one.std() or not other.std():
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])
