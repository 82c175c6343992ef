"""What a model learns from: token rows with their labels, and as much again that it is tested on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models.config import Config
from unweave.models.forward import forward, unembed
from unweave.models.prompts import Prompts
from unweave.models.weights import Weights

UNLABELLED = -100


@dataclass(frozen=True, eq=False)
class Examples:
    """Token rows, and the output entry that is right.

    `labels` `[prompt]` are read at one position of each row, `at`: one for all (-1 is the last), or `[prompt]`.
    `labels` `[prompt pos]` are read at every position, but for those that are `UNLABELLED` (-100).
    `lengths` are the tokens that count in each row; None for all of them.
    """

    tokens: Int[Tensor, "prompt pos"]
    labels: Int[Tensor, " prompt"] | Int[Tensor, "prompt pos"]
    at: int | Int[Tensor, " prompt"] = -1
    lengths: Int[Tensor, " prompt"] | None = None

    @classmethod
    def from_prompts(cls, prompts: Prompts, role: str = "end") -> "Examples":
        """The prompts' answers, read at a role. Raises InputError where the prompts have no answers or no such role."""
        if prompts.answers is None:
            raise InputError("prompts: they have no answers to learn; give them, uw.Prompts.from_tokens(answers=…)")
        return cls(prompts.tokens, prompts.answers, prompts.role(role), prompts.lengths)

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"Examples({len(self)} rows of {self.tokens.shape[1]} tokens)"

    def take(self, index: Int[Tensor, " row"]) -> "Examples":
        """The examples at `index`, in that order."""
        at = self.at if isinstance(self.at, int) else self.at[index]
        lengths = None if self.lengths is None else self.lengths[index]
        return Examples(self.tokens[index], self.labels[index], at, lengths)

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples on another device."""
        at = self.at if isinstance(self.at, int) else self.at.to(device)
        lengths = None if self.lengths is None else self.lengths.to(device)
        return Examples(self.tokens.to(device), self.labels.to(device), at, lengths)

    def check(self, config: Config, name: str) -> None:
        """Raise InputError where a model of this config cannot read the tokens or give the labels."""
        n_rows, n_pos = self.tokens.shape
        if n_rows == 0 or not 1 <= n_pos <= config.n_ctx:
            raise InputError(
                f"{name}.tokens: expected rows of 1 to {config.n_ctx} tokens (the config's n_ctx), "
                f"got {n_rows} rows of {n_pos}"
            )
        if self.labels.shape not in ((n_rows,), (n_rows, n_pos)):
            raise InputError(
                f"{name}.labels: expected one a row, {(n_rows,)}, or one a token, {(n_rows, n_pos)}, "
                f"got {tuple(self.labels.shape)}"
            )
        _inside(self.tokens, config.d_vocab, f"{name}.tokens", "the config's d_vocab")
        labels = self.labels[self.labels != UNLABELLED] if self.labels.ndim == 2 else self.labels
        _inside(labels, config.d_vocab_out, f"{name}.labels", "the config's d_vocab_out")
        at = torch.as_tensor(self.at)
        if bool((at < -n_pos).any() or (at >= n_pos).any()):
            raise InputError(
                f"{name}.at: expected positions of the {n_pos} tokens of a row, got {at.min()} to {at.max()}"
            )


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Examples to learn from, examples to be tested on, and where they came from (task, number, seed)."""

    examples: Examples
    held_out: Examples
    source: Mapping[str, str | int] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "TrainingData":
        """The same data on another device."""
        return replace(self, examples=self.examples.to(device), held_out=self.held_out.to(device))

    def check(self, config: Config) -> None:
        """Raise InputError where a model of this config cannot learn from the data."""
        self.examples.check(config, "data.examples")
        self.held_out.check(config, "data.held_out")

    def fingerprint(self) -> str:
        """The sha256 of all tokens, labels, places and lengths."""
        digest = hashlib.sha256()
        for part in (self.examples, self.held_out):
            lengths = () if part.lengths is None else (part.lengths,)
            for tensor in (part.tokens, part.labels, torch.as_tensor(part.at), *lengths):
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.to("cpu", torch.int64).numpy().tobytes())
        return digest.hexdigest()


def answers(
    config: Config, weights: Weights, examples: Examples
) -> tuple[Float[Tensor, "answer d_vocab_out"], Int[Tensor, " answer"]]:
    """The logits wherever examples have a label, and the labels."""
    final = forward(config, weights, examples.tokens, lengths=examples.lengths)
    if examples.labels.ndim == 2:
        labelled = examples.labels != UNLABELLED
        return unembed(weights, final[labelled]), examples.labels[labelled]
    rows = torch.arange(len(examples), device=final.device)
    return unembed(weights, final[rows, examples.at]), examples.labels


def _inside(entries: Tensor, size: int, name: str, whose: str) -> None:
    if entries.numel() == 0:
        raise InputError(f"{name}: there are none; give at least one")
    low, high = int(entries.min()), int(entries.max())
    if low < 0 or high >= size:
        raise InputError(f"{name}: expected entries from 0 to {size - 1} ({whose} is {size}), got {low} to {high}")
