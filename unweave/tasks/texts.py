"""Prompts from texts: tokens, roles given by word or position, and answers that are checked to be one token each.

An answer is read as it is written, as the continuation of its prompt: after "… gave the bag to" it is " Mary", with the
space. `space` says what happens to an answer without one:

    check   (default) an answer that would be glued to the prompt's last word, or read as other tokens there, is refused
    add     a space is put in front of every answer that has none
    as_is   no check: for endings, acronyms, and languages that are written without spaces
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.prompts import Prompts
from unweave.models.tokens import Tokenizer, bos_id, encode, is_single_token, single_token, str_tokens, token_ids

Space = Literal["check", "add", "as_is"]
_ADD_SPACE = "space='add' puts a space in front"


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
    texts: Sequence[str],
    answers: Sequence[str] | None = None,
    wrong: Sequence[str] | None = None,
    roles: Mapping[str, Sequence[int | str]] | None = None,
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
    texts: Sequence[str],
    answers: Sequence[str] | None,
    wrong: Sequence[str] | None,
    roles: Mapping[str, Sequence[int | str]] | None,
) -> list[Row]:
    """Columns as rows. Raises InputError where a column is not as long as the texts."""
    named = {f"roles[{name!r}]": column for name, column in (roles or {}).items()}
    columns = {"answer": answers, "wrong": wrong, **named}
    for name, column in columns.items():
        if isinstance(column, str) or (column is not None and len(column) != len(texts)):
            got = repr(column) if isinstance(column, str) else f"{len(column or ())}"
            raise InputError(f"{name}: expected a list with one entry for each of the {len(texts)} prompts, got {got}")
    return [
        Row(
            text=text,
            where=f"prompt {number + 1}",
            answer=None if answers is None else answers[number],
            wrong=None if wrong is None else wrong[number],
            roles={name: column[number] for name, column in (roles or {}).items()},
        )
        for number, text in enumerate(texts)
    ]


def tokenize(model: TextModel, rows: Sequence[Row], *, bos: bool | None = None, space: Space = "check") -> Prompts:
    """Rows as prompts; every row has the same roles, and either all or none an answer. Raises as `from_texts` does."""
    tokenizer = tokenizer_of(model)
    if space not in ("check", "add", "as_is"):
        raise InputError(f"space: expected 'check', 'add' or 'as_is', got {space!r}")
    tokens, lengths = encode(tokenizer, [row.text for row in rows], bos)
    _check_fit(model.config, rows, tokens, lengths)
    words = tuple(str_tokens(tokenizer, row[:n]) for row, n in zip(tokens, lengths.tolist(), strict=True))
    prompts = Prompts.from_tokens(
        tokens,
        answers=_answers(tokenizer, rows, "answer", space),
        wrong=_answers(tokenizer, rows, "wrong", space),
        roles={name: _positions(rows, name, words) for name in rows[0].roles},
        lengths=lengths,
    )
    texts = tuple(row.text for row in rows)
    return replace(prompts, texts=texts, str_tokens=words, bos=_has_bos(tokenizer, tokens))


def tokenizer_of(model: TextModel) -> Tokenizer:
    """The model's tokenizer. Raises InputError where it has none."""
    if model.tokenizer is None:
        raise InputError(
            f"{model.config.name} has no tokenizer, so it reads no text; take a task without text, palindromes or "
            "repeated-tokens, or give token ids through uw.Prompts.from_tokens"
        )
    return model.tokenizer


def find_word(str_tokens: Sequence[str], word: str) -> list[int]:
    """Positions of the tokens at which a whole word ends, in order; empty where it does not occur."""
    text, ends = "", []
    for token in str_tokens:
        text += token
        ends.append(len(text))
    sought = word.strip()
    # Only letters and digits can run on into a longer word: a comma is found behind any word.
    before, behind = (r"(?<!\w)" if sought[0].isalnum() else ""), (r"(?!\w)" if sought[-1].isalnum() else "")
    pattern = f"{before}{re.escape(sought)}{behind}"
    return [next(at for at, end in enumerate(ends) if end >= found.end()) for found in re.finditer(pattern, text)]


def _check_fit(
    config: Config, rows: Sequence[Row], tokens: Int[Tensor, "prompt pos"], lengths: Int[Tensor, " prompt"]
) -> None:
    longest = int(lengths.argmax())
    if int(lengths[longest]) > config.n_ctx:
        raise InputError(
            f"{rows[longest].where} has {int(lengths[longest])} tokens, and {config.name} reads {config.n_ctx}; "
            "shorten it"
        )
    row = int(tokens.amax(1).argmax())
    if int(tokens[row].max()) >= config.d_vocab:
        raise InputError(
            f"{rows[row].where} holds token {int(tokens[row].max())}, and {config.name} has {config.d_vocab}; "
            "load the model with its own tokenizer"
        )


def _has_bos(tokenizer: Tokenizer, tokens: Int[Tensor, "prompt pos"]) -> bool:
    first = bos_id(tokenizer)
    return first is not None and bool((tokens[:, 0] == first).all())


def _positions(rows: Sequence[Row], role: str, words: Sequence[tuple[str, ...]]) -> list[int]:
    return [_position(row, role, tokens) for row, tokens in zip(rows, words, strict=True)]


def _position(row: Row, role: str, tokens: tuple[str, ...]) -> int:
    place = row.roles[role]
    if isinstance(place, str):
        found = find_word(tokens, place) if place.strip() else []
        if len(found) != 1:
            times = f"stands {len(found)} times in" if found else "is not a word of"
            raise InputError(f"{row.where}: role {role!r}: {place!r} {times} {row.text!r}; give its position, from 0")
        return found[0]
    if not 0 <= place < len(tokens):
        raise InputError(
            f"{row.where}: role {role!r}: position {place} lies outside its {len(tokens)} tokens, counted from 0"
        )
    return place


def _answers(tokenizer: Tokenizer, rows: Sequence[Row], column: str, space: Space) -> list[int] | None:
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
    return [single_token(tokenizer, word) for _, word in given]


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
