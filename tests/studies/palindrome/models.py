"""Classifiers for the study: a tiny random one, and the trained one with its heads in another order."""

from dataclasses import replace

import torch
from einops import rearrange

import unweave as uw
from tests.small import random_model
from unweave.models.weights import LayerWeights
from unweave.studies.palindrome.sequences import PalindromeSubject
from unweave.studies.plan import Settings
from unweave.tasks.palindromes import sizes_of

TINY = uw.small_config(d_model=8, d_head=4, d_vocab=8, n_ctx=8, d_vocab_out=2, name="tiny")


def tiny_subject(**options: object) -> PalindromeSubject:
    """Six values of 0 to 5, in float64."""
    settings = Settings(**{"prompts": 20, "quick": True, "anyway": True, **options})  # type: ignore[arg-type]
    return PalindromeSubject(settings, random_model(TINY), *sizes_of(TINY))


def trained_subject(model: uw.Model | None = None, **options: object) -> PalindromeSubject:
    """The classifier that comes with the package, or another of its shape."""
    settings = Settings(**{"prompts": 60, "quick": True, **options})  # type: ignore[arg-type]
    model = model or uw.load_model("palindrome")
    return PalindromeSubject(settings, model, *sizes_of(model.config))


def swapped(model: uw.Model) -> uw.Model:
    """The same function, with the two heads of every layer in each other's place."""
    layers = tuple(_swapped(layer) for layer in model.weights.layers)
    return uw.Model(model.config, replace(model.weights, layers=layers))


def _swapped(layer: LayerWeights) -> LayerWeights:
    def rows(part: torch.Tensor) -> torch.Tensor:
        return rearrange(
            rearrange(part, "(part head e) ... -> part head e ...", part=3, head=2).flip(1), "a b c ... -> (a b c) ..."
        )

    bias = None if layer.b_qkv is None else rows(layer.b_qkv)
    w_o = rearrange(rearrange(layer.w_o, "d (head e) -> d head e", head=2).flip(1), "d head e -> d (head e)")
    return replace(layer, w_qkv=rows(layer.w_qkv), b_qkv=bias, w_o=w_o)
