"""Facts that hang on one word: "The capital of France is the city of" goes on with " Paris", of Italy with " Rome".

1. A relation is a text with one open place and facts that fill it, each a word and its answer.
2. Facts whose answer is not one token of the tokenizer are left out. Those that remain are put in pairs of equal token
   counts and different answers, in the order in which they stand; one that finds no partner is left out.
3. Each pair gives two prompts, one after the other, which are each other's corruption.
4. The White House and the Haunted House come first (`unweave.tasks.word_swaps`), then a pair of each relation in turn,
   so that few prompts show several of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import chain, zip_longest

import torch

from unweave.errors import InputError
from unweave.models.prompts import clusters_of
from unweave.models.tokens import Tokenizer, is_single_token
from unweave.tasks.syllogism_words import ids_of
from unweave.tasks.task import Task
from unweave.tasks.texts import TextModel, tokenizer_of
from unweave.tasks.word_swaps import size_of, swapped_words, with_swapped, word_swap

_PLACE = "[X]"


@dataclass(frozen=True)
class Swap:
    """A prompt and its corruption, which may have alternatives."""

    clean: str
    corrupted: tuple[str, ...]
    answer: str
    wrong: str
    relation: str


@dataclass(frozen=True)
class Relation:
    """A text with the place `[X]`, and what stands there with its answer."""

    name: str
    text: str
    facts: tuple[tuple[str, str], ...]


def factual(model: TextModel, n_prompts: int | None = None, *, bos: bool | None = None) -> Task:
    """Facts of several relations, each asked of two words that are each other's corruption.

    Args:
        model: whose tokenizer reads them.
        n_prompts: how many, from the first; all by default.
        bos: a beginning-of-sequence token in front: None as the tokenizer does it, True, or False.

    Returns:
        A task with the roles `swapped`, the last token of the word, and `end`. `prompts.groups` numbers relations,
        prompts of different length apart. Prompts that share a word are one cluster: each other's corruption, and what
        several relations ask of one word. Its `notes` say which facts do not fit the tokenizer.

    Raises:
        InputError: more prompts than there are, or no fact that fits the tokenizer.
    """
    tokenizer = tokenizer_of(model)
    singles, relations = own_facts()
    by_relation = [paired_facts(tokenizer, relation) for relation in relations]
    turns = chain.from_iterable(zip_longest(*by_relation))
    swaps = [swap for swap in (*singles, *turns) if swap and _fits(tokenizer, swap)]
    rows = [way for swap in swaps for way in (swap, _reversed(tokenizer, swap))]
    asked = len(rows) if n_prompts is None else n_prompts
    if not rows:
        raise InputError(f"model: no fact has words of as many tokens as its twin with {model.config.name}'s tokenizer")
    if not 1 <= asked <= len(rows):
        raise InputError(f"n_prompts: expected 1 to {len(rows)}, as many as fit this tokenizer, got {n_prompts}")
    rows = rows[:asked]
    made = word_swap(
        model,
        [row.clean for row in rows],
        [row.corrupted for row in rows],
        [row.answer for row in rows],
        [row.wrong for row in rows],
        bos=bos,
    )
    names = dict.fromkeys(row.relation for row in rows)
    prompts = replace(
        made.prompts,
        groups=_groups(rows, made.prompts.lengths.tolist()),
        clusters=clusters_of([swapped_words(row.clean, row.corrupted[0]) for row in rows]),
    )
    return with_swapped(
        replace(
            made,
            name="factual",
            prompts=prompts,
            description=f"Facts that hang on one word: {', '.join(names)}.",
            question=(
                f"After “{rows[0].clean}” comes “{rows[0].answer.strip()}”; one other word, and it is "
                f"“{rows[0].wrong.strip()}”. Where does the model find what it knows about the word, and how does it "
                "come to the end?"
            ),
            notes=" ".join(filter(None, [made.notes, _left_out(relations, by_relation)])),
            title="Facts that hang on one word",
        )
    )


@cache
def own_facts() -> tuple[tuple[Swap, ...], tuple[Relation, ...]]:
    """The swaps and relations that come with unweave."""
    stored = json.loads(files("unweave.tasks").joinpath("data/factual.json").read_text(encoding="utf-8"))
    swaps = tuple(
        Swap(swap["clean"], tuple(swap["corrupted"]), f" {swap['answer']}", f" {swap['wrong']}", swap["relation"])
        for swap in stored["swaps"]
    )
    relations = tuple(
        Relation(name, relation["text"], tuple((word, answer) for word, answer in relation["facts"]))
        for name, relation in stored["relations"].items()
    )
    return swaps, relations


def paired_facts(tokenizer: Tokenizer, relation: Relation) -> list[Swap]:
    """Facts of one relation two by two: words of as many tokens, different answers of one token each."""
    waiting: list[tuple[str, str]] = []
    found = []
    for word, answer in relation.facts:
        size = len(ids_of(tokenizer, word))
        if not size or not is_single_token(tokenizer, f" {answer}"):
            continue
        partners = [fact for fact in waiting if fact[1] != answer and len(ids_of(tokenizer, fact[0])) == size]
        if not partners:
            waiting.append((word, answer))
            continue
        waiting.remove(partners[0])
        found.append(_swap(relation, partners[0], (word, answer)))
    return found


def _swap(relation: Relation, first: tuple[str, str], second: tuple[str, str]) -> Swap:
    ours, theirs = (relation.text.replace(_PLACE, word) for word, _ in (first, second))
    return Swap(ours, (theirs,), f" {first[1]}", f" {second[1]}", relation.name)


def _reversed(tokenizer: Tokenizer, swap: Swap) -> Swap:
    """The corrupted prompt asked for, with the clean one as its corruption."""
    n_tokens = size_of(tokenizer, swap.clean)
    taken = next(text for text in swap.corrupted if size_of(tokenizer, text) == n_tokens)
    return Swap(taken, (swap.clean,), swap.wrong, swap.answer, swap.relation)


def _fits(tokenizer: Tokenizer, swap: Swap) -> bool:
    """Whether the answers are single tokens, and some corrupted text is as long as the clean one."""
    n_tokens = size_of(tokenizer, swap.clean)
    alike = [text for text in swap.corrupted if size_of(tokenizer, text) == n_tokens]
    return bool(n_tokens and alike) and all(is_single_token(tokenizer, word) for word in (swap.answer, swap.wrong))


def _groups(rows: Sequence[Swap], lengths: Sequence[int]) -> torch.Tensor:
    """A number for each relation and length."""
    keys = [(row.relation, n_tokens) for row, n_tokens in zip(rows, lengths, strict=True)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([numbers[key] for key in keys])


def _left_out(relations: Sequence[Relation], by_relation: Sequence[Sequence[Swap]]) -> str:
    """Facts that are in no pair, as a sentence."""
    used = {text for swaps in by_relation for swap in swaps for text in (swap.clean, *swap.corrupted)}
    missing = [
        word for relation in relations for word, _ in relation.facts if relation.text.replace(_PLACE, word) not in used
    ]
    if not missing:
        return ""
    return f"Left out, as the answer is several tokens or no partner is as long: {', '.join(missing)}."
