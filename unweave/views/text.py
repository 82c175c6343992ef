"""How tokens are written on figures and tables.

`visible` gives plain text: whoever writes HTML escapes it. `label` gives text for plotly, which reads labels as a small
dialect of HTML, formulas between dollar signs, and `%{…}` in templates.
"""

import html
import unicodedata

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
