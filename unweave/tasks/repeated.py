"""Random tokens and the same again: what a head that looks for repetitions, and nothing else, can go on with.

Olsson et al. 2022 (arXiv 2209.11895), section on induction heads. A beginning-of-sequence token comes before the first
half if prompts of texts have one. The second half begins with the token that the first began with; so does what
follows the last token, if it goes on.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from unweave.errors import InputError
from unweave.models.prompts import Prompts
from unweave.models.tokens import bos_id, encode, str_tokens
from unweave.tasks.task import Task
from unweave.tasks.texts import TextModel


def repeated_tokens(
    model: TextModel | int, n: int = 50, length: int = 50, seed: int = 0, bos: bool | None = None
) -> Task:
    """Sequences of random tokens, each repeated once.

    Args:
        model: whose vocabulary is drawn from, less its special tokens; or a number of vocabulary entries.
        n: sequences.
        length: tokens in the half that is repeated.
        seed: of the draws.
        bos: a beginning-of-sequence token in front: None as the tokenizer does it, True, or False.

    Returns:
        A task of prompts `[n, 2 * length]`, or one more. The answer is the token that began the first half; the wrong
        one is a random other. `corrupt("fresh")` draws another first half, so that nothing is repeated. Roles: `start`;
        `repeat`, where the second half begins; `end`.

    Raises:
        InputError: no sequence, fewer than 2 tokens, or more than the model reads.
    """
    if n < 1 or length < 2:
        raise InputError(f"n, length: expected at least 1 and 2, got {n} and {length}")
    front = beginning(model, bos)
    check_length("length", model, length, len(front))
    allowed = drawable(model)
    tokens = _drawer(allowed, n, seed)
    half = tokens(length)
    others = _differing(tokens(length), half, allowed)
    wrong = _differing(tokens(1), half[:, :1], allowed)[:, 0]
    # A classifier's outputs are no tokens: what follows cannot be asked of it.
    answered = isinstance(model, int) or model.config.d_vocab_out >= model.config.d_vocab
    columns = (half[:, 0], wrong) if answered else (None, None)
    roles = {"start": [0] * n, "repeat": [len(front) + length] * n}
    clean, twin = (
        replace(
            Prompts.from_tokens(torch.cat([front.expand(n, -1), first, half], dim=1), *columns, roles),
            bos=bool(len(front)),
        )
        for first in (half, others)
    )
    return Task(
        name="repeated-tokens",
        prompts=replace(_worded(model, clean), source={"task": "repeated-tokens", "seed": seed}),
        corruptions=("fresh",),
        make=lambda _: _worded(model, twin),
        description=f"{length} random tokens, and the same again.",
        question="Random tokens come a second time. Which parts of the model find what followed the first time?",
        title="Repeated random tokens",
    )


def repeated_for(model: TextModel, n_prompts: int = 32, seed: int = 0, bos: bool | None = None) -> Task:
    """`repeated_tokens` in halves of 25 tokens, or as many as the model reads."""
    room = (model.config.n_ctx - len(beginning(model, bos))) // 2
    return repeated_tokens(model, n_prompts, min(25, room), seed, bos)


def draw_repeated(
    model: TextModel | int, n: int, length: int, seed: int, bos: bool | None = None
) -> Int[Tensor, "prompt pos"]:
    """The tokens of `repeated_tokens` alone, `[n, 2 * length]`, or one more."""
    half = _drawer(drawable(model), n, seed)(length)
    return torch.cat([beginning(model, bos).expand(n, -1), half, half], dim=1)


def beginning(model: TextModel | int, bos: bool | None) -> Int[Tensor, " pos"]:
    """What a text begins with: the beginning-of-sequence token, or nothing. Raises InputError without one."""
    tokenizer = None if isinstance(model, int) else model.tokenizer
    if tokenizer is None:
        if bos:
            raise InputError("bos=True: there is no tokenizer to say which token it is; give bos=None or bos=False")
        return torch.empty(0, dtype=torch.long)
    first = encode(tokenizer, ["a"], bos)[0][0, :1]
    return first if int(first) == bos_id(tokenizer) else first[:0]


def check_length(argument: str, model: TextModel | int, length: int, n_front: int) -> None:
    """Raises InputError where the model does not read so many tokens twice."""
    n_tokens = 2 * length + n_front
    if not isinstance(model, int) and n_tokens > model.config.n_ctx:
        front = " after a beginning-of-sequence token" if n_front else ""
        raise InputError(
            f"{argument}: {length} tokens twice{front} are {n_tokens}, and {model.config.name} reads "
            f"{model.config.n_ctx}; give at most {(model.config.n_ctx - n_front) // 2}"
        )


def drawable(model: TextModel | int) -> Int[Tensor, " token"]:
    """The vocabulary without special tokens. Raises InputError where nothing is left to choose among."""
    special = (
        set() if isinstance(model, int) else {*getattr(model.tokenizer, "all_special_ids", ()), model.config.pad_token}
    )
    size = model if isinstance(model, int) else model.config.d_vocab
    allowed = [token for token in range(size) if token not in special]
    if len(allowed) < 2:
        raise InputError(f"model: expected a vocabulary of at least 2 tokens that are not special, got {len(allowed)}")
    return torch.tensor(allowed)


def _drawer(allowed: Int[Tensor, " token"], n: int, seed: int) -> Callable[[int], Tensor]:
    """A function that draws so many more tokens of each of `n` rows."""
    draw = torch.Generator().manual_seed(seed)
    return lambda n_pos: allowed[torch.randint(0, len(allowed), (n, n_pos), generator=draw)]


def _differing(
    drawn: Int[Tensor, "prompt pos"], taken: Int[Tensor, "prompt pos"], allowed: Int[Tensor, " token"]
) -> Int[Tensor, "prompt pos"]:
    """The rows drawn; those equal to the row taken get the next allowed token as their last one."""
    last = drawn[:, -1].contiguous()
    after = allowed[(torch.searchsorted(allowed, last) + 1) % len(allowed)]
    return torch.cat([drawn[:, :-1], torch.where((drawn == taken).all(1), after, last)[:, None]], dim=1)


def _worded(model: TextModel | int, prompts: Prompts) -> Prompts:
    """The prompts with their tokens' texts, where there is a tokenizer."""
    if isinstance(model, int) or model.tokenizer is None:
        return prompts
    words = tuple(str_tokens(model.tokenizer, row) for row in prompts.tokens)
    return replace(prompts, str_tokens=words, texts=tuple("".join(row) for row in words))
