"""The blocks that a page is made of: prose, tables, figures, sections.

A block is a frozen value that knows its HTML, which a macro of unweave/views/templates/blocks.html makes. Everything
that comes from a prompt, a result or a caller is escaped there, so that a block can be given any text. A new kind of
block is a new class with `html`, and its macro; the page (unweave/views/page.py) never asks what kind it has.
"""

import base64
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, runtime_checkable

import plotly.graph_objects as go
import plotly.io
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from unweave.views.wording import visible

Align = str


@runtime_checkable
class Block(Protocol):
    """One piece of a page."""

    def html(self) -> str:
        """The piece as HTML, with all foreign text escaped."""
        ...


@dataclass(frozen=True)
class Text:
    """Paragraphs of plain text. Words between backticks are set as code; nothing else is markup."""

    paragraphs: tuple[str, ...]

    def html(self) -> str:
        return drawn("text", self)


@dataclass(frozen=True)
class Code:
    """A command or a listing, as it is typed."""

    text: str

    def html(self) -> str:
        return drawn("code", self)


@dataclass(frozen=True)
class Table:
    """A table of short texts.

    `align` has one letter a column, `l` or `r`; left out, columns of numbers stand to the right. The same value is
    drawn in a terminal by `unweave.views.result_tables.rich_table`.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    caption: str = ""
    align: Align = ""

    def html(self) -> str:
        return drawn("table", self, alignment(self))


@dataclass(frozen=True)
class Figure:
    """A plotly figure under a title that says what was found.

    The title and the caption stand in the page, not in the drawing; left out, they are those that the figure brings
    (unweave/views/theme.py), and `note` stands after its caption. The drawing's width follows the window; below
    `min_width` pixels its frame scrolls.
    """

    figure: go.Figure
    title: str = ""
    caption: str = ""
    min_width: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        brought = meta_of(self.figure)
        object.__setattr__(self, "title", self.title or str(brought.get("title", "")))
        if not self.caption:
            notes = (str(brought.get("caption", "")), self.note)
            object.__setattr__(self, "caption", " ".join(filter(None, notes)))

    def html(self) -> str:
        shown = go.Figure(self.figure).update_layout(title=None, width=None, autosize=True)
        layout: Any = shown.layout
        height = int(meta_of(self.figure).get("wide", {}).get("height") or layout.height or 420)
        return drawn("plot", self, height, str(plotly.io.to_json(shown, validate=False)))


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away until the reader opens them; open in print."""

    summary: str
    blocks: Sequence[Block]

    def html(self) -> str:
        return drawn("details", self)


@dataclass(frozen=True)
class Section:
    """A titled part of the page, listed in its contents. `id` is the link's name, by default made from the title."""

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)
    id: str = ""

    @property
    def anchor(self) -> str:
        return self.id or re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"

    def html(self) -> str:
        return drawn("section", self)


def meta_of(figure: go.Figure) -> dict[str, Any]:
    """What a figure brings for its page: title, caption and layouts (unweave/views/theme.py)."""
    layout: Any = figure.layout
    return dict(layout.meta or {})


def pack(text: str) -> str:
    """Text as gzip in base64; the same text always gives the same letters (no time of day in the gzip header)."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode("ascii")


def alignment(table: Table) -> str:
    """One letter a column: `l`, and `r` for a later column in which every cell that says something is a number."""
    if table.align:
        return table.align
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.header)
    # The first column names the rows, also where the names are heads, such as 23.3.
    return "".join(
        "r" if place and column and all(map(is_number, column)) else "l" for place, column in enumerate(columns)
    )


def is_number(cell: str) -> bool:
    """Whether a cell starts as a number does; blanks and dashes stand in columns of numbers too."""
    return re.match(r"^\s*([<≤≥~]?\s*[-+−]?[\d.]|–?\s*$)", cell) is not None


@dataclass(frozen=True)
class Fact:
    """One line of the answer. A headline stands as a large number, with the spread as its note."""

    label: str
    value: str
    note: str = ""
    headline: bool = False


@dataclass(frozen=True)
class Answer:
    """Title, question and facts; `command` makes the report again.

    `drawing` stands beside the first facts, those that follow take the whole width; on a small screen it
    stands below them all.
    """

    title: str
    question: str
    facts: tuple[Fact, ...]
    command: str = ""
    drawing: Block | None = None

    def html(self) -> str:
        return drawn("answer", self)


@cache
def templates() -> Environment:
    """The templates of unweave/views/templates, which escape whatever they are given."""
    made = Environment(
        loader=PackageLoader("unweave.views", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters |= {"inline": _inline, "pack": pack, "visible": visible, "px": lambda pixels: f"{pixels:.1f}"}
    return made


def drawn(kind: str, block: object, *more: object) -> str:
    """A block's HTML, by the macro of its kind."""
    return str(getattr(templates().get_template("blocks.html").module, kind)(block, *more)).strip()


def _inline(text: str) -> Markup:
    """Plain text as HTML, with words between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
