"""What the classifier answers, and what differs inside it between a pair of values that match and one that does not.

Answers: on sequences of both classes, and by the number of wrong pairs. Inside: at each position of the second half in
turn, that value of each palindrome is replaced by another. Then, at that position, with and without the change:

1. how much each head looks from there at the mirror image;
2. how much each head looks from END at that position;
3. what a sender's output there says of the answer, after a later receiver's OV circuit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from unweave.methods.attribution_through import THROUGH_HEAD, attribution_through
from unweave.methods.blind_spots import changed, class_probability
from unweave.methods.to_xarray import run_to_xarray
from unweave.models.prompts import Prompts
from unweave.nodes import Head, head_name
from unweave.registry import LOOKS, TASK, Method, register
from unweave.studies.palindrome.sequences import OUTPUTS, PALINDROME, SWEPT, PalindromeSubject

_SHARE: dict[str, Any] = {"unit": "share", "zero": "does not look there", "one": "looks only there"}
CLASSIFICATION = register(Method("classification", TASK))
TO_MIRROR = register(Method("attention to the mirror image", LOOKS, quantity="attention", **_SHARE))
FROM_END = register(Method("attention from END", LOOKS, quantity="attention", **_SHARE))

MATCHES, DIFFERS = "the pair matches", "the pair differs"
Pair = tuple[Head, Head]
# What is read of a run: from the prompts and the position of the second half.
Read = Callable[[Prompts, int], Float[Tensor, "prompt address"]]


def right(subject: PalindromeSubject) -> xr.DataArray:
    """1 where the model is right, else 0, `[prompt]`, with the class (`answer`), the probability of a palindrome, and
    the number of pairs that do not match.
    """
    model, prompts = subject.model, subject.task.prompts
    logits, answers = model.run(prompts).logits_at(), prompts.answers
    assert answers is not None
    correct = (logits.argmax(-1).cpu() == answers.cpu()).to(torch.float64)
    extra = {
        "answer": (("prompt",), answers.tolist()),
        "probability": (("prompt",), logits.softmax(-1)[:, PALINDROME].cpu().numpy()),
        "mismatches": (("prompt",), mismatched_pairs(prompts.tokens).tolist()),
    }
    return run_to_xarray(model, prompts, correct, {}, _attrs("share right", "wrong", "right"), extra)


def by_mismatches(subject: PalindromeSubject) -> xr.DataArray:
    """1 where a palindrome with so many wrong values in its second half is called a palindrome, `[prompt, pairs]`."""
    prompts, half = subject.matched.prompts, subject.half_length
    draw = torch.Generator().manual_seed(subject.seed)
    order = torch.rand(len(prompts), half, generator=draw).argsort(1) + half + 1
    called = []
    for pairs in range(half + 1):
        tokens = prompts.tokens.clone()
        places = order[:, :pairs]
        tokens.scatter_(1, places, subject.others.gather(1, places))
        called.append((class_probability(subject.model, tokens, PALINDROME) > 0.5).to(torch.float64))
    attrs = _attrs("share called a palindrome", "none is called a palindrome", "all are")
    return run_to_xarray(subject.model, prompts, torch.stack(called, 1), {"pairs": range(half + 1)}, attrs)


def mismatched_pairs(tokens: Int[Tensor, "prompt pos"]) -> Int[Tensor, " prompt"]:
    """How many values of the second half differ from their mirror image."""
    values = tokens[:, 1:-1]
    return (values != values.flip(1)).sum(1) // 2


def _attrs(quantity: str, zero: str, one: str) -> dict[str, str | int | float]:
    return CLASSIFICATION.attrs(quantity=quantity, unit="share", zero=zero, one=one)


def mirror_attention(subject: PalindromeSubject) -> xr.DataArray:
    """Attention from a position to its mirror image, `[prompt, address, case, pos]`."""

    def read(prompts: Prompts, pos: int) -> Float[Tensor, "prompt address"]:
        run = subject.model.run(prompts, keep="pattern")
        return torch.cat([pattern[:, :, pos, subject.mirror(pos)] for pattern in run["pattern"]], 1)

    return _both_cases(subject, read, list(map(head_name, subject.heads)), TO_MIRROR.attrs())


def end_attention(subject: PalindromeSubject) -> xr.DataArray:
    """Attention from END to a position, `[prompt, address, case, pos]`."""

    def read(prompts: Prompts, pos: int) -> Float[Tensor, "prompt address"]:
        run = subject.model.run(prompts, keep="pattern")
        return torch.cat([pattern[:, :, -1, pos] for pattern in run["pattern"]], 1)

    return _both_cases(subject, read, list(map(head_name, subject.heads)), FROM_END.attrs())


def said_through(subject: PalindromeSubject, pairs: Sequence[Pair]) -> xr.DataArray:
    """What senders' outputs at a position say for a palindrome after receivers, `[prompt, address, case, pos]`."""

    def read(prompts: Prompts, pos: int) -> Float[Tensor, "prompt address"]:
        rows = [attribution_through(subject.model, prompts, *pair, outputs=OUTPUTS) for pair in pairs]
        return torch.stack([torch.from_numpy(row.sel(pos=pos).values) for row in rows], 1)

    attrs = THROUGH_HEAD.attrs(one="one logit for a palindrome")
    return _both_cases(subject, read, [pair_name(pair) for pair in pairs], attrs)


def pair_name(pair: Pair) -> str:
    """`0.0 → 1.1`"""
    return " → ".join(map(head_name, pair))


def _both_cases(subject: PalindromeSubject, read: Read, names: Sequence[str], attrs: dict[str, Any]) -> xr.DataArray:
    rows = range(min(subject.count(SWEPT), len(subject.matched.prompts)))
    prompts, others = subject.matched.prompts.take(rows), subject.others[list(rows)]
    same = [read(prompts, pos) for pos in subject.second_half]
    broken = [read(changed(prompts, [pos], others), pos) for pos in subject.second_half]
    values = torch.stack([torch.stack(same, -1), torch.stack(broken, -1)], 2)
    axes = {"address": list(names), "case": [MATCHES, DIFFERS], "pos": list(subject.second_half)}
    found = run_to_xarray(subject.model, prompts, values, axes, {**attrs, "notes": ""})
    return found.drop_vars("token")  # every prompt has another one there
