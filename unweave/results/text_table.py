"""A small table of texts that prints itself: in plain text, in a terminal by rich, and in a notebook."""

import html
from dataclasses import dataclass

import rich.box
import rich.table
from rich.text import Text


@dataclass(frozen=True)
class TextTable:
    """Rows of texts under a header, below a title. Cells are plain text; what needs escaping is escaped here.

    The rows numbered in `strong`, from 0, are bold where there are typefaces.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: tuple[int, ...] = ()

    def __str__(self) -> str:
        table = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in table]
        return "\n".join([self.title, *(line.rstrip() for line in lines)])

    def __rich__(self) -> rich.table.Table:
        drawn = rich.table.Table(title=Text(self.title), title_justify="left", box=rich.box.SIMPLE_HEAD)
        for name in self.header:
            drawn.add_column(Text(name))
        for place, row in enumerate(self.rows):
            drawn.add_row(*map(Text, row), style="bold" if place in self.strong else None)
        return drawn

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.header)
        rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in cells) for cells in self.rows]
        bold = ' style="font-weight: 600"'
        body = "".join(f"<tr{bold if place in self.strong else ''}>{row}</tr>" for place, row in enumerate(rows))
        return f"<table><caption>{html.escape(self.title)}</caption><tr>{head}</tr>{body}</table>"
