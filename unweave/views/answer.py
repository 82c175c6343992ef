"""The first screen of a report: what was asked, the answer in numbers, and the command that makes it again."""

import html
from dataclasses import dataclass

from unweave.views.blocks import Block, Code, inline


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
        small = "".join(_line(fact) for fact in self.facts if not fact.headline)
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


def _line(fact: Fact) -> str:
    note = f'<span class="note">{inline(fact.note)}</span>' if fact.note else ""
    return f"<div><dt>{html.escape(fact.label)}</dt><dd>{inline(fact.value)}{note}</dd></div>"
