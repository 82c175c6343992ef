"""Attention patterns to look at: heads as thumbnails, one enlarged, and where each token looks.

The drawing is this package's own script (unweave/views/assets/attention.js). Hover, tap or focus a token to see what it
looks at and what looks at it; arrow keys go from token to token. Tokens reach the page as text nodes, never as markup.
Values are kept to three decimals, and of a causal pattern only the triangle that can be other than 0.
"""

import html
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from unweave.errors import InputError
from unweave.views.blocks import ATTENTION, caption, heading, packed
from unweave.views.prompts import real_tokens
from unweave.views.text import visible

if TYPE_CHECKING:
    import xarray

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
        data = packed(json.dumps(self._data(), separators=(",", ":")))
        names = html.escape(", ".join(self.heads), quote=True)
        view = f'<div class="att-view" role="group" aria-label="attention of heads {names}"></div>'
        return f'<figure class="attention">{heading(self.title)}{view}{data}{caption(self.caption)}</figure>'

    def needs(self) -> frozenset[str]:
        return frozenset({ATTENTION})

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


def attention_view(
    patterns: "xarray.DataArray", title: str = "", caption: str = "", *, max_prompts: int | None = None
) -> Attention:
    """The attention view of a result of `uw.attention`.

    Args:
        patterns: `(prompt, address, q_pos, k_pos)` shares of attention, with `q_token` or `token` for the tokens.
            Positions beyond a prompt's end have the token "" and are left out.
        title, caption: plain text above and below the view.
        max_prompts: how many prompts to keep, from the first; all of them by default.

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
    kept = range(len(values) if max_prompts is None else min(max_prompts, len(values)))
    heads = tuple(map(str, ordered["address"].values))
    return Attention(heads, tuple(_prompt(tokens[row], values[row]) for row in kept), title, caption)


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
