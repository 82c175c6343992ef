"""Position against token: six data sets, one fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import unweave as uw
from tests.methods.ioi_model import ioi_model
from unweave.methods.position_token import additive_fit
from unweave.models.run import Edit

KINDS = ["llama", "gpt2", "gpt_neox"]
HEADS = [(0, 1), (1, 2)]
CELLS = {
    ("random", "original"): "ABB->CDD, BAB->DCD",
    ("inverted", "original"): "ABB->BAA, BAB->ABA",
    ("original", "inverted"): "ABB->BAB, BAB->ABB",
    ("random", "inverted"): "ABB->DCD, BAB->CDD",
    ("inverted", "inverted"): "ABB->ABA, BAB->BAA",
}


def asked(kind) -> tuple[uw.Task, uw.Contrast]:
    model = ioi_model(kind)
    task = uw.tasks.ioi(model, 5, seed=2)
    return task, uw.Contrast(model, task.prompts, task.corrupt("ABC"), uw.LogitDiff())


@pytest.mark.parametrize("kind", KINDS)
def test_every_cell_is_a_run_with_the_heads_taken_from_its_data_set(kind):
    task, pair = asked(kind)
    found = uw.heads.position_token(pair, task, HEADS, progress=False)
    assert found["score"].dims == ("prompt", "address", "token_signal", "position_signal")
    assert found.address.values.tolist() == ["all", "0.1", "1.2"]
    rows = torch.arange(5)
    for (token, position), flip in CELLS.items():
        donor = pair.model.run(task.corrupt(flip), keep="z")
        edits = [Edit("z", layer, donor["z", layer][:, :, head], head=head) for layer, head in HEADS]
        for address, made in (("all", edits), ("0.1", edits[:1]), ("1.2", edits[1:])):
            logits = pair.model.run(task.prompts, edits=made).logits_at("end")
            expected = logits[rows, task.prompts.answers] - logits[rows, task.prompts.wrong]
            cell = found["score"].sel(address=address, token_signal=token, position_signal=position)
            np.testing.assert_allclose(cell, expected, atol=1e-9)
            assert float(abs(cell - pair.clean_scores.numpy()).max()) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_prompts_themselves_are_the_first_cell(kind):
    task, pair = asked(kind)
    found = uw.heads.position_token(pair, task, HEADS)
    own = found.sel(token_signal="original", position_signal="original")
    np.testing.assert_array_equal(own["score"], np.repeat(pair.clean_scores.numpy()[:, None], 3, axis=1))
    assert (own["change"].values == 0).all()
    change = (found["score"] - pair.clean_scores.numpy()[:, None, None, None]) / float(pair.clean_scores.mean())
    np.testing.assert_allclose(found["change"], change, atol=1e-12)


def test_the_fit_finds_the_coefficients_that_a_table_was_made_of():
    token, position = torch.tensor([1.0, 0.0, -1.0]).double(), torch.tensor([1.0, -1.0]).double()
    table = 0.5 + 2.25 * position[None, :] + 0.75 * token[:, None]
    coefficients, residual = additive_fit(table)
    np.testing.assert_allclose(coefficients, [0.5, 2.25, 0.75], atol=1e-12)
    np.testing.assert_allclose(residual, 0, atol=1e-12)
    table[0, 1] += 0.6  # an interaction, which no additive model holds
    _, residual = additive_fit(table)
    assert float(residual.abs().max()) > 0.1


def test_the_full_range_is_twice_the_coefficient_and_fits_are_linear_in_the_prompts():
    task, pair = asked("llama")
    found = uw.heads.position_token(pair, task, HEADS)
    doubled = 2 * found["coefficient"].sel(term=["position", "token"])
    np.testing.assert_allclose(found["full_range"], doubled, atol=1e-12)
    mean = torch.tensor(found["score"].mean("prompt").values)
    np.testing.assert_allclose(additive_fit(mean)[0], found["coefficient"].mean("prompt"), atol=1e-12)
    token, position = (torch.tensor(x, dtype=torch.float64) for x in ([1, 0, -1], [1, -1]))
    constant, of_position, of_token = (
        found["coefficient"].sel(term=term).values[..., None, None] for term in ("constant", "position", "token")
    )
    fitted = constant + of_position * position.numpy() + of_token * token.numpy()[:, None]
    np.testing.assert_allclose(found["residual"], found["score"] - fitted, atol=1e-12)


def test_a_head_that_writes_nothing_carries_nothing():
    task, pair = asked("gpt2")
    layer = pair.model.weights.layers[1]
    w_o = layer.w_o.clone()
    w_o[:, 8:12] = 0  # head 2
    layers = (pair.model.weights.layers[0], replace(layer, w_o=w_o), pair.model.weights.layers[2])
    model = replace(pair.model, weights=replace(pair.model.weights, layers=layers))
    pair = uw.Contrast(model, pair.prompts, pair.corrupted, pair.metric)
    found = uw.heads.position_token(pair, task, HEADS)
    assert (found["change"].sel(address="1.2").values == 0).all()
    np.testing.assert_allclose(found["full_range"].sel(address="1.2"), 0, atol=1e-12)
    assert float(abs(found["change"].sel(address="0.1")).max()) > 1e-3


def test_what_cannot_be_asked_is_one_clear_error():
    task, pair = asked("gpt2")
    with pytest.raises(uw.InputError, match=r"0\.1 is named twice"):
        uw.heads.position_token(pair, task, [(0, 1), "0.1"])
    with pytest.raises(uw.InputError, match="heads: expected a list"):
        uw.heads.position_token(pair, task, [])
    with pytest.raises(uw.InputError, match="heads 0 to 3"):
        uw.heads.position_token(pair, task, [(0, 4)])
    with pytest.raises(uw.InputError, match="not the pair's clean prompts"):
        uw.heads.position_token(pair, uw.tasks.ioi(pair.model, 5, seed=3), HEADS)
    plain = replace(task, corruptions=("ABC", "swap"))
    with pytest.raises(uw.InputError, match="no corruption inverted_position, random_token"):
        uw.heads.position_token(pair, plain, HEADS)
