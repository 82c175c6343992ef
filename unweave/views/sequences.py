"""Sequences in a line each, with the tokens that do not match their mirror image marked.

    START |04|16|06|[27]|[00]|06|16|04| END -> 0.003

A terminal and a page colour the marked tokens; plain text puts brackets around them.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unweave.errors import InputError
from unweave.models.prompts import Prompts
from unweave.views.blocks import SEQUENCES, caption, heading
from unweave.views.text import visible

if TYPE_CHECKING:
    from rich.text import Text

_DARK, _LIGHT = "bold dark_orange", "bold red"


@dataclass(frozen=True)
class SequenceLine:
    """One sequence: its tokens, which of them are marked, and the probability that stands behind it."""

    tokens: tuple[str, ...]
    marked: tuple[bool, ...]
    probability: float | None = None

    def __str__(self) -> str:
        first, *inner, last = [f"[{token}]" if mark else token for token, mark in self.pieces()]
        return f"{first} |{'|'.join(inner)}| {last}{self.outcome()}"

    def pieces(self) -> list[tuple[str, bool]]:
        """Each token as it is shown, and whether it is marked."""
        return [(visible(token), mark) for token, mark in zip(self.tokens, self.marked, strict=True)]

    def outcome(self) -> str:
        return "" if self.probability is None else f" -> {self.probability:.3f}"


@dataclass(frozen=True)
class SequenceList:
    """Sequences one under the other; a block of a page, and drawn by rich and by notebooks.

    `light` chooses the colour of marks for a terminal with a light background; pages follow their reader's setting.
    """

    lines: tuple[SequenceLine, ...]
    title: str = ""
    caption: str = ""
    light: bool = False

    def __str__(self) -> str:
        return "\n".join([self.title] * bool(self.title) + [str(line) for line in self.lines])

    __repr__ = __str__

    def __rich__(self) -> "Text":
        from rich.text import Text

        drawn = [Text(self.title, style="bold")] if self.title else []
        drawn += [_coloured(line, _LIGHT if self.light else _DARK) for line in self.lines]
        return Text("\n").join(drawn)

    def html(self) -> str:
        items = "".join(f"<li>{_marked_up(line)}</li>" for line in self.lines)
        return f'<figure class="sequences">{heading(self.title)}<ol>{items}</ol>{caption(self.caption)}</figure>'

    def needs(self) -> frozenset[str]:
        return frozenset({SEQUENCES})

    def _repr_html_(self) -> str:
        from unweave.views.page import asset

        return f"<style>{asset('sequences.css')}</style>{self.html()}"


def display_seq(
    prompts: Prompts,
    probabilities: Float[Tensor, " prompt"] | Sequence[float] | None = None,
    mask: Bool[Tensor, "prompt pos"] | None = None,
    *,
    title: str = "",
    light: bool = False,
) -> SequenceList:
    """Sequences to look at: `print` them, `rich.print` them, or let a notebook draw them.

    Args:
        prompts: such as those of `uw.tasks.palindromes`.
        probabilities: a number for each, 0 to 1, that is put behind it.
        mask: the tokens to mark; by default those that differ from their mirror image, first and last token aside.
        title: a line above.
        light: colours for a terminal with a light background.

    Raises:
        InputError: probabilities or a mask of another size, prompts of one token, or without texts of tokens.
    """
    n_prompts = len(prompts)
    if len(prompts.str_tokens) != n_prompts:
        raise InputError("prompts: they hold no token texts; make them with a task, or set str_tokens")
    if int(prompts.lengths.min()) < 2:
        raise InputError("prompts: expected a first and a last token in each; one prompt has a single token")
    numbers = [None] * n_prompts if probabilities is None else [float(value) for value in probabilities]
    if len(numbers) != n_prompts:
        raise InputError(f"probabilities: expected one for each of the {n_prompts} prompts, got {len(numbers)}")
    marks = mismatches(prompts) if mask is None else mask
    if marks.shape != prompts.tokens.shape:
        raise InputError(f"mask: expected shape {tuple(prompts.tokens.shape)}, got {tuple(marks.shape)}")
    rows = zip(prompts.str_tokens, marks.tolist(), numbers, strict=True)
    lines = tuple(SequenceLine(words, tuple(row[: len(words)]), number) for words, row, number in rows)
    return SequenceList(lines, title, light=light)


def mismatches(prompts: Prompts) -> Bool[Tensor, "prompt pos"]:
    """The tokens that differ from their mirror image in their prompt, its first and last token aside."""
    tokens, last = prompts.tokens, prompts.lengths[:, None] - 1
    pos = torch.arange(tokens.shape[1], device=tokens.device)
    inside = (pos > 0) & (pos < last)
    mirrored = tokens.gather(1, (last - pos).clamp(min=0))
    return inside & (tokens != mirrored)


def _coloured(line: SequenceLine, style: str) -> "Text":
    from rich.text import Text

    first, *inner, last = [Text(token, style=style if mark else "") for token, mark in line.pieces()]
    middle = Text("|").join(inner)
    return Text.assemble(first, " |", middle, "| ", last, line.outcome())


def _marked_up(line: SequenceLine) -> str:
    first, *inner, last = [
        f"<mark>{html.escape(token)}</mark>" if mark else html.escape(token) for token, mark in line.pieces()
    ]
    return f"<code>{first} |{'|'.join(inner)}| {last}{html.escape(line.outcome())}</code>"
