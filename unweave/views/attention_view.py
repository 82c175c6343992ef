"""Attention patterns to look at: heads as thumbnails, one enlarged, and where each token looks.

The drawing is this package's own script (unweave/views/assets/attention.js). Hover, tap or focus a token to see what it
looks at and what looks at it; arrow keys go from token to token. Tokens reach the page as text nodes, never as markup.
Values are kept to three decimals, and of a causal pattern only the triangle that can be other than 0.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from jaxtyping import Float

from unweave.errors import InputError
from unweave.results.labels import number
from unweave.views.blocks import Block, Figure, drawn
from unweave.views.charts.arrange import Layout, framed
from unweave.views.prompt_list import real_tokens
from unweave.views.scope import scope_of, spoken
from unweave.views.theme import PALETTE
from unweave.views.wording import label, listed, visible

_DIMS = ("prompt", "address", "q_pos", "k_pos")


@dataclass(frozen=True)
class Prompt:
    """One prompt of an attention view: its tokens, and for each head `[q_pos, k_pos]` shares of attention, 0 to 1."""

    tokens: tuple[str, ...]
    patterns: tuple[Float[np.ndarray, "q_pos k_pos"], ...]


@dataclass(frozen=True)
class Attention:
    """The attention of some heads on some prompts. `heads` are labels such as `23.3`, in the order of the patterns."""

    heads: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    title: str = ""
    caption: str = ""

    def html(self) -> str:
        return drawn("attention", self, json.dumps(self._data(), separators=(",", ":")))

    def _data(self) -> dict[str, object]:
        tokens = [[visible(token) for token in prompt.tokens] for prompt in self.prompts]
        return {
            "heads": list(self.heads),
            "prompts": [
                {"tokens": row, "text": _excerpt(prompt.tokens)}
                for row, prompt in zip(tokens, self.prompts, strict=True)
            ],
            "values": [[_triangle(pattern) for pattern in prompt.patterns] for prompt in self.prompts],
        }


def attention_blocks(patterns: xr.DataArray, roles: Mapping[str, Sequence[int]] | None = None) -> list[Block]:
    """The attention view of a result of `uw.attention`; `roles` (positions of each prompt) name where heads look."""
    where = "Rows are the tokens that look, columns the tokens that are looked at; a row sums to 1."
    how = "Choose a head to enlarge it, and point at a token to see both."
    title = spoken(scope_of(patterns), attention_finding(patterns, roles))
    return [attention_view(patterns, title, f"{where} {how}")]


def attention_view(patterns: xr.DataArray, title: str = "", caption: str = "") -> Attention:
    """The attention view of a result of `uw.attention`.

    Args:
        patterns: `(prompt, address, q_pos, k_pos)` shares of attention, with `q_token` or `token` for the tokens.
            Positions beyond a prompt's end have the token "" and are left out.
        title, caption: plain text above and below the view.

    Raises:
        InputError: other dimensions, or no tokens.
    """
    if set(patterns.dims) != set(_DIMS):
        given = ", ".join(map(str, patterns.dims))
        raise InputError(
            f"patterns: expected the dimensions {', '.join(_DIMS)}, got {given}; uw.attention(pair, heads) gives them"
        )
    named = next((name for name in ("q_token", "token") if name in patterns.coords), None)
    if named is None:
        raise InputError("patterns: there is no coordinate q_token (prompt, q_pos) with the tokens to show")
    ordered = patterns.transpose(*_DIMS)
    tokens, values = ordered[named].values, np.asarray(ordered.values, dtype=np.float64)
    heads = tuple(map(str, ordered["address"].values))
    return Attention(heads, tuple(map(_prompt, tokens, values)), title, caption)


def _prompt(tokens: np.ndarray, values: Float[np.ndarray, "address q_pos k_pos"]) -> Prompt:
    texts = real_tokens(tokens.tolist())
    return Prompt(texts, tuple(pattern[: len(texts), : len(texts)] for pattern in values))


def _triangle(pattern: Float[np.ndarray, "q_pos k_pos"]) -> list[int]:
    """Thousandths, row by row, of the keys that each query can see."""
    rows, columns = np.tril_indices(len(pattern))
    return np.rint(1000 * np.nan_to_num(pattern[rows, columns])).astype(int).tolist()


def _excerpt(tokens: tuple[str, ...], most: int = 90) -> str:
    """The prompt as a line of text, its last words kept: prompts of one task differ least at their start."""
    # Tokens that hold no space, the values of a sequence say, would run into each other.
    between = "" if any(" " in token for token in tokens) else " "
    for first in range(len(tokens)):
        line = " ".join(between.join(tokens[first:]).split())
        if len(line) <= most:
            return f"… {line}" if first else line
    return "…"


_COLOURS = {False: PALETTE[0], True: PALETTE[4]}
_LEFT, _RIGHT, _HEIGHT, _LETTER = 44, 14, 110, 6.4


def end_bars(patterns: xr.DataArray, head: str, marked: Sequence[Sequence[bool]], names: Sequence[str]) -> Figure:
    """A panel for each sequence: where a head looks from its last token.

    Args:
        patterns: `(prompt, address, q_pos, k_pos)` of `uw.attention`, sequences of one length.
        head: which of its addresses.
        marked: `[prompt][pos]`, the tokens that stand out.
        names: what each sequence is.
    """
    table = patterns.sel(address=head)
    rows = np.asarray(table.isel(q_pos=-1).transpose("prompt", "k_pos").values, dtype=np.float64)
    tokens = table["q_token"].values
    figure, top = go.Figure(), max(0.05, 1.08 * float(rows.max()))
    longest = 0
    for n, row in enumerate(rows):
        ticks = [f"{at} {visible(str(token))}" for at, token in enumerate(tokens[n])]
        longest = max(longest, *map(len, ticks))
        _draw_end(figure, row, ticks, [bool(mark) for mark in marked[n]], n)
        figure.update_layout({f"yaxis{n + 1}.range": [0, top]})
        heading = {"text": label(names[n]), "showarrow": False, "xref": "paper", "yref": "paper"}
        figure.add_annotation(heading | {"xanchor": "left", "yanchor": "bottom", "yshift": 2})
    figure.update_layout(showlegend=False, bargap=0.25)
    note = (
        "The bars of a sequence sum to 1. Red: values that differ from their mirror image. Ticks: position and value."
    )
    layouts = [_end_layout(len(rows), columns, longest) for columns in (2, 1)]
    return Figure(framed(figure, _end_finding(rows, marked, tokens, head), note, *layouts))


def _draw_end(figure: go.Figure, row: np.ndarray, ticks: Sequence[str], marks: Sequence[bool], n: int) -> None:
    end = "" if n == 0 else str(n + 1)
    figure.add_bar(
        x=list(map(label, ticks)),
        y=row,
        xaxis=f"x{end}",
        yaxis=f"y{end}",
        marker={"color": [_COLOURS[mark] for mark in marks], "line": {"width": 0}},
        hovertemplate="<b>%{x}</b><br>attention %{y:.3f}<extra></extra>",
    )
    fixed = {"automargin": False, "showgrid": False}
    figure.update_layout(
        {f"xaxis{n + 1}": fixed | {"anchor": f"y{end}", "type": "category", "tickangle": -90, "dtick": 1}}
    )
    figure.update_layout(
        {f"yaxis{n + 1}": {"automargin": False, "anchor": f"x{end}", "nticks": 4, "title": {"text": "attention"}}}
    )


def _end_layout(n: int, columns: int, longest: int) -> Layout:
    """Panels in so many columns; places are shares of the drawing area."""
    rows, below, head = ceil(n / columns), ceil(_LETTER * longest) + 14, 22
    step = _HEIGHT + below + head
    height = rows * step - below - head
    updates: dict[str, Any] = {}
    for place in range(n):
        row, column = divmod(place, columns)
        end = "" if place == 0 else str(place + 1)
        top = 1 - row * step / height
        start, width = column * 0.53 if columns > 1 else 0.0, 0.47 if columns > 1 else 1.0
        updates |= {
            f"xaxis{end}.domain": [start, start + width],
            f"yaxis{end}.domain": [max(top - _HEIGHT / height, 0.0), top],
        }
        updates |= {f"annotations[{place}].x": start, f"annotations[{place}].y": top}
    return Layout(height, _LEFT, _RIGHT, head + 4, below, updates)


def _end_finding(rows: np.ndarray, marked: Sequence[Sequence[bool]], tokens: np.ndarray, head: str) -> str:
    """How much goes to values that do not match, and what has most where all match."""
    marks = np.asarray(marked, dtype=bool)
    broken = marks.any(1)
    if not broken.any() or broken.all():
        return f"Where {head} looks from the last token"
    there = float((rows * marks)[broken].sum(1).mean())
    best = rows[~broken].argmax(1)
    names, times = np.unique(tokens[~broken, best], return_counts=True)
    share = float(rows[~broken].max(1).mean())
    where = f", on {times.max()} of {len(best)} at {visible(str(names[times.argmax()]))}" if times.max() > 1 else ""
    return (
        f"From END, {head} gives values that do not match {number(there)} together; where all match, its largest share "
        f"is {number(share)} on average{where}"
    )


_OWN = "that token itself"


def attention_finding(patterns: xr.DataArray, roles: Mapping[str, Sequence[int]] | None = None) -> str:
    """Where heads look from the last token, on average over prompts.

    Args:
        patterns: `(prompt, address, q_pos, k_pos)`.
        roles: positions of each prompt by name; without them, places are named by number and by token.
    """
    looks: dict[str, list[tuple[str, float]]] = {}
    for head in patterns["address"].values:
        target, share = _target(patterns.sel(address=head), roles or {})
        looks.setdefault(target, []).append((str(head), share))
    said = [
        f"{listed([head for head, _ in heads])} {'looks' if len(heads) == 1 else 'look'} most at {target} "
        f"({listed([number(share) for _, share in heads])})"
        for target, heads in looks.items()
    ]
    return f"From the last token, {'; '.join(said)}"


def _target(pattern: xr.DataArray, roles: Mapping[str, Sequence[int]]) -> tuple[str, float]:
    """What a head looks at most from each prompt's last token: a role or a position, and the mean share."""
    values = pattern.transpose("prompt", "q_pos", "k_pos").values
    tokens = pattern["q_token"].transpose("prompt", "q_pos").values if "q_token" in pattern.coords else None
    values = np.nan_to_num(values)  # a prompt has no attention beyond its end
    lengths = [values.shape[1]] * len(values) if tokens is None else [len(real_tokens(row.tolist())) for row in tokens]
    last = np.stack([values[row, length - 1] for row, length in enumerate(lengths)])
    own = [length - 1 for length in lengths]
    # A role that is always the last token is that token.
    named = {_OWN if list(places) == own else name: places for name, places in {_OWN: own, **roles}.items()}
    shares = {name: float(np.mean([last[row, at] for row, at in enumerate(places)])) for name, places in named.items()}
    column = int(np.argmax(last.mean(0)))
    share = float(last[:, column].mean())
    # A role that stands at one position in all prompts has that position's mean, but for rounding: the role is named.
    if share > max(shares.values()) + 1e-9:
        shares = {_column_name(column, tokens): share}
    target = max(shares, key=lambda name: shares[name])
    return target, shares[target]


def _column_name(column: int, tokens: np.ndarray | None) -> str:
    name = "the first token" if column == 0 else f"token {column}"
    texts = set() if tokens is None else set(map(str, tokens[:, column]))
    return f"{name} {visible(texts.pop())}" if len(texts) == 1 else name
