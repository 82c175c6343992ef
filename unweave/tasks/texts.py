"""Prompts from texts: tokens, roles given by word or position, and answers that are checked to be one token each.

An answer is read as it is written, as the continuation of its prompt: after "… gave the bag to" it is " Mary", with the
space. `space` says what happens to an answer without one:

    check   (default) an answer that would be glued to the prompt's last word, or read as other tokens there, is refused
    add     a space is put in front of every answer that has none
    as_is   no check: for endings, acronyms, and languages that are written without spaces
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from types import NoneType
from typing import Any, Literal, Protocol, SupportsIndex, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.inputs import column, shown
from unweave.models.prompts import Prompts, check_answers
from unweave.models.tokens import (
    Tokenizer,
    begins_with_bos,
    encode,
    is_single_token,
    pieces,
    single_token,
    str_tokens,
    token_ids,
)

Space = Literal["check", "add", "as_is"]
_ADD_SPACE = "space='add' puts a space in front"
# In these scripts a word's end is not marked, so that it is found within any text.
_SCRIPTS_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
_JOINERS = "\u200d" + "".join(map(chr, range(0x1F3FB, 0x1F400)))


@runtime_checkable
class TextModel(Protocol):
    """What a task needs of a model: how it reads text, and how much."""

    @property
    def config(self) -> Config: ...

    @property
    def tokenizer(self) -> Tokenizer | None: ...


@dataclass(frozen=True)
class Row:
    """One prompt as text. `where` is its name in messages: `prompt 3`, `pairs.csv line 4`."""

    text: str
    where: str
    answer: str | None = None
    wrong: str | None = None
    roles: Mapping[str, int | str] = field(default_factory=dict)


def from_texts(
    model: TextModel,
    texts: Iterable[str],
    answers: Iterable[str] | None = None,
    wrong: Iterable[str] | None = None,
    roles: Mapping[str, Iterable[SupportsIndex | str]] | None = None,
    *,
    bos: bool | None = None,
    space: Space = "check",
) -> Prompts:
    """Prompts from texts.

    Args:
        model: whose tokenizer reads them.
        texts: one a prompt, without the answer and without a space at the end.
        answers, wrong: the right and a wrong continuation of each, one token each, written with its space.
        roles: named positions: a word that stands once in its prompt (its last token counts), or a position from 0,
            a beginning-of-sequence token included. `end`, the last token, is always there.
        bos: a beginning-of-sequence token in front: None as the tokenizer does it, True, or False.
        space: what to do with an answer that has no space in front: "check", "add" or "as_is".

    Raises:
        InputError: answers that are not one token (all are named), words that are not found, texts that are too long.
    """
    return tokenize(model, rows_of(texts, answers, wrong, roles), bos=bos, space=space)


def rows_of(
    texts: Iterable[str],
    answers: Iterable[str] | None,
    wrong: Iterable[str] | None,
    roles: Mapping[str, Iterable[SupportsIndex | str]] | None,
) -> list[Row]:
    """Columns as rows. Raises InputError where a column is not as long as the texts, or an entry is no text."""
    given = column("texts", texts)
    named = {f"roles[{name!r}]": entries for name, entries in (roles or {}).items()}
    columns: dict[str, list[Any]] = {
        name: [None] * len(given) if entries is None else column(name, entries, len(given))
        for name, entries in {"answer": answers, "wrong": wrong, **named}.items()
    }
    for name, entries in columns.items():
        for number, entry in enumerate(entries, start=1):
            if not isinstance(entry, (str, SupportsIndex) if name in named else (str, NoneType)):
                wanted = "a word or a position" if name in named else "a text, the one token that comes next,"
                raise InputError(f"{name}: expected {wanted} for each prompt, got {shown(entry)} for prompt {number}")
    return [
        Row(
            text=text,
            where=f"prompt {number + 1}",
            answer=columns["answer"][number],
            wrong=columns["wrong"][number],
            roles={name: columns[f"roles[{name!r}]"][number] for name in roles or {}},
        )
        for number, text in enumerate(given)
    ]


def tokenize(model: TextModel, rows: Sequence[Row], *, bos: bool | None = None, space: Space = "check") -> Prompts:
    """Rows as prompts; every row has the same roles, and either all or none an answer. Raises as `from_texts` does."""
    tokenizer = tokenizer_of(model)
    if space not in ("check", "add", "as_is"):
        raise InputError(f"space: expected 'check', 'add' or 'as_is', got {space!r}")
    tokens, lengths = encode(tokenizer, [row.text for row in rows], bos)
    _check_fit(model.config, rows, tokens, lengths)
    words = tuple(str_tokens(tokenizer, row[:n]) for row, n in zip(tokens, lengths.tolist(), strict=True))
    prompts = replace(
        Prompts.from_tokens(tokens, lengths=lengths),
        answers=_answers(tokenizer, rows, "answer", space),
        wrong=_answers(tokenizer, rows, "wrong", space),
        texts=tuple(row.text for row in rows),
        str_tokens=words,
        bos=begins_with_bos(tokenizer, tokens),
    )
    read = pieces_of(model, prompts)
    roles = {name: _positions(tokenizer, rows, name, read) for name in rows[0].roles}
    prompts = replace(prompts, roles={**roles, "end": roles.get("end", prompts.role("end"))})
    check_answers(prompts, names=[row.where for row in rows])
    return prompts


def tokenizer_of(model: TextModel) -> Tokenizer:
    """The model's tokenizer. Raises InputError where it has none."""
    if model.tokenizer is None:
        raise InputError(
            f"{model.config.name} has no tokenizer, so it reads no text; take a task without text, palindromes or "
            "repeated-tokens, or give token ids through uw.Prompts.from_tokens"
        )
    return model.tokenizer


def pieces_of(model: TextModel, prompts: Prompts) -> list[tuple[str, ...]]:
    """What each token of each prompt adds to its text."""
    tokenizer, ids = tokenizer_of(model), zip(prompts.tokens, prompts.lengths.tolist(), strict=True)
    return [pieces(tokenizer, row[:n_tokens]) for row, n_tokens in ids]


def find_word(pieces: Sequence[str], word: str) -> list[int]:
    """Positions of the tokens at which a whole word ends, in order; empty where it does not occur.

    Args:
        pieces: what each token adds to the text (`unweave.models.tokens.pieces`).
        word: as it stands there. It is not found within a longer word of a script that puts spaces between words.
    """
    text, ends, sought = "".join(pieces), list(accumulate(map(len, pieces))), word.strip()
    spans = [match.span() for match in re.finditer(re.escape(sought), text)] if sought else []
    found = [end for start, end in spans if _is_whole(text, start, end)]
    return [next(at for at, end in enumerate(ends) if end >= place) for place in found]


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether neither the character before the span nor the one after it continues the word."""
    before, first, last, after = text[:start][-1:], text[start], text[end - 1], text[end:][:1]
    runs_on = (_in_word(before) and _in_word(first)) or (_in_word(last) and _in_word(after))
    return not (runs_on or _joins(after))


def _in_word(character: str) -> bool:
    """Whether a letter, digit or mark belongs to a word that spaces delimit."""
    if not (character.isalnum() or character == "_" or _joins(character)):
        return False
    return not unicodedata.name(character, "").startswith(_SCRIPTS_WITHOUT_SPACES)


def _joins(character: str) -> bool:
    """Whether a mark changes the character in front of it: an accent, a vowel sign, a skin tone, a joiner."""
    return character != "" and (unicodedata.category(character)[0] == "M" or character in _JOINERS)


def _check_fit(
    config: Config, rows: Sequence[Row], tokens: Int[Tensor, "prompt pos"], lengths: Int[Tensor, " prompt"]
) -> None:
    longest = int(lengths.argmax())
    if int(lengths[longest]) > config.n_ctx:
        raise InputError(
            f"{rows[longest].where} has {int(lengths[longest])} tokens, and {config.name} reads {config.n_ctx}; "
            "shorten it"
        )
    for row, ids, n_tokens in zip(rows, tokens, lengths, strict=True):
        if int(ids[:n_tokens].max()) >= config.d_vocab:
            raise InputError(
                f"{row.where} holds token {int(ids[:n_tokens].max())}, and {config.name} has {config.d_vocab}; "
                "load the model with its own tokenizer"
            )


def _positions(tokenizer: Tokenizer, rows: Sequence[Row], role: str, read: Sequence[tuple[str, ...]]) -> Tensor:
    return torch.tensor([_position(tokenizer, row, role, text) for row, text in zip(rows, read, strict=True)])


def _position(tokenizer: Tokenizer, row: Row, role: str, read: tuple[str, ...]) -> int:
    place = row.roles[role]
    if isinstance(place, str):
        # The text may spell a letter in another way: as letter and accent, or as the tokenizer rewrites it.
        spellings = [place, *(unicodedata.normalize(form, place) for form in ("NFC", "NFD"))]
        spellings.append("".join(pieces(tokenizer, token_ids(tokenizer, place))))
        found = next(filter(None, (find_word(read, spelling) for spelling in spellings)), [])
        if len(found) != 1:
            times = f"stands {len(found)} times in" if found else "is not a word of"
            raise InputError(f"{row.where}: role {role!r}: {place!r} {times} {row.text!r}; give its position, from 0")
        return found[0]
    if not 0 <= place < len(read):
        raise InputError(
            f"{row.where}: role {role!r}: position {place} lies outside its {len(read)} tokens, counted from 0"
        )
    return place


def _answers(tokenizer: Tokenizer, rows: Sequence[Row], column: str, space: Space) -> Tensor | None:
    words = [_spaced(getattr(row, column), space) for row in rows]
    if all(word is None for word in words):
        return None
    given = [(row, word) for row, word in zip(rows, words, strict=True) if word is not None]
    if len(given) < len(rows):
        without = rows[words.index(None)].where
        raise InputError(f"{column}: {without} has none, and other prompts do; give every prompt one")
    offending = [(row, word) for row, word in given if not is_single_token(tokenizer, word)]
    if offending:
        raise InputError(_several_tokens(tokenizer, column, offending))
    if space == "check":
        for row, word in given:
            _check_continues(tokenizer, row, column, word)
    return torch.tensor([single_token(tokenizer, word) for _, word in given])


def _spaced(word: str | None, space: Space) -> str | None:
    return f" {word}" if space == "add" and word and not word[0].isspace() else word


def _several_tokens(tokenizer: Tokenizer, column: str, offending: Sequence[tuple[Row, str]]) -> str:
    # Each word once, with the first prompt that has it.
    first = {word: row.where for row, word in reversed(offending)}
    named = [
        f"{word!r} ({first[word]}: {list(str_tokens(tokenizer, token_ids(tokenizer, word)))})"
        for word in dict.fromkeys(word for _, word in offending)
    ]
    spaced = all(is_single_token(tokenizer, f" {word}") for word in first)
    return (
        f"{column}: each must be one token that this tokenizer knows, which {', '.join(named)} "
        f"{'is' if len(named) == 1 else 'are'} not; "
        f"{_ADD_SPACE if spaced else 'choose other words'}"
    )


def _check_continues(tokenizer: Tokenizer, row: Row, column: str, word: str) -> None:
    """Refuses an answer that would not be the next token of its prompt, as a rule a forgotten or misplaced space."""
    hint = f"{_ADD_SPACE}, and space='as_is' leaves it, if it is meant"
    if row.text[-1:].isspace():
        raise InputError(
            f"{row.where}: the prompt ends with a space, which belongs to the next word's token; take it off, and "
            f"write the {column} as {' ' + word.strip()!r} (or give space='as_is' if it is meant)"
        )
    if row.text[-1:].isalpha() and word[:1].isalpha():
        glued = row.text.split()[-1] + word
        raise InputError(f"{row.where}: {column} {word!r} would be glued to the prompt, as {glued!r}; {hint}")
    before, both = token_ids(tokenizer, row.text), token_ids(tokenizer, row.text + word)
    if both != [*before, single_token(tokenizer, word)]:
        raise InputError(
            f"{row.where}: {column} {word!r} is not the next token of {row.text!r}, which together with it is read as "
            f"…{list(str_tokens(tokenizer, both[-3:]))}; {hint}"
        )
