"""The words of syllogisms, and those of them that have the right number of tokens in a tokenizer.

Prompts of one form have equal token counts where each kind of word has one count of its own. Words are counted behind a
space, as they stand in a prompt; a noun is counted twice, as it also begins a sentence.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from unweave.errors import InputError
from unweave.models.tokens import Tokenizer, token_ids
from unweave.models.weights import abbreviated


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of each kind of word; None is the count that most of the words have.

    `opening` is the noun with a capital letter, at the beginning of a sentence.
    """

    category: int | None = None
    descriptor: int | None = None
    noun: int | None = None
    opening: int | None = None


@dataclass(frozen=True)
class SyllogismWords:
    """Plural categories and nouns, and descriptors with their opposites."""

    categories: tuple[str, ...]
    nouns: tuple[str, ...]
    opposites: tuple[tuple[str, str], ...]
    counts: TokenCounts = TokenCounts()

    __repr__ = abbreviated

    def __post_init__(self) -> None:
        every = [*self.categories, *self.nouns, *(word for pair in self.opposites for word in pair)]
        twice = [word for word, times in Counter(every).items() if times > 1]
        if twice:
            raise InputError(f"words: {', '.join(map(repr, twice))} stands there more than once; take the others out")
        odd = [word for word in every if not word or word != word.strip() or word != word.lower()]
        if odd:
            raise InputError(f"words: expected lower-case words without spaces around them, got {odd[0]!r}")


@cache
def own_words() -> SyllogismWords:
    """The words that come with unweave."""
    text = files("unweave.tasks").joinpath("data/syllogism.json").read_text(encoding="utf-8")
    lists = json.loads(text)
    pairs = tuple((first, second) for first, second in lists["opposites"])
    return SyllogismWords(tuple(lists["categories"]), tuple(lists["nouns"]), pairs)


def fitting(tokenizer: Tokenizer, words: SyllogismWords) -> SyllogismWords:
    """The words that have the counts asked for.

    Opposites stand in each other's place, and their first tokens are the answers: pairs of different length, and pairs
    that begin with the same token, are left out.

    Raises:
        InputError: a kind of which no word is left, with the counts that there are.
    """
    counts = words.counts
    opposites = [pair for pair in words.opposites if _exchangeable(*(ids_of(tokenizer, word) for word in pair))]
    nouns = [(word, word.capitalize()) for word in words.nouns]
    kept = {
        "categories": _alike(tokenizer, [(word,) for word in words.categories], (counts.category,)),
        "nouns": _alike(tokenizer, nouns, (counts.noun, counts.opening)),
        "opposites": _alike(tokenizer, opposites, (counts.descriptor, counts.descriptor)),
    }
    for kind, entries in kept.items():
        if not entries:
            raise InputError(_none_left(tokenizer, words, kind))
    return replace(
        words,
        categories=tuple(word for (word,) in kept["categories"]),
        nouns=tuple(word for word, _ in kept["nouns"]),
        opposites=tuple((first, second) for first, second in kept["opposites"]),
    )


def _alike(
    tokenizer: Tokenizer, entries: Sequence[tuple[str, ...]], wanted: tuple[int | None, ...]
) -> list[tuple[str, ...]]:
    """The entries of wanted token counts; where a count is left open, those of the commonest counts."""
    sizes = [tuple(len(ids_of(tokenizer, word)) for word in entry) for entry in entries]
    possible = [
        size
        for size in sizes
        if all(size) and all(count in (None, found) for count, found in zip(wanted, size, strict=True))
    ]
    if not possible:
        return []
    [(commonest, _)] = Counter(possible).most_common(1)
    return [entry for entry, size in zip(entries, sizes, strict=True) if size == commonest]


def _none_left(tokenizer: Tokenizer, words: SyllogismWords, kind: str) -> str:
    """What the words of a kind lack, with the tokens of the first few."""
    fields = {"categories": ("category",), "nouns": ("noun", "opening"), "opposites": ("descriptor",)}[kind]
    asked = {name: count for name in fields if (count := getattr(words.counts, name)) is not None}
    wanted = ", ".join(f"{name}={count}" for name, count in asked.items())
    lacks = f"has the number of tokens asked for, TokenCounts({wanted})," if asked else "is known to this tokenizer"
    if kind == "opposites" and not asked:
        lacks = "has two words of equally many tokens that begin with different ones"
    entries = getattr(words, kind)
    forms = [entry if kind == "opposites" else (entry, entry.capitalize())[: len(fields)] for entry in entries[:3]]
    first = [word for form in forms for word in form]
    sizes = ", ".join(f"{word!r} {len(ids_of(tokenizer, word)) or 'unknown'}" for word in first)
    return (
        f"words: none of the {len(entries)} {kind} {lacks} (tokens: {sizes}); give others: words=SyllogismWords(…)"
        f"{', or other counts=TokenCounts(…)' if asked else ''}"
    )


def ids_of(tokenizer: Tokenizer, word: str) -> list[int]:
    """The tokens of a word behind a space; none where the tokenizer does not know it."""
    ids = token_ids(tokenizer, f" {word}")
    return [] if getattr(tokenizer, "unk_token_id", None) in ids else ids


def _exchangeable(first: list[int], second: list[int]) -> bool:
    return len(first) == len(second) and first[:1] != second[:1]
