"""Every knockout equals the naive oracle: one whole forward pass of the reference model, in float64, values by hand."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

import unweave as uw
from tests.oracle.both import Both, both
from tests.oracle.hooks import Edit, n_heads, run
from tests.oracle.models import FAMILIES
from tests.oracle.sweeps import logit_difference, unpatched

TOLERANCE = 1e-9
HEADS = ("z", "q", "k", "v", "pattern")
WHOLE = ("attn_out", "mlp_out")
PLACES = (None, "S2", ["S1", "end"])
HOWS = ("zero", "mean", "resample")
# Every way in one family, and one way in each of the others.
CASES = [(next(iter(FAMILIES)), how) for how in HOWS]
CASES += [(name, HOWS[number % 3]) for number, name in enumerate(FAMILIES) if number]


def values(side: Both, site: str, how: str) -> list[Tensor]:
    """What replaces z, of every layer: zeros, the corrupted prompts' mean by position, or their run."""
    asked = side.pair
    clean, other = (trace.sites for trace in unpatched(side.hf, asked))
    layers = range(side.hf.config.num_hidden_layers)
    if how == "resample":
        return [other[site, n] for n in layers]
    if how == "zero":
        return [torch.zeros_like(clean[site, n]) for n in layers]
    return [mean_by_position(other[site, n], asked.lengths, site) for n in layers]


def mean_by_position(kept: Tensor, lengths: Tensor, site: str) -> Tensor:
    """Position by position, prompt by prompt: over the prompts that are so long."""
    out = torch.zeros_like(kept)
    for pos in range(int(lengths.max())):
        index = (slice(None), slice(None), pos) if site == "pattern" else (slice(None), pos)
        out[index] = kept[index][lengths > pos].mean(0)
    return out


def edits(side: Both, site: str, layer: int, head: int | None, at: object, donor: Tensor) -> list[Edit]:
    """One edit, or one for each role."""
    roles: list = [None] if at is None else [at] if isinstance(at, str) else list(at)  # type: ignore[call-overload]
    part = slice(None) if head is None else head
    made = []
    for role in roles:
        rows = slice(None) if role is None else torch.arange(len(side.pair.lengths))
        pos = slice(None) if role is None else side.pair.roles[role]
        with_head = (rows, part, pos) if site == "pattern" else (rows, pos, part)
        made.append(Edit(site, layer, (rows, pos) if site in WHOLE else with_head, donor))
    return made


def change(side: Both, made: list[Edit]) -> np.ndarray:
    """Of the logit difference, over the gap of the baselines."""
    asked, score = side.pair, logit_difference(side.pair)
    clean, spoiled = (score(trace.logits) for trace in unpatched(side.hf, asked))
    return ((score(run(side.hf, asked.clean, made).logits) - clean) / (clean.mean() - spoiled.mean())).numpy()


@pytest.mark.parametrize(("name", "how"), CASES)
def test_every_head_in_turn(name: str, how: str) -> None:
    side = both(name, "unequal", "ABC")
    for site, at in product(HEADS, (None, ["S1", "end"])):
        got = uw.knockout(side.contrast, site, how, at, progress=False)
        donors = values(side, site, how)
        expected = [
            [change(side, edits(side, site, layer, head, at, donor)) for head in range(n_heads(side.hf, site))]
            for layer, donor in enumerate(donors)
        ]
        np.testing.assert_allclose(got.values, np.moveaxis(np.array(expected), 2, 0), rtol=0, atol=TOLERANCE)
        assert np.abs(got.values).max() > 1e-3


@pytest.mark.parametrize(("name", "how"), CASES)
def test_mlps_attention_and_whole_layers(name: str, how: str) -> None:
    side = both(name, "unequal", "ABC")
    donors = {site: values(side, site, how) for site in WHOLE}
    for kind, at in product(("attn_out", "mlp", "layer"), ("S2", ["S1", "end"])):
        sites = {"mlp": ("mlp_out",), "layer": WHOLE}.get(kind, (kind,))
        got = uw.knockout(side.contrast, kind, how, at, progress=False)
        expected = [
            change(side, [edit for site in sites for edit in edits(side, site, n, None, at, donors[site][n])])
            for n in range(side.hf.config.num_hidden_layers)
        ]
        np.testing.assert_allclose(got.values, np.array(expected).T, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "how"), CASES)
@pytest.mark.parametrize("at", PLACES)
def test_several_at_once_and_the_same_one_by_one(name: str, how: str, at: object) -> None:
    side = both(name, "unequal", "ABC")
    places = [("z", 0, 1), ("q", 1, 2), ("v", 1, 0), ("mlp_out", 0, None), ("z", 1, 0)]
    names = ["z 0.1", "q 1.2", "v 1.0", "mlp 0", (1, 0)]
    donors = {site: values(side, site, how) for site in ("z", "q", "v", "mlp_out")}
    each = [edits(side, site, layer, head, at, donors[site][layer]) for site, layer, head in places]
    together = uw.knockout(side.contrast, names, how, at, joint=True, progress=False)  # type: ignore[arg-type]
    expected = change(side, [edit for made in each for edit in made])
    np.testing.assert_allclose(together.values[:, 0], expected, rtol=0, atol=TOLERANCE)
    single = uw.knockout(side.contrast, names, how, at, progress=False)  # type: ignore[arg-type]
    np.testing.assert_allclose(single.values.T, [change(side, made) for made in each], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", FAMILIES)
def test_means_by_template(name: str) -> None:
    side = both(name, "equal", "ABC")
    groups = torch.tensor([4, 7, 4])
    asked = uw.Contrast(
        side.contrast.model,
        replace(side.contrast.prompts, groups=groups),
        replace(side.contrast.corrupted, groups=groups),
        side.contrast.metric,
    )
    got = uw.knockout(asked, "z", uw.Replacement("template", lone="keep"), progress=False)
    expected = []
    for layer, donor in enumerate(values(side, "z", "resample")):
        both_of_4 = donor[[0, 2]].mean(0)
        by_template = torch.stack([both_of_4, donor[1], both_of_4])
        heads = range(n_heads(side.hf, "z"))
        expected.append([change(side, edits(side, "z", layer, head, None, by_template)) for head in heads])
    np.testing.assert_allclose(got.values, np.moveaxis(np.array(expected), 2, 0), rtol=0, atol=TOLERANCE)
