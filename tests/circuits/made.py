"""Tiny pairs with templates, and a circuit on them."""

from dataclasses import replace

import torch

from tests.tiny import D_VOCAB, Kind, tiny_model
from unweave.circuits.circuit import Circuit, Group
from unweave.metrics import LogitDiff
from unweave.metrics.contrast import Contrast
from unweave.models.prompts import Prompts

TEMPLATES = (0, 1, 0, 1, 0)
LENGTHS = (7, 5, 7, 5, 7)
CIRCUIT = Circuit(
    groups=(
        Group("mover", ((2, 0), (1, 3), (2, 2)), ("end",)),
        Group("middle", ((0, 1), (1, 2)), ("S2", "S1")),
        Group("everywhere", ((0, 3),)),
    ),
    task="made up",
)


def made_prompts(seed: int) -> Prompts:
    """Five prompts of two templates, of 7 and 5 tokens; `S2` stands elsewhere in every prompt."""
    tokens = torch.randint(0, D_VOCAB, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(seed))
    prompts = Prompts.from_tokens(
        tokens,
        answers=[1, 2, 3, 4, 5],
        wrong=[6, 7, 8, 9, 10],
        roles={"S1": [1, 1, 0, 2, 1], "S2": [4, 2, 3, 3, 5]},
        lengths=LENGTHS,
    )
    return replace(prompts, groups=torch.tensor(TEMPLATES))


def made_pair(kind: Kind = "llama", templates: bool = True) -> Contrast:
    """A contrast of two sets of them."""
    clean, corrupted = made_prompts(11), made_prompts(12)
    if not templates:
        clean, corrupted = replace(clean, groups=None), replace(corrupted, groups=None)
    return Contrast(tiny_model(kind), clean, corrupted, LogitDiff())


def of_template(templates: bool = True) -> dict[int, list[int]]:
    """Of each prompt, the reference prompts whose mean replaces a head."""
    rows = range(len(TEMPLATES))
    if not templates:
        return {row: list(rows) for row in rows}
    return {row: [other for other in rows if TEMPLATES[other] == TEMPLATES[row]] for row in rows}
