"""Prompts: token rows with named positions and answers."""

import textwrap
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import SupportsIndex

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError, did_you_mean
from unweave.models.inputs import column, numbers, token_rows


@dataclass(frozen=True, eq=False)
class Prompts:
    """A set of prompts, right-padded to one length.

    `tokens[prompt, pos]` beyond `lengths[prompt]` is padding, which nothing reads. A role is a named position of each
    prompt, and may stand elsewhere in every prompt; `end`, the last token, is always there. `answers` and `wrong`
    hold one vocabulary entry a prompt. `groups` numbers the template that a prompt was made from. `clusters` numbers
    prompts that are not independent of each other (both orders of a template, a prompt and its opposite): intervals and
    tests draw them together; None if each prompt is independent. `bos` says whether a beginning-of-sequence token
    stands in front. `source` names where the prompts came from (task, seed, corruption).
    """

    tokens: Int[Tensor, "prompt pos"]
    lengths: Int[Tensor, " prompt"]
    roles: Mapping[str, Int[Tensor, " prompt"]]
    answers: Int[Tensor, " prompt"] | None = None
    wrong: Int[Tensor, " prompt"] | None = None
    texts: tuple[str, ...] = ()
    str_tokens: tuple[tuple[str, ...], ...] = ()
    groups: Int[Tensor, " prompt"] | None = None
    clusters: Int[Tensor, " prompt"] | None = None
    bos: bool = False
    source: Mapping[str, str | int] = field(default_factory=dict)

    @classmethod
    def from_tokens(
        cls,
        tokens: Int[Tensor, "prompt pos"] | Iterable | Mapping,
        answers: Int[Tensor, " prompt"] | Iterable[SupportsIndex] | None = None,
        wrong: Int[Tensor, " prompt"] | Iterable[SupportsIndex] | None = None,
        roles: Mapping[str, Int[Tensor, " prompt"] | Iterable[SupportsIndex]] | None = None,
        lengths: Int[Tensor, " prompt"] | Iterable[SupportsIndex] | None = None,
        clusters: Int[Tensor, " prompt"] | Iterable[Hashable] | None = None,
    ) -> "Prompts":
        """Prompts from token ids alone, for models without a tokenizer.

        Args:
            tokens: `[prompt, pos]` vocabulary entries: a tensor, an array, or rows that need not be equally long; or
                a tokenizer's output, of which `attention_mask` says what counts.
            answers, wrong: `[prompt]` the right and a wrong output entry.
            roles: named positions, `[prompt]` each, from 0. `end` is the last token unless it is given.
            lengths: `[prompt]` tokens that count in each row, from its beginning; all of them by default.
            clusters: `[prompt]` a number or name, equal for prompts that are not independent of each other.

        Raises:
            InputError: tokens, lengths, roles or answers that do not fit each other.
        """
        ids, own = token_rows(tokens)
        rows = {"lengths": lengths, "answers": answers, "wrong": wrong, **(roles or {})}
        given = {name: numbers(name, row, len(ids)) for name, row in rows.items() if row is not None}
        size = given.get("lengths", own)
        if bool((size < 1).any()) or bool((size > own).any()):
            raise InputError(f"lengths: expected 1 to {int(own.max())} for each prompt, got {size.tolist()}")
        places = {name: given[name] for name in roles or {}}
        places.setdefault("end", size - 1)
        for name, row in places.items():
            if bool((row < 0).any()) or bool((row >= size).any()):
                raise InputError(
                    f"roles[{name!r}]: got {row.tolist()}; positions count from 0 and lie in their prompt, "
                    "the last one is the role 'end'"
                )
        words = tuple(tuple(map(str, row[:n].tolist())) for row, n in zip(ids, size, strict=True))
        prompts = cls(
            tokens=ids,
            lengths=size,
            roles=places,
            answers=given.get("answers"),
            wrong=given.get("wrong"),
            texts=tuple(map(" ".join, words)),
            str_tokens=words,
            clusters=None if clusters is None else named_clusters(clusters, len(ids)),
        )
        check_answers(prompts)
        return prompts

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def __eq__(self, other: object) -> bool:
        """Whether all that is held is the same, tensors to the last entry."""
        if not isinstance(other, Prompts):
            return NotImplemented
        return all(_same(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    def __repr__(self) -> str:
        sizes = sorted({int(self.lengths.min()), int(self.lengths.max())})
        first = f", the first {textwrap.shorten(self.texts[0], 80, placeholder=' …')!r}" if self.texts else ""
        clusters = "" if self.clusters is None else f", {len(self.clusters.unique())} clusters"
        told = f"{len(self)} of {' to '.join(map(str, sizes))} tokens, roles {' '.join(self.roles)}{clusters}"
        return f"Prompts({told}{first})"

    def take(self, index: Int[Tensor, " row"] | Sequence[int]) -> "Prompts":
        """The prompts at `index`, in that order; a prompt may be taken more than once."""
        at = torch.as_tensor(index, dtype=torch.long, device=self.tokens.device)
        rows = at.tolist()
        return replace(
            self._each(lambda values: values[at]),
            texts=tuple(self.texts[row] for row in rows) if self.texts else (),
            str_tokens=tuple(self.str_tokens[row] for row in rows) if self.str_tokens else (),
        )

    def first(self, n: int) -> list[int]:
        """The first `n` rows, without those of clusters that are cut there, unless that leaves fewer than half of them.

        So a pair is kept together, and templates that return all the time are not: of 100 prompts from 15 templates, 24
        are of all templates, and not of three.
        """
        rows = list(range(min(n, len(self))))
        if self.clusters is None:
            return rows
        cut = set(self.clusters[len(rows) :].tolist())
        whole = [row for row in rows if int(self.clusters[row]) not in cut]
        return whole if 2 * len(whole) >= len(rows) else rows

    def role(self, name: str) -> Int[Tensor, " prompt"]:
        """Positions of a role, one a prompt. Raises InputError with the roles that there are."""
        if name not in self.roles:
            hint = did_you_mean(str(name), self.roles)
            if not isinstance(name, str) or name.removeprefix("-").isdecimal():
                hint = " A position gets a name when prompts are made: roles={'here': …}; the last token is 'end'"
            raise InputError(f"role {name!r} is not among this task's roles: {', '.join(self.roles)}.{hint}")
        return self.roles[name]

    def to(self, device: torch.device | str) -> "Prompts":
        """The same prompts with their tensors on `device`."""
        return self._each(lambda values: values.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Prompts":
        """The prompts with every tensor changed."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {name: change(value) for name, value in held.items() if isinstance(value, Tensor)}
        return replace(self, **changed, roles={name: change(row) for name, row in self.roles.items()})


def check_answers(prompts: Prompts, n_outputs: int | None = None, names: Sequence[str] = ()) -> None:
    """Raises InputError, naming the prompt, for an answer that is no output entry, or is the wrong answer too.

    Args:
        prompts: with answers, wrong answers, both or none.
        n_outputs: entries of the model's output; not checked if None.
        names: each prompt's name in messages, `pairs.csv line 4`; by default its number from 1.
    """
    for name, row in (("answers", prompts.answers), ("wrong", prompts.wrong)):
        if row is None:
            continue
        if row.shape != (len(prompts),):
            raise InputError(f"{name}: expected one for each of the {len(prompts)} prompts, got {tuple(row.shape)}")
        outside = (row < 0) if n_outputs is None else (row < 0) | (row >= n_outputs)
        for number in _first(outside):
            entries = "counted from 0" if n_outputs is None else f"0 to {n_outputs - 1}"
            raise InputError(
                f"{name}: {_named(number, names)} has {int(row[number])}, expected an output entry, {entries}"
            )
    if prompts.answers is not None and prompts.wrong is not None:
        for number in _first(prompts.answers == prompts.wrong):
            raise InputError(
                f"{_named(number, names)}: the answer and the wrong answer are both output entry "
                f"{int(prompts.answers[number])}{_text(prompts, number)}, so there is no difference to measure; give "
                "another wrong answer"
            )


def check_pairs(clean: Prompts, corrupted: Prompts, names: Sequence[str] = ()) -> None:
    """Raises InputError, naming the pair, if a prompt and its corruption differ in length, or not at all."""
    if len(clean) != len(corrupted):
        raise InputError(
            f"corrupted: {len(corrupted)} prompts, and there are {len(clean)} clean ones; each needs its own"
        )
    unlike = clean.lengths != corrupted.lengths
    for number in _first(unlike):
        ours, theirs = (side.str_tokens[number] if side.str_tokens else () for side in (clean, corrupted))
        raise InputError(
            f"{_named(number, names)}: the clean prompt has {int(clean.lengths[number])} tokens and the "
            f"corrupted one {int(corrupted.lengths[number])}{_more(unlike)}; make them equally long, since a patch "
            f"needs equal positions. They part at {_parting(ours, theirs)}"
        )
    same = torch.tensor([ours == theirs for ours, theirs in zip(_rows(clean), _rows(corrupted), strict=True)])
    for number in _first(same):
        raise InputError(
            f"{_named(number, names)}: the clean and the corrupted prompt have the same tokens{_more(same)}"
            f"{_text(clean, number)}, so there is no effect to measure; change what the answer depends on"
        )


def pair_clusters(clean: Prompts, corrupted: Prompts) -> Int[Tensor, " prompt"] | None:
    """Clusters of pairs that share a clean prompt, or whose clean prompt is another's corruption; None if none do."""
    ours, theirs = _rows(clean), _rows(corrupted)
    asked = set(ours)
    found = clusters_of([{mine, other} & asked for mine, other in zip(ours, theirs, strict=True)])
    return found if int(found.max()) + 1 < len(clean) else None


def clusters_of(keys: Sequence[Iterable[Hashable]]) -> Int[Tensor, " prompt"]:
    """Numbers of prompts that are connected by the keys that they share, in order of first appearance."""
    parent = list(range(len(keys)))

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    holder: dict[Hashable, int] = {}
    for number, own in enumerate(keys):
        for key in own:
            parent[root(number)] = root(holder.setdefault(key, number))
    roots = [root(number) for number in range(len(keys))]
    numbered = {one: number for number, one in enumerate(dict.fromkeys(roots))}
    return torch.tensor([numbered[one] for one in roots], dtype=torch.long)


def named_clusters(given: object, n_prompts: int, names: Sequence[str] = ()) -> Int[Tensor, " prompt"]:
    """A column of numbers or names as clusters. Raises InputError if it does not fit or a prompt has none."""
    labels = column("clusters", given, n_prompts)
    for number, label in enumerate(labels):
        if not isinstance(label, Hashable) or label in (None, "") or label != label:  # NaN is not itself
            raise InputError(
                f"clusters: expected a number or a name for each prompt, got {label!r} for {_named(number, names)}"
            )
    return clusters_of([[label] for label in labels])


def _first(where: Tensor) -> list[int]:
    """The first row that is true, if there is one."""
    return where.nonzero()[:1, 0].tolist()


def _more(where: Tensor) -> str:
    """How many rows are true, if several are."""
    return f" ({int(where.sum())} pairs in all)" if int(where.sum()) > 1 else ""


def _named(number: int, names: Sequence[str]) -> str:
    return names[number] if names else f"prompt {number + 1}"


def _text(prompts: Prompts, number: int) -> str:
    """A prompt's text, for the middle of a message."""
    return f" ({textwrap.shorten(prompts.texts[number], 80, placeholder=' …')!r})" if prompts.texts else ""


def _rows(prompts: Prompts) -> list[tuple[int, ...]]:
    """Each prompt's tokens, without padding."""
    return [tuple(row[:n]) for row, n in zip(prompts.tokens.tolist(), prompts.lengths.tolist(), strict=True)]


def _parting(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Both token lists from one token before their first difference, a few tokens each."""
    ends = chain(zip(ours, theirs, strict=False), [(None, "")])
    at = max(next(n for n, (mine, other) in enumerate(ends) if mine != other) - 1, 0)
    return f"{list(ours[at : at + 6])} and {list(theirs[at : at + 6])}"


def _same(ours: object, theirs: object) -> bool:
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return torch.equal(ours.cpu(), theirs.cpu())
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_same(value, theirs[name]) for name, value in ours.items())
    return ours is theirs if isinstance(ours, Tensor) or isinstance(theirs, Tensor) else ours == theirs
