"""The same model and prompts on both sides: the reference library's, for the oracle, and unweave's."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import xarray as xr
from transformers import PreTrainedModel

import unweave as uw
from tests.oracle.models import instrument, tiny
from tests.oracle.pairs import Pair, pair
from unweave.methods.targets import Over
from unweave.metrics.metric import Metric


@dataclass(frozen=True)
class Both:
    """One question, asked of both sides: `hf` and `pair` for the oracle, `contrast` for unweave."""

    hf: PreTrainedModel
    pair: Pair
    contrast: uw.Contrast


@cache
def both(name: str, lengths: str, corruption: str) -> Both:
    """A tiny model of `FAMILIES` and a pair of prompts, scored by the logit difference at the end."""
    hf, model = models(name)
    asked = pair(hf, lengths, corruption)
    return Both(hf, asked, contrast(model, asked, uw.LogitDiff()))


@cache
def models(name: str) -> tuple[PreTrainedModel, uw.Model]:
    """A tiny model, instrumented for the oracle, and as unweave loads it."""
    hf = tiny(name)
    return instrument(hf), uw.load_model(hf, device="cpu", dtype=torch.float64)


def contrast(model: uw.Model, asked: Pair, metric: Metric) -> uw.Contrast:
    """The pair as unweave's contrast."""
    rows = {"answers": asked.answers, "wrong": asked.wrong, "roles": asked.roles, "lengths": asked.lengths}
    clean, corrupted = (uw.Prompts.from_tokens(x, **rows) for x in (asked.clean, asked.corrupted))
    return uw.Contrast(model, clean, corrupted, metric)


def table(
    asked: uw.Contrast, site: str, over: Over, direction: str = "denoise", memory: int | float | None = None
) -> xr.DataArray:
    """unweave's sweep of one site."""
    return uw.patch(asked, site, over, direction, memory, progress=False)


def tables(asked: uw.Contrast, sites: Sequence[str], over: Over, direction: str = "denoise") -> xr.Dataset:
    """unweave's sweep of several sites, made together."""
    return uw.patch(asked, sites, over, direction, progress=False)
