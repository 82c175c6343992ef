"""Prompts given by hand in pairs: each clean prompt with its corrupted twin, which has as many tokens."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import SupportsIndex

from unweave.models.inputs import column
from unweave.models.prompts import check_pairs, named_clusters, pair_clusters
from unweave.tasks.task import Task
from unweave.tasks.texts import Row, Space, TextModel, rows_of, tokenize


def pairs(
    model: TextModel,
    clean: Iterable[str],
    corrupted: Iterable[str],
    answer: Iterable[str],
    wrong: Iterable[str] | None = None,
    roles: Mapping[str, Iterable[SupportsIndex | str]] | None = None,
    *,
    clusters: Iterable | None = None,
    bos: bool | None = None,
    space: Space = "check",
) -> Task:
    """A task of prompts given in pairs.

        uw.tasks.pairs(
            model,
            clean=["When Mary and John went out, John gave a book to"],
            corrupted=["When Mary and John went out, Mary gave a book to"],
            answer=[" Mary"],
            wrong=[" John"],
            roles={"comma": [","]},
        )

    Args:
        model: whose tokenizer reads them.
        clean, corrupted: texts; the two of a pair have equally many tokens, different pairs need not.
        answer, wrong: the right and a wrong continuation of each clean prompt, one token each, written with its space.
        roles: named positions of the clean prompts: a word that stands there once (its last token counts), or a
            position from 0, a beginning-of-sequence token included.
        clusters: a number or name per pair, equal for pairs that are not independent of each other. Pairs that are each
            other's corruption are found without it.
        bos: a beginning-of-sequence token in front: None as the tokenizer does it, True, or False.
        space: what to do with an answer that has no space in front: "check", "add" or "as_is" (`unweave.tasks.texts`).

    Raises:
        InputError: columns of different length, a pair of different token counts or of the same tokens, an answer of
            several tokens or equal to the wrong one, a role's word that is missing or ambiguous.
    """
    rows = rows_of(column("clean", clean), answer, wrong, roles)
    return paired("pairs", model, rows, column("corrupted", corrupted, len(rows)), clusters, bos=bos, space=space)


def paired(
    name: str,
    model: TextModel,
    rows: Sequence[Row],
    corrupted: Sequence[str],
    clusters: Iterable | None = None,
    *,
    bos: bool | None,
    space: Space,
) -> Task:
    """A task of clean rows and the corrupted text of each."""
    clean = tokenize(model, rows, bos=bos, space=space)
    others = tokenize(model, [Row(text, row.where) for text, row in zip(corrupted, rows, strict=True)], bos=bos)
    names = [row.where for row in rows]
    check_pairs(clean, others, names)
    found = pair_clusters(clean, others) if clusters is None else named_clusters(clusters, len(rows), names)
    return Task(
        name=name,
        prompts=replace(clean, source={"task": name}, clusters=found),
        corruptions=("given",),
        make=lambda _: others,
        description=f"{len(rows)} pairs of a clean and a corrupted prompt.",
        question=_question(rows[0]),
    )


def _question(first: Row) -> str:
    if first.answer is None:
        return ""
    return f"After “{first.text}” comes “{first.answer.strip()}”. Which parts of the model find it, and from where?"
