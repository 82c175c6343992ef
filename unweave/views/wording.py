"""Numbers, lists of names and tokens as they are written in sentences, on figures and in tables.

`visible` gives plain text: whoever writes HTML escapes it. `label` gives text for plotly, which reads labels as a small
dialect of HTML, formulas between dollar signs, and `%{…}` in templates.
"""

import html
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import xarray as xr

from unweave.results.labels import number, p_value

# A result of a method, of one site or of several; or the summary of one.
Result = xr.DataArray | xr.Dataset
SPACE = "\u00a0"  # no line breaks between a number and its sign


def percent(share: float) -> str:
    """A share of 1 as a percentage; one decimal below 10 %.

    >>> percent(0.513), percent(-0.24), percent(0.021), percent(0)
    ('51\\xa0%', '−24\\xa0%', '2.1\\xa0%', '0\\xa0%')
    """
    if not math.isfinite(share):
        return "–"
    hundredths = 100 * share
    digits = 0 if abs(hundredths) >= 9.95 or abs(hundredths) < 0.05 else 1
    text = f"{hundredths:.{digits}f}".replace("-0", "0") if abs(hundredths) < 0.05 else f"{hundredths:.{digits}f}"
    return text.replace("-", "−") + SPACE + "%"


def interval(low: float, high: float) -> str:
    """An interval in words: `0.41 to 0.60`; a dash where there is none.

    >>> interval(0.412, 0.6), interval(float("nan"), float("nan"))
    ('0.41 to 0.60', '–')
    """
    return f"{number(low)} to {number(high)}" if math.isfinite(low) and math.isfinite(high) else "–"


def spread(low: float, high: float, write: Callable[[float], str] = number) -> str:
    """An interval after its number, ` (0.41 to 0.60)`; "" if there is none."""
    return f" ({write(low)} to {write(high)})" if math.isfinite(low) and math.isfinite(high) else ""


def p_cell(p: float) -> str:
    """A p-value in a column that says that it is one: `0.031`, `< 0.001`."""
    return p_value(p).removeprefix("p ").removeprefix("= ")


def capital(text: str) -> str:
    """A sentence of a text that begins with a small letter."""
    return text[:1].upper() + text[1:]


def prompts_of(attrs: Mapping[Any, Any]) -> str:
    """How many prompts a table is over, and in how many clusters if they are not independent of each other.

    >>> prompts_of({"n_prompts": 16}), prompts_of({"n_prompts": 16, "n_clusters": 8})
    ('16 prompts', '16 prompts in 8 clusters')
    """
    n = int(attrs.get("n_prompts", 0))
    n_clusters = int(attrs.get("n_clusters", n))
    return counted(n, "prompt") + ("" if n_clusters == n else f" in {counted(n_clusters, 'cluster')}")


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed(["23.3", "20.0", "17.4"]), listed(["23.3"])
    ('23.3, 20.0 and 17.4', '23.3')
    """
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def few(names: Sequence[str], most: int) -> str:
    """The first of many names.

    >>> few(["23.3", "20.0", "17.4"], 1), few(["23.3", "20.0"], 2)
    ('23.3 and 2 more', '23.3 and 20.0')
    """
    return listed(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


def counted(n: int, noun: str) -> str:
    """A number and its noun.

    >>> counted(1, "prompt"), counted(8, "prompt")
    ('1 prompt', '8 prompts')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


_SIGNS = {" ": "·", "\n": "⏎", "\t": "⇥"}
# Controls, formats (zero width, direction), surrogates, private use, unassigned, and every other kind of separator.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def visible(token: str) -> str:
    """A token as the model sees it: spaces as `·`, line ends as `⏎`, tabs as `⇥`, other unseen characters by number.

    >>> visible(" went"), visible("\\n\\n"), visible("a\\u200bb")
    ('·went', '⏎⏎', 'a\\\\u200bb')
    """
    return "".join(_SIGNS.get(letter) or _seen(letter) for letter in token)


def _seen(letter: str) -> str:
    if unicodedata.category(letter) not in _UNSEEN:
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def label(text: str) -> str:
    """Plain text as a plotly label that shows it letter by letter."""
    return html.escape(text, quote=False).replace("$", "&#36;").replace("%{", "%&#123;")
