"""What the model answers: on sequences of both classes, and by the number of wrong pairs."""

import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from unweave.methods.blind_spots import class_probability
from unweave.methods.to_xarray import run_to_xarray
from unweave.studies.palindrome.subject import PALINDROME, PalindromeSubject


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
    draw = torch.Generator().manual_seed(subject.settings.seed)
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
    return {"method": "classification", "quantity": quantity, "unit": "share", "zero": zero, "one": one}
