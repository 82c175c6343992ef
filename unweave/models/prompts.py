"""Prompts: token rows with named positions and answers."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError, did_you_mean


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
        tokens: Int[Tensor, "prompt pos"],
        answers: Int[Tensor, " prompt"] | Sequence[int] | None = None,
        wrong: Int[Tensor, " prompt"] | Sequence[int] | None = None,
        roles: Mapping[str, Int[Tensor, " prompt"] | Sequence[int]] | None = None,
        lengths: Int[Tensor, " prompt"] | Sequence[int] | None = None,
    ) -> "Prompts":
        """Prompts from token ids alone, for models without a tokenizer.

        Args:
            tokens: `[prompt, pos]` vocabulary entries, right-padded where `lengths` says so.
            answers, wrong: `[prompt]` the right and a wrong output entry.
            roles: named positions, `[prompt]` each, from 0. `end` is the last token unless it is given.
            lengths: `[prompt]` tokens that count in each row; all of them by default.

        Raises:
            InputError: a length, role or answer that does not fit the tokens.
        """
        if tokens.ndim != 2 or tokens.shape[0] == 0 or tokens.shape[1] == 0:
            raise InputError(
                f"tokens: expected [prompt, pos] with at least one of each, got shape {tuple(tokens.shape)}"
            )
        if tokens.is_floating_point():
            raise InputError(f"tokens: expected token ids, which are whole numbers, got {tokens.dtype}")
        n_prompts, n_pos = tokens.shape
        rows = {"lengths": lengths, "answers": answers, "wrong": wrong, **(roles or {})}
        given = {name: torch.as_tensor(row, dtype=torch.long) for name, row in rows.items() if row is not None}
        for name, row in given.items():
            if row.shape != (n_prompts,):
                raise InputError(
                    f"{name}: expected one entry for each of the {n_prompts} prompts, got {tuple(row.shape)}"
                )
        size = given.get("lengths", torch.full((n_prompts,), n_pos))
        if bool((size < 1).any()) or bool((size > n_pos).any()):
            raise InputError(f"lengths: expected 1 to {n_pos} for each prompt, got {size.tolist()}")
        places = {name: given[name] for name in roles or {}}
        places.setdefault("end", size - 1)
        for name, row in places.items():
            if bool((row < 0).any()) or bool((row >= size).any()):
                raise InputError(f"roles[{name!r}]: a position lies outside its prompt; positions count from 0")
        return cls(
            tokens=tokens.long(),
            lengths=size,
            roles=places,
            answers=given.get("answers"),
            wrong=given.get("wrong"),
            texts=tuple(" ".join(map(str, row[:n].tolist())) for row, n in zip(tokens, size, strict=True)),
            str_tokens=tuple(tuple(map(str, row[:n].tolist())) for row, n in zip(tokens, size, strict=True)),
        )

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
        return f"Prompts({len(self)} of {' to '.join(map(str, sizes))} tokens, roles {' '.join(self.roles)}{first})"

    def take(self, index: Int[Tensor, " row"] | Sequence[int]) -> "Prompts":
        """The prompts at `index`, in that order; a prompt may be taken more than once."""
        at = torch.as_tensor(index, dtype=torch.long, device=self.tokens.device)
        rows = at.tolist()
        return replace(
            self,
            tokens=self.tokens[at],
            lengths=self.lengths[at],
            roles={name: row[at] for name, row in self.roles.items()},
            answers=None if self.answers is None else self.answers[at],
            wrong=None if self.wrong is None else self.wrong[at],
            texts=tuple(self.texts[row] for row in rows) if self.texts else (),
            str_tokens=tuple(self.str_tokens[row] for row in rows) if self.str_tokens else (),
            groups=None if self.groups is None else self.groups[at],
            clusters=None if self.clusters is None else self.clusters[at],
        )

    def first(self, n: int) -> list[int]:
        """The rows of the first clusters that have at most `n` prompts together, and at least of one cluster.

        Without clusters these are the first `n` prompts.
        """
        if self.clusters is None:
            return list(range(min(n, len(self))))
        members: dict[int, list[int]] = {}
        for row, cluster in enumerate(self.clusters.tolist()):
            members.setdefault(cluster, []).append(row)
        chosen, *others = members.values()
        for some in others:
            if len(chosen) + len(some) > n:
                break
            chosen += some
        return sorted(chosen)

    def role(self, name: str) -> Int[Tensor, " prompt"]:
        """Positions of a role, one a prompt. Raises InputError with the roles that there are."""
        if name not in self.roles:
            hint = did_you_mean(str(name), self.roles)
            if not isinstance(name, str):
                hint = " A position gets a name when prompts are made: roles={'here': …}"
            raise InputError(f"role {name!r} is not among this task's roles: {', '.join(self.roles)}.{hint}")
        return self.roles[name]

    def to(self, device: torch.device | str) -> "Prompts":
        """The same prompts with their tensors on `device`."""
        return replace(
            self,
            tokens=self.tokens.to(device),
            lengths=self.lengths.to(device),
            roles={name: row.to(device) for name, row in self.roles.items()},
            answers=None if self.answers is None else self.answers.to(device),
            wrong=None if self.wrong is None else self.wrong.to(device),
            groups=None if self.groups is None else self.groups.to(device),
            clusters=None if self.clusters is None else self.clusters.to(device),
        )


def _same(ours: object, theirs: object) -> bool:
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return torch.equal(ours.cpu(), theirs.cpu())
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_same(value, theirs[name]) for name, value in ours.items())
    return ours is theirs if isinstance(ours, Tensor) or isinstance(theirs, Tensor) else ours == theirs
