"""Pairs from a file: JSONL (an object a line), JSON (a list of objects) or CSV (a header, then a pair a line).

The columns are `clean`, `corrupted`, `answer` and `wrong`; `role:NAME` columns, as many as wanted, give a word that
stands once in the clean prompt, or a position from 0. A `cluster` (or `clusters`) column gives a number or name, equal
for pairs that are not independent of each other. Other columns are left aside.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from unweave.errors import InputError
from unweave.tasks.hand_pairs import paired
from unweave.tasks.task import Task
from unweave.tasks.texts import Row, Space, TextModel

COLUMNS = ("clean", "corrupted", "answer", "wrong")
SUFFIXES = (".jsonl", ".json", ".csv")
_ROLE, _CLUSTERS = "role:", ("cluster", "clusters")

# A record of a file with its place in it, `pairs.csv line 4`.
Record = tuple[str, dict[str, object]]


def read_pairs(model: TextModel, path: str | Path, bos: bool | None = None, space: Space = "check") -> Task:
    """A task of the pairs in a file.

    Args:
        model: whose tokenizer reads them.
        path: a .jsonl, .json or .csv file in UTF-8 with the columns `clean`, `corrupted`, `answer`, `wrong`, and
            `role:NAME` for named positions, and `cluster`. A CSV cell that holds a comma stands in double quotes.
        bos: a beginning-of-sequence token in front: None as the tokenizer does it, True, or False.
        space: what to do with an answer that has no space in front: "check", "add" or "as_is" (`unweave.tasks.texts`).

    Raises:
        InputError: a file that is missing, empty or unreadable, a missing column, or a pair that `uw.tasks.pairs`
            refuses; each with the line.
    """
    file = Path(path)
    records = _records(file)
    if not records:
        raise InputError(f"{file.name} holds no pairs; expected {_expected()}")
    roles = sorted({key for _, record in records for key in record if key.startswith(_ROLE)})
    rows = [
        Row(
            text=_text(record, "clean", where),
            where=where,
            answer=_text(record, "answer", where),
            wrong=_text(record, "wrong", where),
            roles={role.removeprefix(_ROLE): _place(record, role, where) for role in roles},
        )
        for where, record in records
    ]
    corrupted = [_text(record, "corrupted", where) for where, record in records]
    made = paired(file.name, model, rows, corrupted, _clusters(file.name, records), bos=bos, space=space)
    return replace(made, title=f"The pairs of {file.name}")


def _clusters(name: str, records: list[Record]) -> list[object] | None:
    """The column of clusters, by either of its names, if there is one."""
    found = [column for column in _CLUSTERS if any(column in record for _, record in records)]
    if len(found) > 1:
        raise InputError(f"{name}: there are columns {' and '.join(map(repr, found))}; give one of them")
    return [record.get(found[0]) for _, record in records] if found else None


def _records(file: Path) -> list[Record]:
    readers = {".jsonl": _json_lines, ".json": _json_list, ".csv": _csv_lines}
    if file.suffix not in readers:
        raise InputError(f"{file}: expected a file that ends in {', '.join(SUFFIXES)}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{file}: there is no such file") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 text; save it as UTF-8") from error
    if not text.strip():
        raise InputError(f"{file.name} is empty; expected {_expected()}")
    return list(readers[file.suffix](text, file.name))


def _json_lines(text: str, name: str) -> Iterator[Record]:
    # Not splitlines: that also breaks at characters which JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{name} line {number}"
            yield where, _object(_json(line, where), where)


def _json_list(text: str, name: str) -> Iterator[Record]:
    found = _json(text, name)
    if not isinstance(found, list):
        raise InputError(f"{name}: expected a list of objects, got {type(found).__name__}; one object a line is .jsonl")
    for number, record in enumerate(found, start=1):
        where = f"{name} entry {number}"
        yield where, _object(record, where)


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{where} column {error.colno}" if " line " in where else f"{where} line {error.lineno}"
        raise InputError(f"{place}: not JSON: {error.msg}") from error


def _object(record: object, where: str) -> dict[str, object]:
    if not isinstance(record, dict):
        raise InputError(f"{where}: expected an object with {', '.join(COLUMNS)}, got {record!r}")
    return record


def _csv_lines(text: str, name: str) -> Iterator[Record]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = next(row for row in reader if row)
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            raise InputError(
                f"{name} line {reader.line_num}: column {missing[0]!r} is missing; the header has {', '.join(header)}, "
                f"and {', '.join(COLUMNS)} are needed"
            )
        twice = next((column for place, column in enumerate(header) if column in header[:place]), None)
        if twice is not None:
            raise InputError(f"{name} line {reader.line_num}: there are two columns {twice!r}; name each once")
        for row in reader:
            where = f"{name} line {reader.line_num}"
            if row and len(row) != len(header):
                raise InputError(
                    f"{where}: {len(row)} cells, and the header has {len(header)}; put a text that holds a comma in "
                    "double quotes"
                )
            if row:
                yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise InputError(f"{name} line {reader.line_num}: not CSV: {error}") from error


def _text(record: dict[str, object], column: str, where: str) -> str:
    value = record.get(column)
    if value is None or value == "":
        raise InputError(f"{where}: {column!r} is missing; every pair needs {', '.join(COLUMNS)}")
    if not isinstance(value, str):
        raise InputError(f"{where}: {column!r} should be a text in quotes, got {value!r}")
    return value


def _place(record: dict[str, object], column: str, where: str) -> int | str:
    value = record.get(column)
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise InputError(f"{where}: {column!r} is missing; a role needs a word or a position (from 0) in every pair")
    return value


def _expected() -> str:
    return f"pairs with {', '.join(COLUMNS)}"
