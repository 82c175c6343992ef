"""One self-contained HTML file from a list of blocks.

The page loads nothing: a content security policy forbids it to, and lets run only the scripts that stand here with the
page's own nonce (a hash of the content, which content cannot know of itself). Steps:
1. the HTML of the blocks, and the assets that they need (unweave/views/blocks.py);
2. this package's styles and scripts for these, from unweave/views/assets;
3. plotly's script, if there is a figure, from the installed plotly package, once: gzip and base64, unpacked by the
   browser's own DecompressionStream, drawn as figures come near the window, all of them before the page is printed.
"""

import hashlib
import html
import json
import os
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from plotly.offline import get_plotlyjs

from unweave.errors import InputError
from unweave.files import placed
from unweave.views import theme
from unweave.views.blocks import PLOTLY, Block, Section, pack, wanted

_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


def page(title: str, blocks: Sequence[Block], *, contents: bool = False, embedded: bool = False) -> str:
    """The blocks as one HTML document that needs no network.

    Args:
        title: the browser's title for the page, and its heading for a screen reader where the blocks bring none.
        blocks: what stands on the page, in order.
        contents: list the sections beside the text.
        embedded: for a frame in a notebook: no margins, and the frame takes the height of what it holds.
    """
    inner = "".join(block.html() for block in blocks)
    heading = "" if embedded or "<h1>" in inner else f'<h1 class="unseen">{html.escape(title)}</h1>'
    body = f"<main>{heading}{inner}</main>"
    if contents:
        body = _contents(blocks) + body
    needs = wanted(blocks)
    nonce = hashlib.sha256(body.encode()).hexdigest()[:32]
    layout = "embedded" if embedded else ("with-contents" if contents else "plain")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY.format(nonce=nonce)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="generator" content="unweave">\n'
        f'<link rel="icon" href="data:,">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_styles(needs)}</style>\n</head>\n"
        f'<body class="{layout}">\n<noscript><p>Figures are drawn by scripts, which are off.</p></noscript>\n'
        f"{body}\n{_scripts(needs, nonce)}\n</body>\n</html>\n"
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


def _contents(blocks: Sequence[Block]) -> str:
    links = "".join(
        f'<li><a href="#{html.escape(block.anchor, quote=True)}">{html.escape(block.title)}</a></li>'
        for block in blocks
        if isinstance(block, Section)
    )
    return f'<nav class="contents" aria-label="Contents"><ol>{links}</ol></nav>'


def _styles(needs: frozenset[str]) -> str:
    return "".join(asset(f"{name}.css") for name in ("page", *sorted(needs - {PLOTLY})))


def _scripts(needs: frozenset[str], nonce: str) -> str:
    scripts = [asset("page.js")]
    data = ""
    if PLOTLY in needs:
        data = f'<script type="text/plain" id="plotly">{_plotly()}</script>\n'
        settings = {"light": theme.LIGHT, "dark": theme.DARK, "config": theme.CONFIG}
        data += f'<script type="application/json" id="settings">{script_json(settings)}</script>\n'
    scripts += [asset(f"{name}.js") for name in sorted(needs) if _has_asset(f"{name}.js")]
    return data + "\n".join(f'<script nonce="{nonce}">{script}</script>' for script in scripts)


@cache
def _plotly() -> str:
    return pack(get_plotlyjs())


@cache
def asset(name: str) -> str:
    """The content of a file of unweave/views/assets."""
    return (files("unweave.views") / "assets" / name).read_text(encoding="utf-8")


def _has_asset(name: str) -> bool:
    return (files("unweave.views") / "assets" / name).is_file()
