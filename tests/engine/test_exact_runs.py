"""A run's logits, activations and edits equal those of the reference library's own model, in float64 and float32."""

from functools import partial

import pytest
import torch

import unweave as uw
from tests.oracle.both import Both, both
from tests.oracle.hooks import Edit, Trace, run, sites_of
from tests.oracle.models import FAMILIES, tiny
from tests.oracle.sweeps import index_of
from unweave.models.run import Run

close = partial(torch.testing.assert_close, rtol=0, atol=1e-9)


@pytest.fixture(scope="module", params=FAMILIES)
def side(request: pytest.FixtureRequest) -> Both:
    return both(request.param, "unequal", "ABC")


@pytest.fixture(scope="module")
def donor(side: Both) -> Trace:
    return run(side.hf, side.pair.corrupted, keep=sites_of(side.hf))


def same_logits(side: Both, got: Run, expected: Trace) -> None:
    """Equal at every position of every prompt; beyond a prompt's end stands nothing that counts."""
    for row, length in enumerate(side.pair.lengths.tolist()):
        close(got.logits[row, :length], expected.logits[row, :length])


def test_logits(side: Both) -> None:
    same_logits(side, side.contrast.model.run(side.contrast.prompts), run(side.hf, side.pair.clean))


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_in_float32_equal_the_library_as_it_is(name: str) -> None:
    hf = tiny(name).float()
    tokens = torch.randint(hf.config.vocab_size, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = hf(tokens).logits
    assert expected.abs().max() > 1
    torch.testing.assert_close(uw.load_model(hf, device="cpu").run(tokens).logits, expected, rtol=0, atol=1e-4)


def test_every_activation(side: Both) -> None:
    sites = sites_of(side.hf)
    expected = run(side.hf, side.pair.clean, keep=sites)
    got = side.contrast.model.run(side.contrast.prompts, keep=sites)
    for (site, layer), value in expected.sites.items():
        close(got[site, layer], value)
    close(got["final"] if "final" in sites else got.logits, expected.logits)


def test_edits_of_whole_sites(side: Both, donor: Trace) -> None:
    model, recipient = side.contrast.model, side.contrast.prompts
    for (site, layer), value in donor.sites.items():
        expected = run(side.hf, side.pair.clean, [Edit(site, layer, index_of(site), value)])
        same_logits(side, model.run(recipient, edits=[uw.Edit(site, layer, value)]), expected)


def test_edits_of_heads_positions_and_neurons(side: Both, donor: Trace) -> None:
    model, recipient, s2 = side.contrast.model, side.contrast.prompts, side.pair.roles["S2"]
    rows = torch.arange(len(s2))
    for site in ("q", "z"):
        value = donor.sites[site, 1]
        at_role = run(side.hf, side.pair.clean, [Edit(site, 1, index_of(site, head=2, role=s2), value)])
        same_logits(side, model.run(recipient, edits=[uw.Edit(site, 1, value[rows, s2, 2], 2, s2)]), at_role)
        at_pos = run(side.hf, side.pair.clean, [Edit(site, 1, index_of(site, head=0, pos=2), value)])
        same_logits(side, model.run(recipient, edits=[uw.Edit(site, 1, value[:, 2, 0], 0, 2)]), at_pos)
    for site in ("pattern", "scores"):
        value = donor.sites[site, 0]
        expected = run(side.hf, side.pair.clean, [Edit(site, 0, (slice(None), 1), value)])
        same_logits(side, model.run(recipient, edits=[uw.Edit(site, 0, value[:, 1], head=1)]), expected)
    for site in ("mlp_pre", "mlp_post"):
        value = donor.sites[site, 0]
        expected = run(side.hf, side.pair.clean, [Edit(site, 0, index_of(site, neuron=5), value)])
        same_logits(side, model.run(recipient, edits=[uw.Edit(site, 0, value[..., 5], neuron=5)]), expected)


def test_edits_are_made_together(side: Both, donor: Trace) -> None:
    model, recipient = side.contrast.model, side.contrast.prompts
    places = [("q", 0), ("v", 1), ("z", 0), ("attn_out", 1), ("mlp_out", 0)]
    naive = [Edit(site, layer, index_of(site), donor.sites[site, layer]) for site, layer in places]
    ours = [uw.Edit(site, layer, donor.sites[site, layer]) for site, layer in places]
    expected = run(side.hf, side.pair.clean, naive)
    same_logits(side, model.run(recipient, edits=ours), expected)
    assert not torch.equal(expected.logits, run(side.hf, side.pair.clean, naive[:-1]).logits)


def test_an_edit_leaves_the_next_run_alone(side: Both, donor: Trace) -> None:
    model, recipient = side.contrast.model, side.contrast.prompts
    before = model.run(recipient).logits
    value = donor.sites["resid_pre", 1]
    kept = value.clone()
    model.run(recipient, edits=[uw.Edit("resid_pre", 1, value)])
    assert torch.equal(model.run(recipient).logits, before)
    assert torch.equal(value, kept)
