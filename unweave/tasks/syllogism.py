"""Syllogisms: "All birds are hot, not cold. Dogs are birds. Therefore, dogs are" goes on with " hot".

1. Words are chosen by their number of tokens (`unweave.tasks.syllogism_words`), so that all prompts have equal token
   counts. What they say of the world does not matter: it is the form that gives the answer.
2. Category, noun and pair of opposites are drawn out of all their products, none of them twice.
3. Each prompt is followed by its opposite, in which the descriptors have changed places. The wrong answer of a prompt
   is the right answer of its opposite: the two descriptors always belong together.
4. By default those pairs are kept which the model gets right both ways (`unweave.tasks.margins`).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import torch

from unweave.errors import InputError
from unweave.models.model import Model
from unweave.models.prompts import Prompts, clusters_of
from unweave.models.tokens import Tokenizer
from unweave.tasks.margins import Rule, choose
from unweave.tasks.syllogism_words import SyllogismWords, fitting, ids_of, own_words
from unweave.tasks.task import Task
from unweave.tasks.texts import Row, TextModel, find_word, pieces_of, tokenize, tokenizer_of

W = TypeVar("W")
CORRUPTIONS = ("opposite", "fresh", "unlinked")
# The filter gives up after so many prompts for each that is asked for, and after no fewer than the second number.
_TRIES, _LEAST_TRIED = 12, 120


@dataclass(frozen=True)
class Syllogism:
    """The words of one prompt. `linked` is the category of the second sentence, as a rule that of the first."""

    category: str
    noun: str
    descriptor: str
    opposite: str
    linked: str = ""

    @property
    def text(self) -> str:
        return (
            f"All {self.category} are {self.descriptor}, not {self.opposite}. {self.noun.capitalize()} are "
            f"{self.linked or self.category}. Therefore, {self.noun} are"
        )

    def turned(self) -> "Syllogism":
        """The opposite prompt."""
        return replace(self, descriptor=self.opposite, opposite=self.descriptor)


def syllogism(
    model: TextModel,
    n_prompts: int = 32,
    seed: int = 0,
    *,
    threshold: float | None = 1.0,
    words: SyllogismWords | None = None,
    bos: bool | None = None,
) -> Task:
    """Syllogisms about made-up facts, each followed by its opposite.

    Args:
        model: whose tokenizer reads them, and which is asked where there is a threshold.
        n_prompts: how many; of an odd number the last one's opposite is left out.
        seed: of the draws.
        threshold: keep the pairs in which the right answer is more logits above the wrong one than this, both ways
            round; None keeps all. What was tried and kept is in the task's `notes`.
        words: our own by default.
        bos: a beginning-of-sequence token in front: None as the tokenizer does it, True, or False.

    Returns:
        A task whose `corrupt` takes "opposite" (the descriptors change places), "fresh" (two other descriptors), and
        "unlinked" (the second sentence names another category). Roles: `start category descriptor opposite noun
        category2 noun2 end`, each the last token of its word.

    Raises:
        InputError: no word that fits the tokenizer, too few products, or a filter that leaves too few prompts; it says
            how many were tried, and the figures.
    """
    if n_prompts < 1:
        raise InputError(f"n_prompts: expected at least 1, got {n_prompts}")
    usable = fitting(tokenizer_of(model), words or own_words())
    records, notes = _records(model, n_prompts, candidates(usable, seed), threshold, bos)
    prompts = replace(syllogism_prompts(model, records, bos), source={"task": "syllogism", "seed": seed})
    first = records[0]

    def corrupted(how: str) -> Prompts:
        others = [_corrupted(record, how, usable, f"{seed} {number}") for number, record in enumerate(records)]
        return syllogism_prompts(model, others, bos)

    return Task(
        name="syllogism",
        prompts=prompts,
        corruptions=CORRUPTIONS,
        make=corrupted,
        description=f"Syllogisms with made-up premises, of {len(usable.opposites)} pairs of opposites.",
        question=(
            f"After “{first.text}” comes “{first.descriptor}”, not “{first.opposite}”. Which parts of the model draw "
            "the conclusion, and from which words?"
        ),
        notes=notes,
        title="Syllogisms with made-up premises",
    )


def _records(
    model: TextModel,
    n_prompts: int,
    pairs: Iterator[tuple[Syllogism, Syllogism]],
    threshold: float | None,
    bos: bool | None,
) -> tuple[tuple[Syllogism, ...], str]:
    """The first records that there are, or that the model gets right both ways; and how they were chosen."""
    n_pairs = (n_prompts + 1) // 2
    if threshold is None:
        records = tuple(record for pair in islice(pairs, n_pairs) for record in pair)
        if len(records) < n_prompts:
            raise InputError(f"n_prompts: the words give {len(records)} different prompts; ask for no more")
        return records[:n_prompts], "Prompts are not chosen by behaviour."
    if not isinstance(model, Model):
        raise InputError("threshold: it needs a model that can be run; give threshold=None")
    rule = Rule(n_pairs, threshold, max(_TRIES * n_prompts, _LEAST_TRIED) // 2)
    chosen = choose(model, pairs, lambda records: syllogism_prompts(model, records, bos), rule)
    return chosen.records[:n_prompts], chosen.notes


def candidates(words: SyllogismWords, seed: int) -> Iterator[tuple[Syllogism, Syllogism]]:
    """Every product of the words once, in random order, each with its opposite behind it."""
    draw = random.Random(seed)
    n_nouns, n_opposites = len(words.nouns), len(words.opposites)
    total = len(words.categories) * n_nouns * n_opposites
    for number in draw.sample(range(total), total):
        rest, which = divmod(number, n_opposites)
        category, noun = divmod(rest, n_nouns)
        first = Syllogism(words.categories[category], words.nouns[noun], *words.opposites[which])
        yield (first, first.turned()) if draw.random() < 0.5 else (first.turned(), first)


def syllogism_prompts(model: TextModel, records: Sequence[Syllogism], bos: bool | None) -> Prompts:
    """Records as prompts with roles and answers, the first tokens of the descriptors; one template, hence one group.

    Prompts that share a pair of opposites are one cluster, as a syllogism and its opposite do.
    """
    tokenizer = tokenizer_of(model)
    rows = [Row(record.text, f"prompt {number}") for number, record in enumerate(records, start=1)]
    prompts = tokenize(model, rows, bos=bos)
    places = [_roles(words, record) for words, record in zip(pieces_of(model, prompts), records, strict=True)]
    return replace(
        prompts,
        roles={role: torch.tensor([place[role] for place in places]) for role in places[0]},
        answers=_first_tokens(tokenizer, [record.descriptor for record in records]),
        wrong=_first_tokens(tokenizer, [record.opposite for record in records]),
        groups=torch.zeros(len(records), dtype=torch.long),
        clusters=clusters_of([[frozenset((record.descriptor, record.opposite))] for record in records]),
    )


def _corrupted(record: Syllogism, how: str, words: SyllogismWords, seed: str) -> Syllogism:
    if how == "opposite":
        return record.turned()
    draw = random.Random(seed)
    if how == "unlinked":
        free = [word for word in words.categories if word != record.category]
        return replace(record, linked=draw.choice(_some(free, how)))
    pairs = [pair for pair in words.opposites if record.descriptor not in pair]
    descriptor, opposite = draw.choice(_some(pairs, how))
    return replace(record, descriptor=descriptor, opposite=opposite)


def _some(free: list[W], how: str) -> list[W]:
    if not free:
        raise InputError(f"corruption: {how!r} needs other words that fit the tokenizer, and there are none")
    return free


def _first_tokens(tokenizer: Tokenizer, words: Sequence[str]) -> torch.Tensor:
    return torch.tensor([ids_of(tokenizer, word)[0] for word in words])


def _roles(words: Sequence[str], record: Syllogism) -> dict[str, int]:
    """Positions of the roles in one prompt's tokens, in the order in which they are shown."""
    category, category2 = find_word(words, record.category)[0], find_word(words, record.linked or record.category)[-1]
    return {
        "start": 0,
        "category": category,
        "descriptor": find_word(words, record.descriptor)[0],
        "opposite": find_word(words, record.opposite)[0],
        "noun": find_word(words, record.noun.capitalize())[0],
        "category2": category2,
        "noun2": find_word(words, record.noun)[0],
        "end": len(words) - 1,
    }
