"""Edges made visible: the graph of the strongest, sums from layer to layer, effects against scores, and a table.

An edge that was not run has no effect: it is neither drawn nor counted as 0.
"""

from collections.abc import Sequence

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
from unweave.views.wording import Result, counted, interval, listed, percent

MOST_DRAWN, MOST_LISTED, MOST_SUMS = 100, 50, 3
COLUMNS = ("embed", "heads", "MLPs", "logits")
_ENDS = ("sender", "receiver", "input", "sender_layer", "receiver_layer")
_RUN = {"largest": "run as one of the largest", "drawn": "run as a random control"}


def edge_blocks(result: Result, title: str = "") -> list[Block]:
    """The pictures of a result of `uw.edges`, a slice or a mean of it over prompts, or its summary.

    Args:
        result: with the dimensions `edge` and, if prompts are known, `prompt`.
        title: of the first picture; computed if left out.
    """
    (table,) = tables_of(result).values()
    chosen = strongest(table, MOST_DRAWN)
    known = int(np.isfinite(table["mean"].values).sum())
    if not chosen.sizes["edge"] or any(name not in table.coords for name in _ENDS):
        said = f"all {known} are exactly 0" if known else f"none of {counted(table.sizes['edge'], 'edge')} was run"
        return [Text((title or spoken(scope_of(table), f"no edge has an effect: {said}"),)), edge_table(table)]
    blocks: list[Block] = [edge_drawing(chosen, title or finding(table), known)]
    sums = layer_sums(result)
    blocks += [sums_figure(sums, known)] if sums.sizes["from"] * sums.sizes["to"] > 1 and known > 1 else []
    blocks += [scores_figure(table, name) for name in ("gradient", "local") if name in table.coords and known > 1]
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
    share = max(1, int(table.attrs.get("n_heads", 1)) // max(1, int(table.attrs.get("n_kv_heads", 1))))
    cells = [{name: table[name].values[place] for name in table} for place in range(table.sizes["edge"])]
    ends = [
        (read_node(str(sender)), _receivers(str(receiver), str(kind), share))
        for sender, receiver, kind in zip(*(table[name].values for name in _ENDS[:3]), strict=True)
    ]
    nodes = {node: None for sender, heads in ends for node in (sender, *(heads if len(heads) == 1 else ()))}
    names, edges = dict[Node, str](), []
    for (sender, heads), cell, receiver, kind in zip(
        ends, cells, table["receiver"].values, table["input"].values, strict=True
    ):
        drawn = [head for head in heads if head in nodes] or list(heads[:1])
        names |= {} if drawn[0] in nodes else {drawn[0]: str(receiver)}
        others = [head for head in heads if head != drawn[0]]
        numbers = [float(cell[name]) for name in ("mean", "low", "high")]
        edges.append(Edge(sender, drawn[0], str(kind), *numbers, shared=others))
    doubt = unclear(table)
    unit = str(table.attrs.get("metric_unit", ""))
    about = {"quantity": str(table.attrs.get("quantity", "effect")), "unit": unit}
    about |= {"gap": float(table.attrs["gap"])} if "gap" in table.attrs else {}
    return CircuitDrawing(
        groups=_groups([*nodes, *names]),
        edges=tuple(edges),
        roles=COLUMNS,
        attrs=about,
        notes={str(edge): _evidence(table, place) for place, edge in enumerate(edges)},
        pale={str(edge) for edge, unsure in zip(edges, doubt, strict=True) if unsure},
        names=names,
        carries=sense_of(table).carries,
        title=title,
        caption=_drawn_caption(table, known, bool(names)),
    )


def _receivers(name: str, kind: str, share: int) -> tuple[Node, ...]:
    """The heads, the MLP or the logits that read at a receiver; several heads if it is a shared key or value."""
    node = read_node(name)
    if not kind:
        return (node,)
    first, n = (node.head[1] * share, share) if node.kv else (node.head[1], 1)
    return tuple(Node("z", node.layer, first + place) for place in range(n))


def _groups(nodes: Sequence[Node]) -> tuple[Group, ...]:
    heads = sorted({node.head for node in nodes if node.site == "z"})
    mlps = sorted({node.layer for node in nodes if node.site == "mlp_out"})
    found = Group("heads", tuple(heads), ("heads",)), Group("MLPs", (), ("MLPs",), tuple(mlps))
    return tuple(group for group in found if group.nodes)


def _evidence(table: xr.Dataset, place: int) -> str:
    """What is known of an edge besides its effect and interval."""
    p = float(table["p_holm"].values[place])
    said = [f"adjusted {p_value(p)}" if np.isfinite(p) else ""]
    said += [f"{name} {number(float(table[name].values[place]))}" for name in ("gradient", "local") if name in table]
    said += [
        f"{name} score {number(float(table.coords[name].values[place]))}"
        for name in ("gradient", "local")
        if name in table.coords
    ]
    said += [_RUN.get(str(table.coords["run"].values[place]), "not run")] if "run" in table.coords else []
    return "; ".join(filter(None, said))


def _drawn_caption(table: xr.Dataset, known: int, boxed: bool) -> str:
    """What is drawn, and how sure it is."""
    n = table.sizes["edge"]
    what = f"The {n} strongest of {known} edges" if n < known else counted(n, "edge")
    run = " that were run" if "run" in table.coords else ""
    rows = "rows are layers, the stream runs upwards."
    shared = " A box such as 16.kv0 is a key or value that several heads read." if boxed else ""
    notes = str(table.attrs.get("notes", ""))
    more = f" {notes[:1].upper()}{notes[1:]}." if notes else ""
    return f"{what}{run}; {rows}{shared} {caption([table], mark='Pale paths', scale=meaning(table.attrs))}{more}"


def edge_table(table: xr.Dataset, n: int = MOST_LISTED) -> Table:
    """The `n` largest edges with their intervals, adjusted p-values and, if they are known, scores."""
    chosen = strongest(table, n)
    columns = [[str(name) for name in chosen["edge"].values], [number(float(mean)) for mean in chosen["mean"].values]]
    columns += [[interval(float(low), float(high)) for low, high in zip(chosen["low"], chosen["high"], strict=True)]]
    columns += [[p_value(float(p)).removeprefix("p ").removeprefix("= ") for p in chosen["p_holm"].values]]
    header = ["edge", measure(table.attrs).partition(" (")[0], f"{_level(table)} interval", "adjusted p"]
    for name in ("gradient", "local"):
        if name in chosen.coords:
            header.append(name)
            columns.append([number(float(score)) for score in chosen[name].values])
    side = "lrrr" + "r" * (len(header) - 4)
    if "run" in chosen.coords:
        header, columns, side = [*header, "run as"], [*columns, list(map(str, chosen["run"].values))], side + "l"
    few = too_few([table]) if "level" in table.attrs else ""
    return Table(tuple(header), tuple(zip(*columns, strict=True)), "", f"{few}." if few else "", align=side)


def _level(table: xr.Dataset) -> str:
    return percent(float(table.attrs.get("level", 0.95)))


def layer_sums(result: Result) -> xr.DataArray:
    """Of each prompt, the sum of the effects of all edges from one layer to another that are known; NaN if none is.

    Returns:
        `[prompt, from, to]`; the embeddings are the first sender, the logits the last receiver.
    """
    array = result["mean"].assign_attrs(result.attrs) if isinstance(result, xr.Dataset) else result
    array = array.transpose(..., "edge")
    writes, reads = array["sender_layer"].values, array["receiver_layer"].values
    reads = np.where(reads < 0, reads.max(initial=0) + 1, reads)
    (senders, row), (receivers, column) = (np.unique(layers, return_inverse=True) for layers in (writes, reads))
    values = np.atleast_2d(array.values.astype(np.float64))
    there = np.isfinite(values)
    sums, counts = (np.zeros((len(values), len(senders), len(receivers))) for _ in range(2))
    for total, each in ((sums, np.where(there, values, 0.0)), (counts, there * 1.0)):
        np.add.at(total, (slice(None), row, column), each)
    sums[counts == 0] = np.nan
    last = "logits" if (array["receiver_layer"].values < 0).any() else ""
    coords = {
        "from": ["embed" if layer < 0 else str(layer) for layer in senders.tolist()],
        "to": [str(layer) for layer in receivers.tolist()],
    }
    coords["to"][-1:] = [last or coords["to"][-1]]
    kept = array.isel(edge=0, drop=True)
    kept = kept.drop_vars([name for name in (*_ENDS, "gradient", "local", "run") if name in kept.coords])
    dims = (*(str(dim) for dim in kept.dims), "from", "to")
    shape = (*kept.shape, len(senders), len(receivers))
    what = f"sum of {array.attrs.get('quantity', 'effect')}s"
    attrs = {**array.attrs, "quantity": what, "zero": "", "one": ""}
    attrs = {name: value for name, value in attrs.items() if not (isinstance(result, xr.Dataset) and name == "level")}
    return xr.DataArray(sums.reshape(shape), dims=dims, coords={**kept.coords, **coords}, attrs=attrs)


def sums_figure(sums: xr.DataArray, known: int) -> Figure:
    """The sums as a heat map, early layers at the left and at the bottom."""
    table = summary(sums)
    run = f"Only the {known} edges that were run are summed. " if "verify" in sums.attrs else ""
    note = f"{run}Blank: no edge. Effects of single edges need not add up to that of all together."
    note = note.replace("Effects", "Predicted effects") if "predicted" in str(sums.attrs["quantity"]) else note
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
    exact = run["mean"].assign_attrs({**table.attrs, "quantity": "effect"})
    score = exact.copy(data=run[name].values).assign_attrs(quantity=f"{name} score")
    groups = {"colour": "run"} if "run" in run.coords else {}
    figure = scatter(score, exact, diagonal=True, misses=True, **groups)
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
