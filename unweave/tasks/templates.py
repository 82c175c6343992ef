"""Templates of indirect-object prompts, and the words that fill them: our own, or a user's JSON file.

    {"templates": ["While [B] and [A] waited at the [PLACE], [B] gave a [OBJECT] to [A]", …],
     "names": ["Mary", …], "places": ["station", …], "objects": ["book", …]}

[A] is the indirect object, [B] the subject. A template ends with [A], the answer, which the prompt leaves out. Its
other names may stand as A B B or as B A B: the other variant exchanges the first two. Lists of words that a file leaves
out are our own.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from unweave.errors import InputError
from unweave.models.weights import abbreviated

_MARKER = re.compile(r"\[(\w+)\]")
_FILLERS = ("places", "objects")
_FIELDS = ("templates", "names", *_FILLERS)
_EXAMPLE = "While [B] and [A] waited at the [PLACE], [B] gave a [OBJECT] to [A]"


@dataclass(frozen=True)
class Template:
    """A prompt with three slots for names, [1] [2] [3], and any number for a [PLACE] and an [OBJECT]."""

    text: str

    def fill(self, names: tuple[str, str, str], place: str = "", thing: str = "") -> str:
        """The prompt's text."""
        words = {"1": names[0], "2": names[1], "3": names[2], "PLACE": place, "OBJECT": thing}
        return _MARKER.sub(lambda found: words[found[1]], self.text)


@dataclass(frozen=True)
class TemplateSet:
    """Templates and the words that fill them. `source` names where they came from."""

    templates: tuple[Template, ...]
    names: tuple[str, ...]
    places: tuple[str, ...]
    objects: tuple[str, ...]
    source: str = "unweave"

    __repr__ = abbreviated


@cache
def own_templates() -> TemplateSet:
    """The templates and words that come with unweave."""
    text = files("unweave.tasks").joinpath("data/ioi.json").read_text(encoding="utf-8")
    return _parse(text, "ioi.json", "unweave")


def read_templates(path: str | Path) -> TemplateSet:
    """Templates from a JSON file, in the form that this module's description shows.

    Raises:
        InputError: a file that cannot be read, or a field that does not fit, with its line or place.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"templates: cannot read {file}: {reason}") from error
    return _parse(text, file.name, file.name)


def _parse(text: str, name: str, source: str) -> TemplateSet:
    fields = {key: _words(name, key, entries) for key, entries in _object(text, name).items()}
    if source != "unweave":
        own = own_templates()
        fields = {"names": own.names, "places": own.places, "objects": own.objects, **fields}
    texts = fields["templates"]
    for number, template in enumerate(texts):
        _check(template, f"{name}: templates[{number}]", fields["names"])
    return TemplateSet(
        templates=tuple(_slotted(template) for template in texts),
        names=fields["names"],
        places=fields["places"],
        objects=fields["objects"],
        source=source,
    )


def _object(text: str, name: str) -> dict[str, object]:
    if not text.strip():
        raise InputError(f"{name} is empty; expected a JSON object with a list of 'templates'")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name} line {error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(found, dict) or "templates" not in found:
        raise InputError(f"{name}: expected a JSON object with a list of 'templates', such as {_EXAMPLE!r}")
    unknown = [key for key in found if key not in _FIELDS]
    if unknown:
        raise InputError(f"{name}: unknown field {unknown[0]!r}; expected {', '.join(_FIELDS)}")
    return found


def _words(name: str, key: str, entries: object) -> tuple[str, ...]:
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{name}: {key}: expected a list of texts with at least one entry")
    for number, entry in enumerate(entries):
        if not isinstance(entry, str) or not entry or entry != entry.strip():
            raise InputError(f"{name}: {key}[{number}]: expected a text without spaces around it, got {entry!r}")
        if entry in entries[:number]:
            raise InputError(f"{name}: {key}[{number}]: {entry!r} stands there twice")
    return tuple(entries)


def _check(template: str, where: str, names: tuple[str, ...]) -> None:
    markers = _MARKER.findall(template)
    unknown = [marker for marker in markers if marker not in ("A", "B", "PLACE", "OBJECT")]
    if unknown:
        raise InputError(f"{where}: unknown marker [{unknown[0]}]; expected [A], [B], [PLACE], [OBJECT]")
    order = "".join(marker for marker in markers if marker in "AB")
    if order not in ("ABBA", "BABA") or not template.endswith(" [A]"):
        raise InputError(f"{where}: expected the names as [A] [B] [B] … [A] or [B] [A] [B] … [A], such as {_EXAMPLE!r}")
    if re.search(r"(?<! )\[|\]\w", template):
        raise InputError(f"{where}: a marker needs a space in front and none of a word behind, so that it is one token")
    spelled = [word for word in re.findall(r"\w+", _MARKER.sub("", template)) if word in names]
    if spelled:
        raise InputError(f"{where}: {spelled[0]!r} is also one of the names; take it out of the names")


def _slotted(template: str) -> Template:
    slots = iter("123")
    text = re.sub(r"\[[AB]\]", lambda _: f"[{next(slots)}]", template.removesuffix(" [A]"))
    return Template(text)
