"""Pairs of prompts that differ in one word: "The White House is where the" and "The Haunted House is where the".

A patch needs equal positions, so both words must have equally many tokens. Where they have not with the tokenizer at
hand, there is no way around another word: a corrupted prompt may be given as several texts, the one that is wanted
first, and the first of them that is as long as the clean prompt is taken.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models.inputs import column
from unweave.models.tokens import Tokenizer, str_tokens, token_ids
from unweave.tasks.hand_pairs import pairs
from unweave.tasks.task import Task
from unweave.tasks.texts import TextModel, tokenizer_of


def word_swap(
    model: TextModel,
    clean: Iterable[str],
    corrupted: Iterable[str | Iterable[str]],
    answer: Iterable[str],
    wrong: Iterable[str],
    *,
    bos: bool | None = None,
) -> Task:
    """A task of pairs that differ in one word.

        uw.tasks.word_swap(
            model,
            clean=["The White House is where the"],
            corrupted=[["The Haunted House is where the", "The Ghost House is where the"]],
            answer=[" president"],
            wrong=[" ghosts"],
        )

    Args:
        model: whose tokenizer reads them.
        clean: texts.
        corrupted: for each the same text with another word in one place, or several such texts, of which the first that
            has as many tokens is taken.
        answer, wrong: the right continuation of the clean and of the corrupted prompt, one token each, with its space.
        bos: a beginning-of-sequence token in front: None as the tokenizer does it, True, or False.

    Returns:
        A task as `uw.tasks.pairs` makes it, with the roles `swapped`, the last token of the word, and `end`. Its
        `notes` say where another text than the first was taken.

    Raises:
        InputError: columns of different length, texts that differ in more or less than a word, words of different token
            counts, or what `uw.tasks.pairs` refuses.
    """
    tokenizer = tokenizer_of(model)
    texts, taken, notes = column("clean", clean), [], []
    for number, (text, given) in enumerate(
        zip(texts, column("corrupted", corrupted, len(texts)), strict=True), start=1
    ):
        others = [given] if isinstance(given, str) else column(f"corrupted: prompt {number}", given, of="texts")
        fitting = _first_that_fits(tokenizer, text, others, f"prompt {number}")
        taken.append(fitting)
        if fitting != others[0]:
            notes.append(f"{_counted(tokenizer, text, others[0])}, so {fitting!r} is used.")
    task = pairs(model, texts, taken, answer, wrong, bos=bos)
    return with_swapped(replace(task, name="word-swap", notes=" ".join(notes)))


def with_swapped(task: Task) -> Task:
    """The task with the role `swapped`: the last place where a prompt and its corruption differ."""
    place = last_difference(task.prompts.tokens, task.corrupt().tokens)
    roles = {"swapped": place, **task.prompts.roles}
    source = {**task.prompts.source, "task": task.name}
    return replace(task, prompts=replace(task.prompts, roles=roles, source=source))


def last_difference(ours: Int[Tensor, "prompt pos"], theirs: Int[Tensor, "prompt pos"]) -> Int[Tensor, " prompt"]:
    """The last position at which each row differs from the other's."""
    n_pos = ours.shape[1]
    return n_pos - 1 - (ours != theirs).flip(1).long().argmax(1)


def swapped_words(clean: str, corrupted: str) -> tuple[str, str]:
    """The one word in which two texts differ, of each. Raises InputError where it is not one."""
    ours, theirs = clean.split(" "), corrupted.split(" ")
    apart = [(mine, other) for mine, other in zip(ours, theirs, strict=False) if mine != other]
    if len(ours) != len(theirs) or len(apart) != 1:
        raise InputError(
            f"corrupted: {corrupted!r} and {clean!r} should differ in one word, and differ in "
            f"{len(apart) if len(ours) == len(theirs) else 'their number of words'}; uw.tasks.pairs takes any pair"
        )
    return apart[0]


def size_of(tokenizer: Tokenizer, text: str) -> int:
    """Tokens of a text without special ones; 0 where it holds a word that the tokenizer does not know."""
    ids = token_ids(tokenizer, text)
    return 0 if getattr(tokenizer, "unk_token_id", None) in ids else len(ids)


def _first_that_fits(tokenizer: Tokenizer, clean: str, others: Sequence[str], where: str) -> str:
    n_tokens = len(token_ids(tokenizer, clean))
    for other in others:
        swapped_words(clean, other)
    fitting = [other for other in others if size_of(tokenizer, other) == n_tokens]
    if fitting:
        return fitting[0]
    counts = "; ".join(_counted(tokenizer, clean, other) for other in others)
    raise InputError(
        f"{where}: {counts}. A patch needs equal positions: choose another word, or give several corrupted texts, of "
        "which the first that fits is taken: corrupted=[['…', '…']]"
    )


def _counted(tokenizer: Tokenizer, clean: str, other: str) -> str:
    """Both words with their tokens."""
    mine, theirs = (
        f"{word!r} is {len(ids)} token{'s' * (len(ids) != 1)} {list(str_tokens(tokenizer, ids))}"
        for word, ids in ((word, token_ids(tokenizer, f" {word}")) for word in swapped_words(clean, other))
    )
    return f"with this tokenizer {theirs} and {mine}"
