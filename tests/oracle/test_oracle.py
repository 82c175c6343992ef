"""The oracle itself: what must hold of naive patching whatever the model."""

from functools import partial

import pytest
import torch
from transformers import PreTrainedModel

from tests.oracle.hooks import Edit, has_site, run, sites_of
from tests.oracle.models import FAMILIES, instrument, tiny
from tests.oracle.pairs import Pair, pair
from tests.oracle.projection import by_component, by_head, by_neuron, lens
from tests.oracle.sweeps import Patch, effects, index_of, logit_difference, sweep

close = partial(torch.testing.assert_close, rtol=0.0, atol=1e-12)


@pytest.fixture(scope="module", params=FAMILIES)
def hf(request: pytest.FixtureRequest) -> PreTrainedModel:
    return instrument(tiny(request.param))


@pytest.fixture(scope="module")
def swap(hf: PreTrainedModel) -> Pair:
    return pair(hf, "unequal", "swap")


@pytest.mark.parametrize("name", FAMILIES)
def test_instrumented_model_computes_what_the_library_computes(name: str) -> None:
    plain = tiny(name)
    tokens = torch.randint(plain.config.vocab_size, (2, 7), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        # The library falls back to float32 in places, so float32 rounding is what is left between the two.
        close(run(instrument(plain), tokens).logits, plain(tokens).logits, rtol=0, atol=1e-4)


def test_padding_changes_nothing(hf: PreTrainedModel, swap: Pair) -> None:
    padded = run(hf, swap.clean).logits
    for row, length in enumerate(swap.lengths.tolist()):
        alone = run(hf, swap.clean[row : row + 1, :length]).logits
        torch.testing.assert_close(padded[row, :length], alone[0])


def test_blocks_add_up(hf: PreTrainedModel, swap: Pair) -> None:
    sites = run(hf, swap.clean, keep=sites_of(hf)).sites
    for layer in range(hf.config.num_hidden_layers):
        mid = sites["resid_pre", layer] + sites["attn_out", layer]
        if has_site(hf, "resid_mid"):
            close(sites["resid_mid", layer], mid)
        close(sites["resid_post", layer], mid + sites["mlp_out", layer])
        close(sites["pattern", layer], sites["scores", layer].softmax(-1))
        shared = sites["z", layer].shape[2] // sites["v", layer].shape[2]
        v = sites["v", layer].repeat_interleave(shared, dim=2)
        close(sites["z", layer], torch.einsum("phqk,pkhe->pqhe", sites["pattern", layer], v))


def test_an_edit_is_what_the_model_goes_on_with(hf: PreTrainedModel, swap: Pair) -> None:
    for site in sites_of(hf):
        donor = run(hf, swap.clean, keep=[site])
        before = run(hf, swap.corrupted, keep=[site])
        after = run(hf, swap.corrupted, [Edit(site, 0, (slice(None),), donor.sites[site, 0])], keep=[site])
        assert torch.equal(after.sites[site, 0], donor.sites[site, 0]), site
        assert not torch.equal(after.sites[site, 1], before.sites[site, 1]), f"{site} does not reach the next layer"


def test_replacing_a_value_by_itself_changes_nothing(hf: PreTrainedModel, swap: Pair) -> None:
    for site in sites_of(hf):
        plain = run(hf, swap.clean, keep=[site])
        edits = [Edit(site, layer, (slice(None),), value) for (_, layer), value in plain.sites.items()]
        assert torch.equal(run(hf, swap.clean, edits).logits, plain.logits), site


def test_replacing_the_whole_residual_stream_gives_the_donors_logits(hf: PreTrainedModel, swap: Pair) -> None:
    for site in sites_of(hf):
        if site.startswith("resid"):
            donor = run(hf, swap.clean, keep=[site])
            for (_, layer), value in donor.sites.items():
                close(run(hf, swap.corrupted, [Edit(site, layer, (slice(None),), value)]).logits, donor.logits)


def test_no_hook_stays_behind(hf: PreTrainedModel, swap: Pair) -> None:
    def count() -> int:
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in hf.modules())

    before = count()
    broken = Edit("z", 0, (99,), torch.zeros(0))
    with pytest.raises(IndexError):
        run(hf, swap.clean, [broken], keep=sites_of(hf))
    assert count() == before


@pytest.mark.parametrize(("lengths", "corruption"), [("equal", "swap"), ("unequal", "ABC")])
@pytest.mark.parametrize(("direction", "whole"), [("denoise", 1.0), ("noise", -1.0)])
def test_effects_run_from_nothing_to_the_whole_gap(
    hf: PreTrainedModel, lengths: str, corruption: str, direction: str, whole: float
) -> None:
    contrast = pair(hf, lengths, corruption)
    score = logit_difference(contrast)
    clean, corrupted = (score(run(hf, x).logits) for x in (contrast.clean, contrast.corrupted))
    assert (clean - corrupted).mean() > 1  # far above rounding, so that effects are exact to 1e-12
    everything = effects(hf, contrast, [Patch("resid_pre", 0, index_of("resid_pre"))], direction)[:, 0]
    close(everything, whole * (clean - corrupted) / (clean - corrupted).mean())
    by_pos = sweep(hf, contrast, "resid_pre", ("layer", "pos"), direction)
    same = contrast.clean == contrast.corrupted
    inside = torch.arange(same.shape[1]) < contrast.lengths[:, None]
    assert (by_pos[:, 0][same & inside] == 0).all()
    assert (by_pos[:, 0][~same & inside] != 0).all()
    assert by_pos[:, 0][~inside].isnan().all()


def test_roles_are_the_positions_that_they_name(hf: PreTrainedModel, swap: Pair) -> None:
    by_pos = sweep(hf, swap, "z", ("layer", "head", "pos"))
    by_role = sweep(hf, swap, "z", ("layer", "head", "role"))
    for number, places in enumerate(swap.roles.values()):
        for row, place in enumerate(places.tolist()):
            assert torch.equal(by_role[row, ..., number], by_pos[row, ..., place])


def test_all_heads_together_are_the_attention_output(hf: PreTrainedModel, swap: Pair) -> None:
    places = [(Patch("z", 1, index_of("z")),), (Patch("attn_out", 1, index_of("attn_out")),)]
    z, attn_out = effects(hf, swap, places).unbind(1)
    close(z, attn_out)


def test_contributions_add_up_to_the_logit_difference(hf: PreTrainedModel, swap: Pair) -> None:
    total = logit_difference(swap)(run(hf, swap.clean).logits)
    close(torch.stack(list(by_component(hf, swap).values())).sum(0), total)
    last = hf.config.num_hidden_layers - 1
    close(lens(hf, swap)[f"{last}_post"], total)
    assert by_head(hf, swap).shape == (3, last + 1, hf.config.num_attention_heads)
    assert by_neuron(hf, swap).shape == (3, last + 1, 18)
