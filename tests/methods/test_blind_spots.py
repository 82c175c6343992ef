"""Single changes that a model does not notice, on a model whose blind spot is known: it reads one position."""

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.tiny import D_VOCAB, tiny_model
from unweave.methods.blind_spots import changed


def sample() -> tuple[uw.Model, uw.Prompts, int]:
    """A model, prompts that end alike, and the output that it gives to most."""
    model, draw = tiny_model("gpt2"), torch.Generator().manual_seed(0)
    tokens = torch.randint(0, D_VOCAB, (30, 6), generator=draw)
    label = int(model.run(tokens).logits_at().argmax(-1).mode().values)
    return model, uw.Prompts.from_tokens(tokens), label


def test_other_tokens_are_others_and_seeded() -> None:
    tokens = torch.arange(23).repeat(50, 1)
    other = uw.classifier.other_tokens(tokens, 20, seed=3)
    assert not (other == tokens)[:, :20].any()
    assert torch.equal(other[:, 20:], tokens[:, 20:])
    assert int(other[:, :20].min()) == 0
    assert int(other[:, :20].max()) == 19
    assert torch.equal(other, uw.classifier.other_tokens(tokens, 20, seed=3))
    assert not torch.equal(other, uw.classifier.other_tokens(tokens, 20, seed=4))
    with pytest.raises(uw.InputError, match="at least 2"):
        uw.classifier.other_tokens(tokens, 1)


def test_a_change_is_missed_where_the_output_stays() -> None:
    model, prompts, label = sample()
    other = uw.classifier.other_tokens(prompts.tokens, D_VOCAB)
    found = uw.classifier.blind_spots(model, prompts, label, other, [1, 5], progress=False)
    assert found.pos.values.tolist() == [1, 5]
    for column, place in enumerate((1, 5)):
        for row in range(30):
            tokens = prompts.tokens[row : row + 1].clone()
            tokens[0, place] = other[row, place]
            assert float(found[row, column]) == float(model.run(tokens).logits_at().argmax() == label)
    assert 0 < float(found.mean()) < 1
    np.testing.assert_array_equal(found.unchanged, (model.run(prompts).logits_at().argmax(-1) == label).numpy())


def test_no_change_is_no_test() -> None:
    model, prompts, label = sample()
    other = uw.classifier.other_tokens(prompts.tokens, D_VOCAB)
    other[:10, 2] = prompts.tokens[:10, 2]
    found = uw.classifier.blind_spots(model, prompts, label, other, [2], progress=False)
    assert bool(found[:10].isnull().all())
    assert bool(found[10:].notnull().all())


def test_adversarial_prompts_are_run_again() -> None:
    model, prompts, label = sample()
    other = uw.classifier.other_tokens(prompts.tokens, D_VOCAB)
    found = uw.classifier.adversarial_prompts(model, prompts, label, other, [0, 2], n=3)
    assert found.positions == (0, 2)
    assert found.tried == 30
    assert bool((model.run(found.prompts.tokens).logits_at().argmax(-1) == label).all())
    torch.testing.assert_close(uw.classifier.class_probability(model, found.prompts, label), found.probability)
    assert found.probability.tolist() == sorted(found.probability.tolist(), reverse=True)
    made = changed(prompts, [0, 2], other)
    rows = {tuple(row) for row in made.tokens.tolist()}
    assert all(tuple(row) in rows for row in found.prompts.tokens.tolist())
    assert torch.equal(made.tokens[:, [1, 3, 4, 5]], prompts.tokens[:, [1, 3, 4, 5]])
    assert made.texts[0] == " ".join(map(str, made.tokens[0].tolist()))


def test_bad_input_is_one_clear_error() -> None:
    model, prompts, label = sample()
    other = uw.classifier.other_tokens(prompts.tokens, D_VOCAB)
    with pytest.raises(uw.InputError, match="positions: expected different positions of 0 to 5"):
        uw.classifier.blind_spots(model, prompts, label, other, [6])
    with pytest.raises(uw.InputError, match="replacements: expected one for each token"):
        uw.classifier.blind_spots(model, prompts, label, other[:, :3])
    with pytest.raises(uw.InputError, match="outputs 0 to 22"):
        uw.classifier.blind_spots(model, prompts, 23, other)
    never = int(model.run(changed(prompts, [0], other)).logits_at().sum(0).argmin())
    with pytest.raises(uw.InputError, match="to none of 30 prompts"):
        uw.classifier.adversarial_prompts(model, prompts, never, other, [0])


def test_ctrl_c_keeps_the_positions_that_were_done() -> None:
    model, prompts, label = sample()

    def stop(done: float, total: float) -> None:
        raise KeyboardInterrupt

    other = uw.classifier.other_tokens(prompts.tokens, D_VOCAB)
    with pytest.raises(uw.Interrupted) as caught:
        uw.classifier.blind_spots(model, prompts, label, other, progress=stop)
    partial = caught.value.partial
    assert isinstance(partial, xr.DataArray)
    assert bool(partial[:, 0].notnull().all())
    assert bool(partial[:, 1:].isnull().all())
