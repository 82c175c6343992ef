"""`uw.show`: a result as a picture, in a notebook, in a browser, or as a file."""

import html
import os
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.errors import InputError
from unweave.methods.head_types import HeadTypes
from unweave.results.comparison import Agreement, Comparison
from unweave.results.top import Top
from unweave.views.blocks import Block
from unweave.views.circuit_drawing import circuit_drawing
from unweave.views.comparison_tables import table_of
from unweave.views.head_pictures import roles_table
from unweave.views.investigation import about
from unweave.views.page import page, write_page
from unweave.views.pictures import Roles, blocks_of, blocks_together, parts_of, titled, together
from unweave.views.result_tables import top_table
from unweave.views.wording import Result, listed

Shown = Result | xr.DataTree | Circuit | HeadTypes | Comparison | Agreement | Top | Block


@dataclass(frozen=True)
class View:
    """Pictures ready to be looked at. A notebook draws them; elsewhere call `open()` or `save(path)`."""

    blocks: tuple[Block, ...]
    title: str = "unweave"

    @cached_property
    def html(self) -> str:
        """One self-contained HTML page."""
        return page(self.title, self.blocks)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page. Raises InputError where the folder cannot be written to."""
        return write_page(self.html, path)

    def open(self) -> Path:
        """Show the page in the browser; returns the temporary file that it was written to."""
        folder = Path(tempfile.mkdtemp(prefix="unweave-"))
        path = self.save(folder / "view.html")
        webbrowser.open(path.as_uri())
        return path

    def _repr_html_(self) -> str:
        inner = html.escape(page(self.title, self.blocks, embedded=True), quote=True)
        style = "width:100%;height:560px;border:0"
        return f'<iframe title="{html.escape(self.title, quote=True)}" style="{style}" srcdoc="{inner}"></iframe>'

    def __repr__(self) -> str:
        return f"<View of {self.title}: .open() shows it in a browser, .save('view.html') writes it>"


def show(
    result: Shown | Sequence[Result] | Mapping[str, xr.DataArray],
    *,
    title: str = "",
    n: int = 0,
    roles: Roles | None = None,
) -> View:
    """A result as pictures: the view is chosen by what the result is.

    Heads and layers are drawn as heat maps, stages of the logit lens as lines, parts and neurons as ranked bars,
    attention as thumbnails that enlarge, a circuit as heads and paths, the strongest edges as a graph.

    Args:
        result: a result of a method, several sites of one, a slice, mean or `summary` of these, an evaluation, a
            circuit, named heads, a `top`, a comparison or an agreement, or a block of unweave.views.blocks; or a list
            of results, or arrays by name. Curves of edges, `{"by size": one, "random edges": other}`, share a figure.
        title: of the first picture; what was found, if left out.
        n: how many rows, bars or maps where not all can be shown; by default what is readable.
        roles: positions of each prompt by name (`prompts.roles`), to say where heads look, and to order the columns of
            a circuit.

    Raises:
        InputError: no result, or dimensions that there is no picture for.
    """
    if isinstance(result, (xr.DataArray, xr.Dataset)):
        sizes = ", ".join(f"{dim} {size}" for dim, size in result.sizes.items())
        name = f"{result.attrs.get('method', 'result')} ({sizes})"
        return View(tuple(blocks_of(result, title=title, n=n, roles=roles)), name)
    if isinstance(result, xr.DataTree):
        parts = parts_of(result)
        blocks = titled([block for part in parts for block in blocks_of(part, n=n)], title)
        return View(tuple(blocks), ", ".join(result.children))
    if isinstance(result, Mapping):
        result = [_named(array, name) for name, array in result.items()]
    if isinstance(result, (list, tuple)):
        return _several(result, title, n, roles)
    if isinstance(result, Block):
        return View((result,), title or type(result).__name__)
    return View(tuple(titled([_alone(result, roles)], title)), title or type(result).__name__.lower())


def _alone(result: object, roles: Roles | None) -> Block:
    """What is shown as one block."""
    if isinstance(result, (Comparison, Agreement)):
        return table_of(result)
    if isinstance(result, Top):
        return top_table(result)
    if isinstance(result, Circuit):
        return circuit_drawing(result, places=roles)
    if isinstance(result, HeadTypes):
        return roles_table(result)
    raise InputError(
        "result: expected a result (a DataArray or Dataset), a circuit, a top or a block, "
        f"got {type(result).__name__}; uw.load reads a saved one"
    )


def _several(results: Sequence[object], title: str, n: int, roles: Roles | None) -> View:
    """Results one after another; those that share a picture side by side."""
    arrays = [result for result in results if isinstance(result, (xr.DataArray, xr.Dataset))]
    if not arrays or len(arrays) < len(results):
        others = {type(result).__name__ for result in results} - {"DataArray", "Dataset"}
        raise InputError(
            "result: expected a result (a DataArray or Dataset) at each place of the list, "
            f"got {', '.join(sorted(others)) or 'none'}; uw.report takes circuits and comparisons too"
        )
    blocks = [about(block, of) for of, alike in together(arrays) for block in blocks_together(alike, n=n, roles=roles)]
    methods = dict.fromkeys(str(one.attrs.get("method", "result")) for one in arrays)
    return View(tuple(titled(blocks, title)), title or listed(list(methods)))


def _named(result: object, name: str) -> xr.DataArray:
    if not isinstance(result, xr.DataArray):
        raise InputError(f"result[{name!r}]: expected a DataArray of a method, got {type(result).__name__}")
    return result.rename(name)
