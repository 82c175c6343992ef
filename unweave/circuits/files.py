"""Circuits as JSON files.

    {"format": 2,
     "keeps": "nodes",
     "model": {"name": "gpt2", "layers": 12, "heads": 12},
     "task": "ioi",
     "notes": "…",
     "groups": [{"name": "name mover", "heads": ["9.9", "10.0"], "roles": ["end"], "mlps": []}, …],
     "edges": [{"sender": "8.6", "receiver": "9.9", "input": "q", "effect": -0.1, "low": null, "high": null,
                "role": "end", "shared": []}, …],
     "minimality": {"10.0": ["9.9"], …},
     "attrs": {"metric": "logit difference", "gap": 3.1, …}}

`groups` must be there, each with `name` and `heads`; `roles` is a list or "all" (the default). The rest may be left
out. Keys stand in this order, so that the same circuit gives the same bytes. Published circuits come with unweave:

    ioi-gpt2-small         Wang et al. 2022 (arXiv 2211.00593): 26 heads in 7 groups, and its sets K for minimality
    ioi-gpt2-small-naive   the same paper: name movers, S-inhibition and the heads below them, without backups
"""

import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from unweave.circuits.circuit import Circuit, Group, read_head
from unweave.circuits.eap_ig import circuit_from, is_graph
from unweave.errors import InputError
from unweave.nodes import Edge, Head, Node, head_name
from unweave.whole_files import placed

T = TypeVar("T")
FORMAT = 2
PUBLISHED = ("ioi-gpt2-small", "ioi-gpt2-small-naive")
_TOP = ("format", "keeps", "model", "task", "notes", "groups", "edges", "minimality", "attrs")
_MODEL = ("name", "layers", "heads")
_GROUP = ("name", "heads", "roles", "mlps")
_EDGE = ("sender", "receiver", "input", "effect", "low", "high", "role", "shared")


def write_circuit(circuit: Circuit, path: Path) -> Path:
    """Writes the file, whole or not at all. Raises InputError where it cannot be written."""
    text = json.dumps(as_fields(circuit), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with placed(path) as spare:
        spare.write_text(text, encoding="utf-8")
    return path


def read_circuit(path: Path) -> Circuit:
    """Reads what `write_circuit` wrote. Raises InputError with the file and the place in it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"circuit: cannot read {path}: {reason}") from error
    return parse_circuit(text, path.name)


def published(name: str) -> Circuit:
    """A published circuit by its name. Raises InputError with the names that there are."""
    if name not in PUBLISHED:
        raise InputError(f"circuit: {name!r} does not come with unweave; {' and '.join(PUBLISHED)} do")
    file = f"{name}.json"
    return parse_circuit(files("unweave.circuits").joinpath("data", file).read_text(encoding="utf-8"), file)


def parse_circuit(text: str, name: str) -> Circuit:
    """A circuit from a file's text; `name` is the file's, for messages."""
    if not text.strip():
        raise InputError(f"{name}: it is empty; expected a circuit as `Circuit.save` and `unweave sketch` write it")
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name} line {error.lineno}: not JSON: {error.msg}") from error
    try:
        if is_graph(fields):
            return circuit_from(fields)
        return _circuit(_record(fields, "a circuit", _TOP, needed=("groups",)))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def as_fields(circuit: Circuit) -> dict[str, object]:
    """What the file holds."""
    return {
        "format": FORMAT,
        "keeps": circuit.keeps,
        "model": dict(zip(_MODEL, (circuit.model, *circuit.shape), strict=True)),
        "task": circuit.task,
        "notes": circuit.notes,
        "groups": [
            {
                "name": group.name,
                "heads": [head_name(head) for head in group.heads],
                "roles": group.roles if group.roles == "all" else list(group.roles),
                "mlps": list(group.mlps),
            }
            for group in circuit.groups
        ],
        "edges": [{key: _plain(getattr(edge, key)) for key in _EDGE} for edge in circuit.edges],
        "minimality": {
            head_name(head): [head_name(other) for other in others]
            for head, others in sorted(circuit.minimality.items())
        },
        "attrs": dict(circuit.attrs),
    }


def _plain(value: object) -> object:
    """A node by its name; a tuple of nodes as a list of names."""
    return value.short if isinstance(value, Node) else [*map(_plain, value)] if isinstance(value, tuple) else value


def _circuit(fields: Mapping[str, Any]) -> Circuit:
    version = fields.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise InputError(f"format {version!r} is not known to this version of unweave; update unweave to read it")
    model = _record(fields.get("model", {}), "model", _MODEL)
    table = fields.get("minimality", {})
    if not isinstance(table, dict):
        raise InputError('minimality: expected an object such as {"10.0": ["9.9"]}')
    attrs = fields.get("attrs", {})
    if not isinstance(attrs, dict) or any(isinstance(value, (dict, list)) for value in attrs.values()):
        raise InputError('attrs: expected an object of texts and numbers such as {"metric": "logit difference"}')
    groups, edges = (_list(fields.get(key, []), key, dict) for key in ("groups", "edges"))
    return Circuit(
        groups=tuple(_group(entry, f"groups[{n}]") for n, entry in enumerate(groups)),
        edges=tuple(_edge(entry, f"edges[{n}]") for n, entry in enumerate(edges)),
        model=_text(model, "model", "name"),
        shape=(_count(model, "layers"), _count(model, "heads")),
        task=_text(fields, "circuit", "task"),
        notes=_text(fields, "circuit", "notes"),
        minimality={read_head(head): _heads(others, f"minimality {head}") for head, others in table.items()},
        attrs=attrs,
        keeps=_text(fields, "circuit", "keeps") or "nodes",  # pyright: ignore[reportArgumentType]
    )


def _group(entry: Mapping[str, Any], where: str) -> Group:
    _record(entry, where, _GROUP, needed=("name", "heads"))
    roles = entry.get("roles", "all")
    return Group(
        name=_text(entry, where, "name"),
        heads=_heads(entry["heads"], f"{where}: heads"),
        roles="all" if roles == "all" else tuple(_list(roles, f"{where}: roles", str)),
        mlps=tuple(_list(entry.get("mlps", []), f"{where}: mlps", int)),
    )


def _edge(entry: Mapping[str, Any], where: str) -> Edge:
    _record(entry, where, _EDGE, needed=("sender", "receiver"))
    for key in ("effect", "low", "high"):
        value = entry.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise InputError(f"{where}: {key}: expected a number or null, got {value!r}")
    texts: dict[str, Any] = {key: _text(entry, where, key) for key in ("sender", "receiver", "input", "role")}
    shared: Any = tuple(_list(entry.get("shared", []), f"{where}: shared", str))
    numbers: dict[str, Any] = {key: entry.get(key) for key in ("effect", "low", "high")}
    return _named(where, lambda text: Edge(text, **texts, **numbers, shared=shared), texts.pop("sender"))


def _record(entry: Any, where: str, known: tuple[str, ...], needed: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected an object with {', '.join(known)}, got {type(entry).__name__}")
    unknown = [key for key in entry if key not in known]
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0]!r}; expected {', '.join(known)}")
    missing = [key for key in needed if key not in entry]
    if missing:
        raise InputError(f"{where}: {missing[0]!r} is missing; expected {', '.join(known)}")
    return entry


def _list(entries: Any, where: str, kind: type) -> list[Any]:
    if not isinstance(entries, list) or any(isinstance(one, bool) or not isinstance(one, kind) for one in entries):
        names: Mapping[type, str] = {dict: "objects", str: "texts", int: "whole numbers"}
        raise InputError(f"{where}: expected a list of {names[kind]}, got {entries!r}")
    return entries


def _heads(entries: Any, where: str) -> tuple[Head, ...]:
    return tuple(_named(where, read_head, text) for text in _list(entries, where, str))


def _named(where: str, read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _text(entry: Mapping[str, Any], where: str, key: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str):
        raise InputError(f"{where}: {key}: expected a text, got {value!r}")
    return value


def _count(model: Mapping[str, Any], key: str) -> int:
    value = model.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"model: {key}: expected a whole number, got {value!r}")
    return value
