"""The training loop against an independent one, and what it promises: the same weights again, stopped or not."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import unweave as uw
from tests.models.training.lessons import CONFIG, RECIPE, lessons, stop_after
from unweave.models.forward import forward, unembed
from unweave.models.training.examples import UNLABELLED, answers
from unweave.models.training.initial import initial_weights
from unweave.models.training.loop import Training


def assert_same(one: uw.Model, other: uw.Model) -> None:
    """Equal to the bit, in every tensor."""
    theirs = other.weights.named()
    for name, tensor in one.weights.named().items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.fixture(scope="module")
def trained() -> Training:
    return uw.training.train(CONFIG, lessons(), RECIPE)


def test_training_is_that_of_a_loop_written_out(trained):
    """Adam by its equations, gradients of the model's public forward pass, batches cut by hand."""
    data, draw = lessons(), torch.Generator().manual_seed(RECIPE.seed)
    weights = initial_weights(CONFIG, draw).map(lambda tensor: tensor.requires_grad_())
    tensors = list(weights.named().values())
    first, second = [torch.zeros_like(t) for t in tensors], [torch.zeros_like(t) for t in tensors]
    step = 0
    for _ in range(RECIPE.epochs):
        order = torch.randperm(240, generator=draw)
        for start in range(0, 240, RECIPE.batch):
            rows = order[start : start + RECIPE.batch]
            logits = unembed(weights, forward(CONFIG, weights, data.examples.tokens[rows])[:, -1])
            gradients = torch.autograd.grad(F.cross_entropy(logits, data.examples.labels[rows]), tensors)
            step += 1
            with torch.no_grad():
                for tensor, m, v, g in zip(tensors, first, second, gradients, strict=True):
                    m.mul_(0.9).add_(0.1 * g)
                    v.mul_(0.999).add_(0.001 * g * g)
                    tensor -= RECIPE.lr * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    for name, tensor in trained.model.weights.named().items():
        expected = weights.named()[name].detach()
        if name.endswith("b_qkv"):  # softmax does not see key biases: their gradients are rounding, magnified by Adam
            expected[8:16] = tensor[8:16]
        torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_the_history_is_what_the_models_do(trained):
    assert [row.epoch for row in trained.history] == [0, 1, 2, 3]
    assert trained.finished
    data = lessons().held_out
    logits = trained.model.run(data.tokens).logits[:, -1]
    last = trained.history[-1]
    assert last.accuracy == trained.accuracy == pytest.approx((logits.argmax(-1) == data.labels).float().mean().item())
    assert last.held_out_loss == pytest.approx(F.cross_entropy(logits, data.labels).item(), abs=1e-6)
    assert trained.history[0].loss is None
    losses = [row.loss for row in trained.history[1:]]
    assert losses == sorted(losses, reverse=True)
    assert not any(tensor.requires_grad for tensor in trained.model.weights.named().values())


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_ones(trained):
    assert_same(trained.model, uw.training.train(CONFIG, lessons(), RECIPE).model)
    other = uw.training.train(CONFIG, lessons(), replace(RECIPE, seed=8))
    assert not torch.equal(other.model.weights.w_e, trained.model.weights.w_e)


def test_gradients_are_followed_where_the_caller_has_switched_them_off(trained):
    with torch.no_grad():
        assert_same(trained.model, uw.training.train(CONFIG, lessons(), RECIPE).model)


@pytest.mark.parametrize("steps", [1, 8, 13, 23])
def test_stopped_and_resumed_gives_the_same_bits(trained, tmp_path, steps):
    """240 examples make 8 batches: in the first epoch, before its test, in the second, in the last."""
    n_done = (steps - 1) // 8
    with pytest.raises(uw.Interrupted, match=f"{n_done} of 3 epochs") as stopped:
        uw.training.train(CONFIG, lessons(), RECIPE, tmp_path, progress=stop_after(steps))
    done = stopped.value.partial
    assert isinstance(done, Training)
    assert done.history == trained.history[: n_done + 1]
    resumed = uw.training.train(CONFIG, lessons(), RECIPE, tmp_path, resume=True, progress=False)
    assert resumed.history == trained.history
    assert_same(resumed.model, trained.model)
    assert_same(uw.load_model(tmp_path, device="cpu"), trained.model)


def test_stopped_twice_and_resumed_gives_the_same_bits(trained, tmp_path):
    for resume, steps in ((False, 9), (True, 18)):
        with pytest.raises(uw.Interrupted):
            uw.training.train(CONFIG, lessons(), RECIPE, tmp_path, resume, stop_after(steps))
    assert_same(uw.training.train(CONFIG, lessons(), RECIPE, tmp_path, resume=True).model, trained.model)


def test_without_the_generators_state_the_bits_differ(trained, tmp_path):
    """The negative control of the tests above."""
    with pytest.raises(uw.Interrupted):
        uw.training.train(CONFIG, lessons(), RECIPE, tmp_path, progress=stop_after(9))
    state = load_file(tmp_path / "state.safetensors")
    state["generator"] = torch.Generator().manual_seed(0).get_state()
    save_file(state, tmp_path / "state.safetensors")
    other = uw.training.train(CONFIG, lessons(), RECIPE, tmp_path, resume=True)
    assert other.history[:2] == trained.history[:2]
    assert not torch.equal(other.model.weights.w_e, trained.model.weights.w_e)


def test_stopped_without_a_folder_leaves_the_model_in_the_exception():
    with pytest.raises(uw.Interrupted, match="1 of 3 epochs are done, and not on disk") as stopped:
        uw.training.train(CONFIG, lessons(), RECIPE, progress=stop_after(12))
    done = stopped.value.partial
    assert isinstance(done, Training)
    assert done.history[-1].epoch == 1
    assert not done.finished


def test_labels_at_every_position_and_none_where_there_is_none():
    """The token before is the label: one layer with positions learns it, and the unlabelled first one is not asked."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 6, (600, 5), generator=draw)
    labels = torch.cat([torch.full((600, 1), UNLABELLED), tokens[:, :-1]], dim=1)
    config = uw.small_config(1, 1, d_model=16, d_head=8, d_vocab=6, n_ctx=5)
    data = uw.training.TrainingData(
        uw.training.Examples(tokens[:500], labels[:500]), uw.training.Examples(tokens[500:], labels[500:])
    )
    trained = uw.training.train(config, data, uw.training.Recipe(epochs=12, batch=50, lr=1e-2, seed=0))
    assert trained.history[0].accuracy < 0.4
    assert trained.accuracy > 0.99


def test_the_class_can_be_read_at_another_place_in_every_row():
    data = lessons()
    at = torch.randint(0, 8, (240,), generator=torch.Generator().manual_seed(0))
    examples = replace(data.examples, at=at)
    logits, labels = answers(CONFIG, initial_weights(CONFIG, torch.Generator()), examples)
    run = uw.Model(CONFIG, initial_weights(CONFIG, torch.Generator())).run(data.examples.tokens)
    everywhere = run.logits  # products of another shape are rounded differently on some processors
    torch.testing.assert_close(logits, everywhere[torch.arange(240), at], rtol=0, atol=1e-5)
    assert float((logits - everywhere[:, 0]).abs().max()) > 1e-2
    assert torch.equal(labels, data.examples.labels)


def test_padding_is_not_read_where_attention_sees_both_ways():
    """Rows of five tokens; what stands behind them changes neither logits nor gradients."""
    config, data = replace(CONFIG, causal=False), lessons()
    weights = initial_weights(config, torch.Generator().manual_seed(0))
    short = replace(data.examples, lengths=torch.full((240,), 5), at=4)
    tokens = data.examples.tokens.clone()
    tokens[:, 5:] = 0
    for lengths, same in ((short.lengths, True), (None, False)):
        logits, _ = answers(config, weights, replace(short, lengths=lengths))
        padded, _ = answers(config, weights, replace(short, tokens=tokens, lengths=lengths))
        assert torch.equal(logits, padded) == same


@pytest.mark.parametrize("kind", ["rotary", "rms", "bidirectional", "gated", "tied"])
def test_any_small_config_trains_saves_and_loads(tmp_path, kind):
    changes = {
        "rotary": {"positions": "rotary", "rotary_dim": 4},
        "rms": {"norm": "rms", "d_mlp": 12, "activation": "gelu"},
        "bidirectional": {"causal": False, "pad_token": 3, "norm": "none"},
        "gated": {"d_mlp": 12, "gated_mlp": True, "activation": "silu"},
        "tied": {"tied_unembed": True, "d_vocab_out": 8},
    }[kind]
    trained = uw.training.train(replace(CONFIG, **changes), lessons(), replace(RECIPE, epochs=1), tmp_path)
    assert trained.history[1].held_out_loss < trained.history[0].held_out_loss
    loaded = uw.load_model(tmp_path, device="cpu")
    tokens = lessons().held_out.tokens
    torch.testing.assert_close(loaded.run(tokens).logits, trained.model.run(tokens).logits, rtol=0, atol=1e-6)


def test_a_loss_that_is_no_number_says_which_rate_was_too_large():
    with pytest.raises(uw.InputError, match=r"lr: .* smaller learning rate than 1e\+20"):
        uw.training.train(replace(CONFIG, norm="none"), lessons(), replace(RECIPE, lr=1e20))


def test_training_is_told_where_the_model_came_from(trained):
    assert trained.model.config.source == "trained by unweave"
    assert (
        uw.training.train(replace(CONFIG, processing=("fold_norm",)), lessons(), RECIPE).model.config.processing == ()
    )
