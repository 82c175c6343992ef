"""Prompts given by hand in pairs: each clean prompt with its corrupted twin, which has as many tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from unweave.errors import InputError
from unweave.models.prompts import Prompts
from unweave.tasks.task import Given, Task
from unweave.tasks.texts import Row, Space, TextModel, rows_of, tokenize


def pairs(
    model: TextModel,
    clean: Sequence[str],
    corrupted: Sequence[str],
    answer: Sequence[str],
    wrong: Sequence[str] | None = None,
    roles: Mapping[str, Sequence[int | str]] | None = None,
    *,
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
        bos: a beginning-of-sequence token in front: None as the tokenizer does it, True, or False.
        space: what to do with an answer that has no space in front: "check", "add" or "as_is" (`unweave.tasks.texts`).

    Raises:
        InputError: columns of different length, a pair of different token counts, an answer of several tokens, a role's
            word that is missing or ambiguous.
    """
    if not clean:
        raise InputError("clean: expected at least one prompt, got none")
    rows = rows_of(clean, answer, wrong, roles)
    if isinstance(corrupted, str) or len(corrupted) != len(rows):
        got = repr(corrupted) if isinstance(corrupted, str) else f"{len(corrupted)}"
        raise InputError(f"corrupted: expected a list with one entry for each of the {len(rows)} prompts, got {got}")
    return paired("pairs", model, rows, corrupted, bos=bos, space=space)


def paired(
    name: str, model: TextModel, rows: Sequence[Row], corrupted: Sequence[str], *, bos: bool | None, space: Space
) -> Task:
    """A task of clean rows and the corrupted text of each."""
    clean = replace(tokenize(model, rows, bos=bos, space=space), source={"task": name})
    others = tokenize(model, [Row(text, row.where) for text, row in zip(corrupted, rows, strict=True)], bos=bos)
    _check_lengths(rows, clean, others)
    twin = replace(
        clean,
        tokens=others.tokens,
        texts=others.texts,
        str_tokens=others.str_tokens,
        source={"task": name, "corruption": "given"},
    )
    return Task(
        name=name,
        prompts=clean,
        corruptions=("given",),
        make=Given(name, twin),
        description=f"{len(rows)} pairs of a clean and a corrupted prompt.",
        question=_question(rows[0]),
    )


def _question(first: Row) -> str:
    if first.answer is None:
        return ""
    return f"After “{first.text}” comes “{first.answer.strip()}”. Which parts of the model find it, and from where?"


def _check_lengths(rows: Sequence[Row], clean: Prompts, corrupted: Prompts) -> None:
    unlike = (clean.lengths != corrupted.lengths).nonzero()[:, 0].tolist()
    if not unlike:
        return
    first = unlike[0]
    ours, theirs = clean.str_tokens[first], corrupted.str_tokens[first]
    more = f" ({len(unlike)} pairs in all)" if len(unlike) > 1 else ""
    raise InputError(
        f"{rows[first].where}: the clean prompt has {len(ours)} tokens and the corrupted one {len(theirs)}{more}; make "
        f"them equally long, since a patch needs equal positions. They part at {_parting(ours, theirs)}"
    )


def _parting(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Both token lists from one token before their first difference, a few tokens each."""
    ends = chain(zip(ours, theirs, strict=False), [(None, "")])
    at = max(next(n for n, (mine, other) in enumerate(ends) if mine != other) - 1, 0)
    return f"{list(ours[at : at + 6])} and {list(theirs[at : at + 6])}"
