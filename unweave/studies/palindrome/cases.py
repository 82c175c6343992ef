"""A pair of values that match, against the same pair when one of them is changed: what differs inside the model.

At each position of the second half in turn, that value of each palindrome is replaced by another. Then, at that
position, on the palindromes and on the changed sequences:

1. how much each head looks from there at the mirror image;
2. how much each head looks from END at that position;
3. what a sender's output there says of the answer, behind a later receiver's OV circuit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from unweave.methods.attribution_through import THROUGH_HEAD, attribution_through
from unweave.methods.blind_spots import changed
from unweave.methods.to_xarray import run_to_xarray
from unweave.methods.weights.head_matrices import chosen_heads
from unweave.models.prompts import Prompts
from unweave.nodes import head_name
from unweave.registry import Method, register
from unweave.studies.palindrome.subject import SWEPT, PalindromeSubject
from unweave.studies.palindrome.weights import OUTPUTS, Pair, pair_name

_SHARE: dict[str, Any] = {"unit": "share", "zero": "does not look there", "one": "looks only there"}
TO_MIRROR = register(Method("attention to the mirror image", quantity="attention", **_SHARE))
FROM_END = register(Method("attention from END", quantity="attention", **_SHARE))

MATCHES, DIFFERS = "the pair matches", "the pair differs"
# What is read of a run: from the prompts and the position of the second half.
Read = Callable[[Prompts, int], Float[Tensor, "prompt address"]]


def mirror_attention(subject: PalindromeSubject) -> xr.DataArray:
    """Attention from a position to its mirror image, `[prompt, address, case, pos]`."""

    def read(prompts: Prompts, pos: int) -> Float[Tensor, "prompt address"]:
        run = subject.model.run(prompts, keep="pattern")
        return torch.cat([pattern[:, :, pos, subject.mirror(pos)] for pattern in run["pattern"]], 1)

    return _both_cases(subject, read, _heads(subject), TO_MIRROR.attrs())


def end_attention(subject: PalindromeSubject) -> xr.DataArray:
    """Attention from END to a position, `[prompt, address, case, pos]`."""

    def read(prompts: Prompts, pos: int) -> Float[Tensor, "prompt address"]:
        run = subject.model.run(prompts, keep="pattern")
        return torch.cat([pattern[:, :, -1, pos] for pattern in run["pattern"]], 1)

    return _both_cases(subject, read, _heads(subject), FROM_END.attrs())


def said_through(subject: PalindromeSubject, pairs: Sequence[Pair]) -> xr.DataArray:
    """What senders' outputs at a position say for a palindrome behind receivers, `[prompt, address, case, pos]`."""

    def read(prompts: Prompts, pos: int) -> Float[Tensor, "prompt address"]:
        rows = [attribution_through(subject.model, prompts, *pair, outputs=OUTPUTS) for pair in pairs]
        return torch.stack([torch.from_numpy(row.sel(pos=pos).values) for row in rows], 1)

    attrs = THROUGH_HEAD.attrs(one="one logit for a palindrome")
    return _both_cases(subject, read, [pair_name(pair) for pair in pairs], attrs)


def _both_cases(subject: PalindromeSubject, read: Read, names: Sequence[str], attrs: dict[str, str]) -> xr.DataArray:
    rows = range(min(subject.settings.count(SWEPT), len(subject.matched.prompts)))
    prompts, others = subject.matched.prompts.take(rows), subject.others[list(rows)]
    same = [read(prompts, pos) for pos in subject.second_half]
    broken = [read(changed(prompts, [pos], others), pos) for pos in subject.second_half]
    values = torch.stack([torch.stack(same, -1), torch.stack(broken, -1)], 2)
    axes = {"address": list(names), "case": [MATCHES, DIFFERS], "pos": list(subject.second_half)}
    found = run_to_xarray(subject.model, prompts, values, axes, {**attrs, "notes": ""})
    return found.drop_vars("token")  # every prompt has another one there


def _heads(subject: PalindromeSubject) -> list[str]:
    return [head_name(head) for head in chosen_heads(subject.model, None)]
