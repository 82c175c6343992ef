"""Which pictures a result gets: chosen by its method and its dimensions, with titles computed from it.

    stage                        lines                         layer, neuron               ranked bars
    component, address           ranked bars                   layer, head, place          heat map of the leading heads
    layer, part                  lines                         layer, head, q_pos, k_pos   the leading heads' maps
    layer, head                  heat map, and ranked bars     address, q_pos, k_pos       attention view
    layer, pos | role | q_pos    heat map                      sender                       ranked bars
    model, and others            curves along the models, or a heat map for each

Methods whose results have dimensions of their own bring their own pictures (`_OWN`). Several sites share one heat map,
a panel each. Whatever is selected here is selected from a summary of the whole result, so that p-values stay adjusted
over all of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unweave.errors import InputError
from unweave.results.summary import summaries, summary
from unweave.views.attention import attention_view
from unweave.views.blocks import Block, Figure, meta_of
from unweave.views.charts.bars import bars
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.lines import lines
from unweave.views.charts.panels import SITES
from unweave.views.circuit.scores import evaluation_blocks
from unweave.views.classes import class_blocks, missed_blocks, rebuilt_blocks, scale_blocks
from unweave.views.head_evidence import contribution_blocks, role_attention_blocks, score_blocks
from unweave.views.knockouts import attribution_blocks, backup_blocks, knockout_finding
from unweave.views.leading import HEADS, leading_heads
from unweave.views.over_models import model_blocks
from unweave.views.path_effects import path_finding
from unweave.views.signals import signal_blocks
from unweave.views.titles import (
    PLACES,
    attention_finding,
    attribution_finding,
    lens_finding,
    patch_finding,
    told_from_zero,
)
from unweave.views.weight_circuits import circuit_blocks, composition_blocks, copying_blocks, place_blocks

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import xarray

MOST_BARS, MOST_ROWS, MOST_MAPS = 12, 12, 3
Roles = Mapping[str, Sequence[int]]
# Of methods whose results have dimensions of their own: the pictures, from the result and a title.
_OWN: Mapping[str, Callable[[Any, str], list[Block]]] = {
    "K-composition": place_blocks,
    "OV circuit": circuit_blocks,
    "QK circuit": circuit_blocks,
    "V-composition": place_blocks,
    "attention against contribution": contribution_blocks,
    "attention between roles": role_attention_blocks,
    "attribution through a head": place_blocks,
    "backup heads": backup_blocks,
    "class attribution": class_blocks,
    "completeness": evaluation_blocks,
    "composition scores": composition_blocks,
    "copying eigenvalues": copying_blocks,
    "copying scores": score_blocks,
    "faithfulness": evaluation_blocks,
    "faithfulness curve": evaluation_blocks,
    "head scores": score_blocks,
    "knockout attribution": attribution_blocks,
    "minimality": evaluation_blocks,
    "norm scales": scale_blocks,
    "position and token": signal_blocks,
    "rebuilt attention": rebuilt_blocks,
    "single changes": missed_blocks,
}


def blocks_of(
    result: "xarray.DataArray | xarray.Dataset", *, title: str = "", n: int = 0, roles: Roles | None = None
) -> list[Block]:
    """The pictures of a result, the most telling first.

    Args:
        result: a result of a method, or several sites of one.
        title: of the first picture; computed from the result if left out.
        n: how many rows, bars or maps where not all are shown; by default what is readable.
        roles: positions of each prompt by name, to say where heads look.

    Raises:
        InputError: dimensions that no picture is known for.
    """
    import xarray as xr

    if "model" in result.dims:
        arrays = result.data_vars.values() if isinstance(result, xr.Dataset) else [result]
        return [block for array in arrays for block in model_blocks(array, title, n)]
    own = _OWN.get(str(result.attrs.get("method", "")))
    if own is not None:
        return own(result, title)
    if isinstance(result, xr.Dataset):
        return _several(result, title, n)
    dims = _dims(result)
    if dims == {"address", "q_pos", "k_pos"} and result.attrs.get("method") == "attention":
        return [attention_view(result, title or attention_finding(result, roles), _attention_caption())]
    table = summary(result)
    title = title or finding(table, result)
    if dims == {"layer", "head"} or dims == {"layer", "kv_head"}:
        head = "head" if "head" in dims else "kv_head"
        return [Figure(heatmap(table, x=head), title), Figure(bars(table, n=n or MOST_BARS))]
    if dims == {"layer", "part"}:
        return [Figure(lines(table, x="layer", series="part"), title)]
    if len(dims) == 1:
        (dim,) = dims
        return [
            Figure(lines(table, x="stage"), title) if dim == "stage" else Figure(bars(table, n=n or MOST_BARS), title)
        ]
    return [_by_cells(table, dims, title, n)]


def finding(table: "xarray.Dataset", result: "xarray.DataArray") -> str:
    """The title that a result earns: what it shows, in a sentence."""
    method = str(result.attrs.get("method", ""))
    if method == "logit lens":
        return lens_finding(table)
    if method == "direct logit attribution":
        return attribution_finding(table, float(result.coords["total"].mean()))
    if method == "path patching":
        return path_finding(table)
    if method == "knockout":
        return knockout_finding(table)
    return patch_finding(table, str(result.attrs.get("site", "")), str(result.attrs.get("direction", "denoise")))


def _dims(result: "xarray.DataArray") -> set[str]:
    return {str(dim) for dim in result.dims} - {"prompt"}


def _several(result: "xarray.Dataset", title: str, n: int) -> list[Block]:
    """One figure with a panel a site where the dimensions agree; otherwise the sites one after another."""
    arrays = {str(name): array for name, array in result.data_vars.items()}
    if not arrays:
        raise InputError("result: the dataset has no variable; expected one for each site")
    shapes = [{"head" if dim in HEADS else dim for dim in _dims(array)} for array in arrays.values()]
    dims = shapes[0]
    if any(shape != dims for shape in shapes) or len(dims) != 2 or "layer" not in dims:
        return [block for name, array in arrays.items() for block in blocks_of(_named(array, name), n=n)]
    tables = summaries(result)
    found = {name: finding(tables[name], _named(array, name)) for name, array in arrays.items()}
    main = next((name for name in ("z", "resid_pre", "resid_post") if name in arrays), next(iter(arrays)))
    (x,) = dims - {"layer"}
    figure = heatmap(tables, x=x, title=title or found[main])
    others = [f"{SITES.get(name, name)}: {text}." for name, text in found.items() if name != main]
    return [Figure(figure, title or found[main], " ".join([meta_of(figure)["caption"], *others]))]


def _named(array: "xarray.DataArray", name: str) -> "xarray.DataArray":
    return array if array.attrs.get("site") else array.assign_attrs(site=name)


def _by_cells(table: "xarray.Dataset", dims: set[str], title: str, n: int) -> Block:
    if dims == {"layer", "neuron"}:
        return Figure(bars(table, n=n or MOST_BARS), title)
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
    if len(dims) == 2:
        x, y = (str(dim) for dim in reversed(table["mean"].dims))
        return Figure(heatmap(table, x=x, y=y), title)
    raise InputError(
        f"result: there is no picture of the dimensions {', '.join(sorted(dims))}; "
        "choose one value of some of them, `result.sel(layer=9)`, or use unweave.views.charts.heatmap"
    )


def _leading(figure: "go.Figure", title: str, table: "xarray.Dataset", leading: "xarray.Dataset") -> Block:
    head = next(name for name in HEADS if name in table.dims)
    total = table.sizes["layer"] * table.sizes[head]
    n = leading.sizes["address"]
    some = f"Shown {'is the head' if n == 1 else f'are the {n} heads'}, of {total}, with the largest cell"
    told = told_from_zero(table)
    chosen = f"{some}." if told.all() or not told.any() else f"{some}, those told from 0 before others."
    return Figure(figure, title, f"{meta_of(figure)['caption']} {chosen}")


def _attention_caption() -> str:
    where = "Rows are the tokens that look, columns the tokens that are looked at; a row sums to 1."
    return f"{where} Choose a head to enlarge it, and point at a token to see both."
