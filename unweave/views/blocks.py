"""The blocks that a page is made of: prose, tables, figures, sections.

A block is a frozen value that knows two things: its HTML, and the scripts and styles that this HTML needs. Everything
that comes from a prompt, a result or a caller is escaped here, so that a block can be given any text. A new kind of
block is a new class with `html` and `needs`; the page (unweave/views/page.py) never asks what kind it has.
"""

import base64
import gzip
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import plotly.graph_objects as go
import plotly.io

PLOTLY, ATTENTION, PROMPTS, CIRCUIT, SEQUENCES = "plotly", "attention", "prompts", "circuit", "sequences"
Align = str


@runtime_checkable
class Block(Protocol):
    """One piece of a page."""

    def html(self) -> str:
        """The piece as HTML, with all foreign text escaped."""
        ...

    def needs(self) -> frozenset[str]:
        """Names of the assets that the HTML needs: `plotly`, `attention`, `prompts`, `circuit`, `sequences`."""
        ...


@dataclass(frozen=True)
class Text:
    """Paragraphs of plain text. Words between backticks are set as code; nothing else is markup."""

    paragraphs: tuple[str, ...]

    def html(self) -> str:
        return "".join(f"<p>{inline(paragraph)}</p>" for paragraph in self.paragraphs)

    def needs(self) -> frozenset[str]:
        return frozenset()


@dataclass(frozen=True)
class Code:
    """A command or a listing, as it is typed."""

    text: str

    def html(self) -> str:
        return f'<pre tabindex="0"><code>{html.escape(self.text)}</code></pre>'

    def needs(self) -> frozenset[str]:
        return frozenset()


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
        sides = [f' class="{side}"' for side in alignment(self)]
        head = "".join(
            f'<th scope="col"{side}>{html.escape(cell)}</th>' for side, cell in zip(sides, self.header, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(f"<td{side}>{html.escape(cell)}</td>" for side, cell in zip(sides, row, strict=True))
            + "</tr>"
            for row in self.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        label = html.escape(self.title or "table", quote=True)
        scroller = f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{table}</div>'
        return f'<figure class="table">{heading(self.title)}{scroller}{caption(self.caption)}</figure>'

    def needs(self) -> frozenset[str]:
        return frozenset()


@dataclass(frozen=True)
class Figure:
    """A plotly figure under a title that says what was found.

    The title and the caption stand in the page, not in the drawing; left out, they are those that the figure brings
    (unweave/views/theme.py). The drawing's width follows the window; below `min_width` pixels its frame scrolls.
    """

    figure: go.Figure
    title: str = ""
    caption: str = ""
    min_width: int = 0

    def html(self) -> str:
        brought = meta_of(self.figure)
        title = self.title or brought.get("title", "")
        shown = go.Figure(self.figure).update_layout(title=None, width=None, autosize=True)
        layout: Any = shown.layout
        height = int(brought.get("wide", {}).get("height") or layout.height or 420)
        size = f"height:{height}px;min-width:{self.min_width}px"
        label = html.escape(title, quote=True)
        canvas = f'<div class="canvas waiting" role="img" aria-label="{label}" style="{size}"></div>'
        data = packed(str(plotly.io.to_json(shown, validate=False)))
        below = caption(self.caption or brought.get("caption", ""))
        return f'<figure class="plot">{heading(title)}<div class="scroll">{canvas}</div>{data}{below}</figure>'

    def needs(self) -> frozenset[str]:
        return frozenset({PLOTLY})


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away until the reader opens them; open in print."""

    summary: str
    blocks: Sequence[Block]

    def html(self) -> str:
        inner = "".join(block.html() for block in self.blocks)
        return f"<details><summary>{html.escape(self.summary)}</summary>{inner}</details>"

    def needs(self) -> frozenset[str]:
        return wanted(self.blocks)


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
        inner = "".join(block.html() for block in self.blocks)
        anchor = html.escape(self.anchor, quote=True)
        return f'<section id="{anchor}"><h2>{html.escape(self.title)}</h2>{inner}</section>'

    def needs(self) -> frozenset[str]:
        return wanted(self.blocks)


def meta_of(figure: go.Figure) -> dict[str, Any]:
    """What a figure brings for its page: title, caption and layouts (unweave/views/theme.py)."""
    layout: Any = figure.layout
    return dict(layout.meta or {})


def wanted(blocks: Sequence[Block]) -> frozenset[str]:
    """The assets that any of the blocks needs."""
    return frozenset().union(*(block.needs() for block in blocks))


def inline(text: str) -> str:
    """Plain text as HTML, with words between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def heading(title: str) -> str:
    return f"<h3>{html.escape(title)}</h3>" if title else ""


def caption(text: str) -> str:
    return f"<figcaption>{inline(text)}</figcaption>" if text else ""


def packed(text: str) -> str:
    """A data element: gzip, then base64, so that nothing in the text can be read as markup and the page stays small."""
    return f'<script type="text/plain" class="data">{pack(text)}</script>'


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
        large = "".join(_headline(fact) for fact in self.facts if fact.headline)
        small = "".join(_fact_line(fact) for fact in self.facts if not fact.headline)
        parts = [
            f"<h1>{html.escape(self.title)}</h1>",
            f'<p class="question">{inline(self.question)}</p>' if self.question else "",
            f'<dl class="headlines">{large}</dl>' if large else "",
            self._drawn(f'<dl class="facts">{small}</dl>' if small else ""),
            Code(self.command).html() if self.command else "",
        ]
        return f'<header class="answer">{"".join(parts)}</header>'

    def _drawn(self, facts: str) -> str:
        """The facts around the drawing."""
        if self.drawing is None:
            return facts
        return f'<div class="beside"><div class="drawing">{self.drawing.html()}</div>{facts}</div>'

    def needs(self) -> frozenset[str]:
        return self.drawing.needs() if self.drawing else frozenset()


def _headline(fact: Fact) -> str:
    note = f'<dd class="note">{html.escape(fact.note)}</dd>' if fact.note else ""
    return f'<div><dt>{html.escape(fact.label)}</dt><dd class="value">{html.escape(fact.value)}</dd>{note}</div>'


def _fact_line(fact: Fact) -> str:
    note = f'<span class="note">{inline(fact.note)}</span>' if fact.note else ""
    return f"<div><dt>{html.escape(fact.label)}</dt><dd>{inline(fact.value)}{note}</dd></div>"
