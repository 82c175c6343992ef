"""One self-contained HTML file from a list of blocks.

The page loads nothing: a content security policy forbids it to, and lets run only the scripts that stand here with the
page's own nonce (a hash of the content, which content cannot know of itself). Steps:
1. the HTML of the blocks (unweave/views/blocks.py), in the template unweave/views/templates/page.html;
2. this package's styles and scripts for the kinds of figures among them, from unweave/views/assets;
3. plotly's script, if there is a figure, from the installed plotly package, once: gzip and base64, unpacked by the
   browser's own DecompressionStream, drawn as figures come near the window, all of them before the page is printed.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

from unweave.errors import InputError
from unweave.views import theme
from unweave.views.blocks import Block, Section, pack, templates
from unweave.whole_files import placed


def page(title: str, blocks: Sequence[Block], *, contents: bool = False, embedded: bool = False) -> str:
    """The blocks as one HTML document that needs no network.

    Args:
        title: the browser's title for the page, and its heading for a screen reader where the blocks bring none.
        blocks: what stands on the page, in order.
        contents: list the sections beside the text.
        embedded: for a frame in a notebook: no margins, and the frame takes the height of what it holds.
    """
    inner = "".join(block.html() for block in blocks)
    # Of each kind of figure there is a style, and of some a script.
    kinds = sorted(set(re.findall(r'<figure class="(\w+)"', inner)))
    drawn = "plot" in kinds
    return (
        templates()
        .get_template("page.html")
        .render(
            title=title,
            inner=inner,
            unseen=not embedded and "<h1>" not in inner,
            contents=[block for block in blocks if isinstance(block, Section)] if contents else [],
            layout="embedded" if embedded else ("with-contents" if contents else "plain"),
            nonce=hashlib.sha256((title + inner).encode()).hexdigest()[:32],
            styles="".join(asset(f"{name}.css") for name in ("page", *kinds) if _has_asset(f"{name}.css")),
            scripts=[asset(f"{name}.js") for name in ("page", *kinds) if _has_asset(f"{name}.js")],
            plotly=_plotly() if drawn else "",
            settings=script_json({"light": theme.LIGHT, "dark": theme.DARK, "config": theme.CONFIG}),
        )
    )


def write_page(document: str, path: str | os.PathLike[str]) -> Path:
    """Write a page in one step: a reader finds the old file or the whole new one, never half of it.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"path: cannot write {target}, as its folder cannot be made ({error.strerror})") from error
    with placed(target) as spare:
        spare.write_text(document, encoding="utf-8")
    return target


def script_json(value: object) -> str:
    """JSON that may stand in a script element: no `<` is left that could end it or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def _plotly() -> str:
    return pack(get_plotlyjs())


@cache
def asset(name: str) -> str:
    """The content of a file of unweave/views/assets."""
    return (files("unweave.views") / "assets" / name).read_text(encoding="utf-8")


def _has_asset(name: str) -> bool:
    return (files("unweave.views") / "assets" / name).is_file()
