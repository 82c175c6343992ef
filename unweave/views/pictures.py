"""Which pictures a result gets: chosen by its method and its dimensions, with titles computed from it.

    stage                        lines                         layer, neuron               ranked bars
    component, address           ranked bars                   layer, head, place          heat map of the leading heads
    layer, part                  lines                         layer, head, q_pos, k_pos   the leading heads' maps
    layer, head                  heat map, and ranked bars     address, q_pos, k_pos       attention view
    layer, pos | role | q_pos    heat map                      sender                       ranked bars
    model, and others            curves along the models, or a heat map for each

Methods whose results have dimensions of their own name their pictures (unweave/registry.py). Several sites share one
heat map, a panel each. Whatever is selected here is selected from a summary of the whole result, so that p-values stay
adjusted over all of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Bool, Float

from unweave.errors import InputError
from unweave.registry import Method, method_of, referenced
from unweave.results.labels import cell_label
from unweave.results.origin import without_lost_claims
from unweave.results.summary import is_summary, significant, summaries
from unweave.views.blocks import Block, Figure, Text
from unweave.views.captions import PLACES, finding, steepest
from unweave.views.charts.bars import bars
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.lines import lines
from unweave.views.charts.panels import SITES
from unweave.views.result_tables import value_table
from unweave.views.scope import spoken, subjects
from unweave.views.wording import Result

MOST_BARS, MOST_ROWS, MOST_MAPS, MOST_PANELS = 12, 12, 3, 8
# From panels and rows to columns: which dimension is drawn as which, where nothing else decides.
_AXES = ("address", "layer", "head", "kv_head", "role", "q_role", "q_pos", "pos", "k_role", "k_pos")
Roles = Mapping[str, Sequence[int]]


def blocks_of(
    result: Result | xr.DataTree,
    *,
    title: str = "",
    n: int = 0,
    roles: Roles | None = None,
) -> list[Block]:
    """The pictures of a result, the most telling first.

    Args:
        result: a result of a method, several sites of one, a slice or a mean of these, or a `summary`.
        title: of the first picture; computed from the result if left out.
        n: how many rows, bars or maps where not all are shown; by default what is readable.
        roles: positions of each prompt by name, to say where heads look.

    Raises:
        InputError: dimensions that no picture is known for.
    """
    return titled(_blocks(result, n, roles), title)


def titled(blocks: list[Block], title: str) -> list[Block]:
    """The blocks; the first has this title, if there is one."""
    if not title:
        return blocks
    first: Any = blocks[0]
    return [Text((title,)) if isinstance(first, Text) else replace(first, title=title), *blocks[1:]]


def _blocks(result: Result | xr.DataTree, n: int, roles: Roles | None) -> list[Block]:
    result = result if isinstance(result, xr.DataTree) else without_lost_claims(result)
    result = whole_patterns(result) if isinstance(result, xr.DataArray) else result
    known = method_of(result.attrs)
    if known and known.picture and not isinstance(result, xr.DataTree):
        order = known.order(set(map(str, result.dims)), more=isinstance(result, xr.Dataset))
        if order is not None:
            given = {"roles": roles} if known.reads_roles else {}
            return referenced(known.picture)(result.transpose(*order, ...), **given)
    tables = tables_of(result)
    if not tables:
        raise InputError("result: the dataset has no variable; expected one for each site")
    first = next(iter(tables.values()))
    if "model" in first["mean"].dims:
        return [block for name, table in tables.items() for block in model_blocks(name, table, n)]
    return _pictures(first, n) if len(tables) == 1 else _several(tables, n)


def together(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Of each picture what it is of, and its results: several of one method, if that draws them side by side."""
    groups: list[tuple[str, list[Result]]] = []
    for result, subject in zip(results, subjects(results), strict=True):
        known = method_of(without_lost_claims(result).attrs)
        alike = [
            group for of, group in groups if of == subject and known and known.together and _drawn_by(known, group)
        ]
        if alike and known and _drawn_by(known, [result]):
            alike[0].append(result)
        else:
            groups.append((subject, [result]))
    return groups


def _drawn_by(known: Method, results: Sequence[Result]) -> bool:
    """Whether results are of a method, with the dimensions that its picture reads."""
    return all(
        result.attrs.get("method") == known.name
        and known.order(set(map(str, result.dims)), more=isinstance(result, xr.Dataset)) is not None
        for result in results
    )


def blocks_together(results: Sequence[Result], n: int = 0, roles: Roles | None = None) -> list[Block]:
    """The pictures of results that share one; of a single result as `blocks_of`."""
    known = method_of(results[0].attrs)
    if len(results) == 1 or known is None:
        return blocks_of(results[0], n=n, roles=roles)
    return referenced(known.picture)(results)


def title_in(block: Any) -> str:
    """The title of a block, or "" if its kind has none."""
    return getattr(block, "title", "") or getattr(block, "summary", "")


def parts_of(tree: xr.DataTree) -> list[xr.Dataset | xr.DataTree]:
    """What is drawn by itself of a tree: the tests of an evaluation; of a summary of several sites, all together.

    Raises:
        InputError: a tree without either.
    """
    tables = [child.to_dataset() for child in tree.children.values()]
    if not tables or any(not table.data_vars for table in tables):
        raise InputError(
            "result: the tree has no table; expected a summary of several sites, or an evaluation; of a larger tree "
            "give one branch, tree['name']"
        )
    return [tree] if all(map(is_summary, tables)) else [*tables]


def tables_of(result: Result | xr.DataTree) -> dict[str, xr.Dataset]:
    """A summary for each site, which knows its site, and of an attribution the whole that its parts sum to."""
    tables = summaries(result)
    for name, table in tables.items():
        array = result[name] if isinstance(result, xr.Dataset) and name in result.data_vars else result
        about: dict[str, str | float] = {"site": str(table.attrs.get("site") or name)}
        if "total" in array.coords and array.coords["total"].dims == ("prompt",):
            about["total"] = float(array.coords["total"].mean())
        # A summary knows of how many prompts it is, and not which one was selected.
        selected = "prompt" in array.coords and not array.coords["prompt"].dims
        table = table.assign_coords(prompt=array.coords["prompt"].item()) if selected else table
        tables[name] = table.assign_attrs(about)
    return tables


def whole_patterns(result: xr.DataArray) -> xr.DataArray:
    """Attention of one head, or on one prompt, with the dimensions that the attention view reads."""
    known = method_of(result.attrs)
    if not (known and known.reads_roles and {"q_pos", "k_pos"} <= set(result.dims)):
        return result
    if "address" in result.coords and "address" not in result.dims:
        result = result.expand_dims("address")
    if "prompt" in result.coords and "prompt" not in result.dims:
        tokens = {name: result[name].expand_dims("prompt") for name in ("q_token", "k_token") if name in result.coords}
        result = result.expand_dims("prompt").assign_coords(tokens)
    return result


def _pictures(table: xr.Dataset, n: int) -> list[Block]:
    """The pictures of one summary, by its dimensions."""
    dims, title = {str(dim) for dim in table["mean"].dims}, finding(table)
    if not dims:
        return [value_table(table, title)]
    if dims in ({"layer", "head"}, {"layer", "kv_head"}):
        return [Figure(heatmap(table, x="head"), title), Figure(bars(table, n=n or MOST_BARS))]
    if dims == {"layer", "part"}:
        return [Figure(lines(table, x="layer", series="part"), title)]
    if dims in ({"stage"}, {"share"}):
        return [Figure(lines(table, x=dims.pop()), title)]
    if len(dims) == 1 or dims == {"layer", "neuron"}:
        return [Figure(bars(table, n=n or MOST_BARS), title)]
    return [_by_cells(table, dims, title, n)]


def _several(tables: Mapping[str, xr.Dataset], n: int) -> list[Block]:
    """One figure with a panel a site where the dimensions agree; otherwise the sites one after another."""
    shapes = [{"head" if dim in HEADS else str(dim) for dim in table["mean"].dims} for table in tables.values()]
    dims = shapes[0]
    if any(shape != dims for shape in shapes) or len(dims) != 2 or "layer" not in dims:
        each = {SITES.get(name, name): _pictures(table, n) for name, table in tables.items()}
        return [block for name, blocks in each.items() for block in titled(blocks, spoken(name, title_in(blocks[0])))]
    found = {name: finding(table) for name, table in tables.items()}
    main = next((name for name in ("z", "resid_pre", "resid_post") if name in tables), next(iter(tables)))
    (x,) = dims - {"layer"}
    others = [f"{SITES.get(name, name)}: {text}." for name, text in found.items() if name != main]
    return [Figure(heatmap(tables, x=x), found[main], note=" ".join(others))]


def _by_cells(table: xr.Dataset, dims: set[str], title: str, n: int) -> Block:
    places = [dim for dim in PLACES if dim in dims]
    if dims == {"layer", *places} and len(places) == 1:
        return Figure(heatmap(table, x=places[0]), title)
    head = next((name for name in HEADS if name in dims), None)
    if head and dims == {"layer", head, *places} and len(places) == 1:
        leading = leading_heads(table, head, n or MOST_ROWS)
        return _leading(heatmap(leading, x=places[0], y="address"), title, table, leading)
    if head and dims == {"layer", head, "q_pos", "k_pos"}:
        leading = leading_heads(table, head, n or MOST_MAPS)
        return _leading(heatmap(leading, x="k_pos", y="q_pos", facet="address"), title, table, leading)
    *others, y, x = sorted(map(str, dims), key=lambda dim: (_AXES.index(dim) if dim in _AXES else -1, dim))
    if not others:
        return Figure(heatmap(table, x=x, y=y), title)
    if len(others) == 1 and "neuron" not in dims and table.sizes[others[0]] <= MOST_PANELS:
        return Figure(heatmap(table, x=x, y=y, facet=others[0]), title)
    raise InputError(
        f"result: there is no picture of the dimensions {', '.join(sorted(dims))}; "
        "choose one value of some of them, `result.sel(layer=9)`, or use unweave.views.charts.heatmap"
    )


def _leading(figure: go.Figure, title: str, table: xr.Dataset, leading: xr.Dataset) -> Block:
    head = next(name for name in HEADS if name in table.dims)
    total = table.sizes["layer"] * table.sizes[head]
    n, clear = leading.sizes["address"], significant(table)
    some = f"Shown {'is the head' if n == 1 else f'are the {n} heads'}, of {total}, with the largest cell"
    return Figure(figure, title, note=f"{some}{', significant ones first' if clear.any() and not clear.all() else ''}.")


HEADS = ("head", "kv_head")


def leading_heads(table: xr.Dataset, head: str, n: int) -> xr.Dataset:
    """The `n` heads with the largest cells, by layer, along `address` instead of `(layer, head)`.

    Heads with a significant cell come first; others only if they have a cell that is larger than all of those.
    """
    flat = table.stack(address=("layer", head))
    sure, size = (_largest(table, cells, head) for cells in (significant(table), True))
    worth = (sure > 0) | (size > sure.max())
    order = np.lexsort((-size, -sure, ~worth))
    kept = np.sort(order[: min(n, max(1, int(worth.sum())))])
    chosen = flat.isel(address=kept)
    layers, heads = chosen["layer"].values.tolist(), chosen[head].values.tolist()
    names = [cell_label({"layer": layer, head: number}) for layer, number in zip(layers, heads, strict=True)]
    return chosen.drop_vars(["address", "layer", head]).assign_coords(address=names)


def _largest(table: xr.Dataset, cells: Bool[np.ndarray, "..."] | bool, head: str) -> Float[np.ndarray, " address"]:
    """The largest size among the given cells of each head."""
    sizes = abs(table["mean"].where(cells, 0.0)).stack(address=("layer", head)).transpose("address", ...)
    return np.nan_to_num(sizes.values.reshape(sizes.sizes["address"], -1)).max(axis=1)


MOST_CURVES = 8


def model_blocks(name: str, table: xr.Dataset, n: int) -> list[Block]:
    """The pictures of the summary of a site with a dimension `model`.

    Args:
        name: of the site.
        table: with `model`, and at most two dimensions besides.
        n: how many heads get a curve.

    Raises:
        InputError: more dimensions than there is a picture for.
    """
    others = [str(dim) for dim in table["mean"].dims if dim != "model"]
    if not others:
        return [Figure(lines({name: table}, x="model", title=_along(table)))]
    head = next((dim for dim in others if dim in HEADS), None)
    if head and set(others) == {"layer", head}:
        curves = leading_heads(table, head, n or MOST_CURVES)
        panels = heatmap(table, x=head, facet="model", title="The same, a map for each model")
        return [Figure(lines(curves, x="model", series="address")), Figure(panels)]
    if len(others) == 1:
        (dim,) = others
        table = table.isel({dim: _leading_edges(table)}) if dim == "edge" else table
        if table.sizes[dim] <= MOST_CURVES:
            return [Figure(lines(_curve_names(table, dim), x="model", series=dim))]
        return [Figure(heatmap(table, x=dim, y="model"))]
    if len(others) == 2:
        y, x = others
        return [Figure(heatmap(table, x=x, y=y, facet="model"))]
    raise InputError(
        f"result: there is no picture of {', '.join(others)} over models; choose one value of some of them, "
        "`result.sel(layer=1)`, or one model, `result.sel(model=…)`"
    )


def _leading_edges(table: xr.Dataset) -> list[int]:
    """The edges with the largest cells: all of a model are too many for a page."""
    sizes = np.nan_to_num(abs(table["mean"]).transpose("model", "edge").values).max(axis=0)
    return np.argsort(-sizes, kind="stable")[:MOST_CURVES].tolist()


def _curve_names(table: xr.Dataset, dim: str) -> xr.Dataset:
    """Numbers along `dim` as names of curves: `layer 3`."""
    values = table[dim].values
    if not np.issubdtype(values.dtype, np.number):
        return table
    return table.assign_coords({dim: [f"{dim} {value}" for value in values]})


def _along(table: xr.Dataset) -> str:
    """Where a curve changes most, if the models stand in an order, as the epochs of a training do."""
    if not np.issubdtype(table["model"].dtype, np.number):
        return ""
    what = str(table.attrs.get("quantity", "mean"))
    return steepest([f"model {name}" for name in table["model"].values], table["mean"].values, what)
