"""Contrasted prompts for a reference model: tokens, lengths, roles, and answers that the corruption moves."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from tests.oracle.hooks import run
from tests.oracle.models import N_VOCAB

# Where the second name stands, and which positions a corruption changes. The first changed position differs from prompt
# to prompt; it is the last position of one of them.
LENGTHS = {"equal": (6, 6, 6), "unequal": (6, 4, 5)}
_S2 = {"equal": (3, 5, 2), "unequal": (3, 3, 2)}
CORRUPTIONS = ("swap", "ABC")


@dataclass(frozen=True, eq=False)
class Pair:
    """Clean and corrupted prompts, right-padded; both have the same lengths and roles. Equal to itself alone."""

    clean: Int[Tensor, "prompt pos"]
    corrupted: Int[Tensor, "prompt pos"]
    lengths: Int[Tensor, " prompt"]
    roles: Mapping[str, Int[Tensor, " prompt"]]
    answers: Int[Tensor, " prompt"]
    wrong: Int[Tensor, " prompt"]


def pair(hf: PreTrainedModel, lengths: str = "equal", corruption: str = "swap", seed: int = 0) -> Pair:
    """Random prompts; `swap` changes the token at S2 alone, `ABC` every other token from S1 (position 1) to S2.

    `answers` is the token that the corruption takes most logit from at the end, `wrong` the one that gains most.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes, s2 = torch.tensor(LENGTHS[lengths]), torch.tensor(_S2[lengths])
    clean = torch.randint(N_VOCAB, (len(sizes), int(sizes.max())), generator=generator)
    corrupted = clean.clone()
    other = (clean + torch.randint(1, N_VOCAB, clean.shape, generator=generator)) % N_VOCAB
    for row, place in enumerate(s2.tolist()):
        changed = [place] if corruption == "swap" else sorted({place, *range(1, place, 2)})
        corrupted[row, changed] = other[row, changed]
    rows, end = torch.arange(len(sizes)), sizes - 1
    moved = run(hf, clean).logits[rows, end] - run(hf, corrupted).logits[rows, end]
    roles = {"S1": torch.ones_like(s2), "S2": s2, "end": end}
    return Pair(clean, corrupted, sizes, roles, answers=moved.argmax(-1), wrong=moved.argmin(-1))
