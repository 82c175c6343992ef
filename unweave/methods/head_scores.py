"""Scores of every head on repeated random tokens: previous-token, duplicate-token and induction attention.

Elhage et al. 2021 ("A Mathematical Framework for Transformer Circuits"), Olsson et al. 2022 (arXiv 2209.11895). A
sequence is n random tokens and the same n again, after a beginning-of-sequence token if the model's prompts have one:
many heads rest on it. The mean attention, with i = 0 … n - 1 counted without that token, is

    duplicate token   from n + i   to i        the same token, before
    induction         from n + i   to i + 1    the token that followed it
    previous token    from i + 1   to i        in the first half, where nothing is repeated yet
"""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from unweave.engine.reading import read_sites
from unweave.errors import InputError
from unweave.methods.to_xarray import weights_to_xarray
from unweave.models.model import Model, check_model
from unweave.models.prompts import Prompts
from unweave.models.run import Key
from unweave.progress import Progress
from unweave.registry import DOES, Method, register
from unweave.tasks.repeated import beginning, check_length, draw_repeated

SCORES_OF_HEADS = register(
    Method(
        "head scores",
        DOES,
        quantity="attention",
        unit="share",
        zero="does not look there",
        one="looks only there",
        picture="unweave.views.head_pictures:score_blocks",
        dims=("prompt", "score", "layer", "head"),
    )
)

SCORES = ("duplicate token", "previous token", "induction")


def head_scores(
    model: Model,
    n_tokens: int = 50,
    n_sequences: int = 50,
    seed: int = 0,
    bos: bool | None = None,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataArray:
    """How much each head attends as a duplicate-token, previous-token or induction head would.

    Args:
        model: any model; its tokenizer, where it has one, says which tokens are special and not drawn.
        n_tokens: length of the half that is repeated.
        n_sequences: sequences drawn.
        seed: of the draws.
        bos: a beginning-of-sequence token in front: None as the tokenizer does it, True, or False.
        memory, progress: as in `patch`.

    Returns:
        Mean attention, 0 to 1, `[prompt, score, layer, head]`, where a prompt is one sequence and `score` is `duplicate
        token`, `previous token` or `induction`.

    Raises:
        InputError: fewer than 2 tokens, no sequence, more tokens than the model reads, or no such token.
    """
    check_model(model)
    config = model.config
    if n_tokens < 2 or n_sequences < 1:
        raise InputError(f"n_tokens, n_sequences: expected at least 2 and 1, got {n_tokens} and {n_sequences}")
    n_front = len(beginning(model, bos))
    check_length("n_tokens", model, n_tokens, n_front)
    tokens = draw_repeated(model, n_sequences, n_tokens, seed, bos).to(model.device)

    def pick(key: Key, value: Tensor, rows: slice) -> Tensor:
        drawn = value[:, :, n_front:, n_front:]
        repeat, first = drawn[:, :, n_tokens:], drawn[:, :, :n_tokens, :n_tokens]
        kinds = (repeat.diagonal(0, 2, 3), first.diagonal(-1, 2, 3), repeat.diagonal(1, 2, 3)[..., :n_tokens])
        return torch.stack([kind.mean(-1) for kind in kinds], dim=1)

    keys = [("pattern", layer) for layer in range(config.n_layers)]
    found = read_sites(model, Prompts.from_tokens(tokens), keys, pick, memory, progress)
    table = torch.stack([found[key] for key in keys], dim=2)
    coords = {
        "prompt": range(n_sequences),
        "score": list(SCORES),
        "layer": range(config.n_layers),
        "head": range(config.n_heads),
    }
    about = {"task": "repeated random tokens", "bos": n_front, "n_tokens": n_tokens, "n_prompts": n_sequences}
    attrs = SCORES_OF_HEADS.attrs(**about, seed=seed)
    return weights_to_xarray(model, table, coords, attrs)
