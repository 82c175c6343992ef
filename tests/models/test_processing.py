"""Weight processing keeps the function, does what it says, and is refused where it would not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from einops import rearrange

from tests.models.reference import gpt2, llama, neox, random_model
from unweave.errors import InputError
from unweave.models.families import convert
from unweave.models.model import Model
from unweave.models.processing import PROCESSING, center_writing, process

MODELS: dict[str, Callable[[], object]] = {
    "gpt2": gpt2,
    "gpt2 wide heads": lambda: gpt2(n_embd=8, n_head=1),
    "llama": lambda: llama(attention_bias=True, tie_word_embeddings=True),
    "neox parallel": neox,
    "neox serial": lambda: neox(use_parallel_residual=False, attention_bias=False),
    "no norm": gpt2,
    "attention only": gpt2,
}


def tiny(name: str) -> Model:
    hf = random_model(MODELS[name]())  # type: ignore[arg-type]
    config, weights = convert(hf.config.to_dict(), hf.state_dict())
    if name == "no norm":
        config = replace(config, norm="none")
    if name == "attention only":
        config = replace(config, d_mlp=0)
        layers = tuple(replace(old, w_in=None, b_in=None, w_out=None, b_out=None) for old in weights.layers)
        weights = replace(weights, layers=layers)
    return Model(config, weights)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(23, (3, 9), generator=torch.Generator().manual_seed(1))


def log_probs(model: Model, tokens: torch.Tensor) -> torch.Tensor:
    return model.run(tokens).logits.log_softmax(-1)


def allowed(model: Model) -> list[str]:
    return [name for name, step in PROCESSING.items() if step.refusal(model.config) is None]


@pytest.mark.parametrize(
    ("model", "step"), [(name, step) for name in MODELS for step in allowed(tiny(name))], ids=lambda part: part
)
def test_each_step_keeps_the_function(model: str, step: str, tokens: torch.Tensor) -> None:
    before = tiny(model)
    after = before.process(step)
    assert after.config.processing == (step,)
    torch.testing.assert_close(log_probs(after, tokens), log_probs(before, tokens), atol=1e-9, rtol=0)


@pytest.mark.parametrize("model", MODELS)
def test_all_steps_keep_the_function(model: str, tokens: torch.Tensor) -> None:
    before = tiny(model)
    after = before.process("all")
    assert list(after.config.processing) == allowed(before)
    torch.testing.assert_close(log_probs(after, tokens), log_probs(before, tokens), atol=1e-9, rtol=0)


@pytest.mark.parametrize("step", [name for name in PROCESSING if name != "center_unembed"])
def test_only_center_unembed_moves_logits(step: str, tokens: torch.Tensor) -> None:
    before = tiny("gpt2")
    torch.testing.assert_close(before.process(step).run(tokens).logits, before.run(tokens).logits, atol=1e-9, rtol=0)


def test_center_unembed_moves_logits_by_one_constant_a_position(tokens: torch.Tensor) -> None:
    before = tiny("gpt2")
    moved = before.process("center_unembed").run(tokens).logits - before.run(tokens).logits
    torch.testing.assert_close(moved, moved[..., :1].expand_as(moved), atol=1e-9, rtol=0)
    assert moved.abs().max() > 1e-3


def test_steps_do_what_they_say() -> None:
    model = tiny("gpt2").process("all")
    weights, config = model.weights, model.config
    first_v = 2 * config.d_model
    for layer in weights.layers:
        assert layer.norm1.weight is layer.norm1.bias is layer.norm2.weight is layer.norm2.bias is None
        assert layer.b_qkv is not None
        assert layer.b_qkv[first_v:].abs().max() == 0
        # Written with mean zero, and read without the mean.
        assert_no_mean((layer.w_o, 0), (layer.b_o, 0), (layer.w_out, 0), (layer.b_out, 0), (layer.w_in, 1))
    assert_no_mean((weights.w_e, 1), (weights.w_pos, 1), (weights.w_u, 1), (weights.w_u, 0), (weights.b_u, 0))


def assert_no_mean(*parts: tuple[torch.Tensor | None, int]) -> None:
    for part, axis in parts:
        assert part is not None
        assert part.mean(axis).abs().max() < 1e-12


def test_factors_are_orthogonal_and_share_singular_values() -> None:
    before = tiny("gpt2").process("fold_value_bias")
    after = before.process("factor_attention")
    w_o, w_v = after.W_O, after.W_V
    eye = torch.eye(after.config.d_head, dtype=torch.float64).expand(*w_o.shape[:2], -1, -1)
    torch.testing.assert_close(w_o @ w_o.mT, eye, atol=1e-9, rtol=0)
    torch.testing.assert_close(w_v @ w_o, before.W_V @ before.W_O, atol=1e-9, rtol=0)
    torch.testing.assert_close(after.W_Q @ after.W_K.mT, before.W_Q @ before.W_K.mT, atol=1e-9, rtol=0)

    def norms(matrix: torch.Tensor, part: int) -> torch.Tensor:
        fused = [layer.b_qkv for layer in after.weights.layers if layer.b_qkv is not None]
        biases = torch.stack(fused).unflatten(1, (3, -1))[:, part]
        return matrix.pow(2).sum(2) + rearrange(biases, "layer (head e) -> layer head e", head=4).pow(2)

    torch.testing.assert_close(norms(after.W_Q, 0), norms(after.W_K, 1), atol=1e-9, rtol=0)


def test_the_model_that_is_processed_stays_as_it_was(tokens: torch.Tensor) -> None:
    model = tiny("llama")
    before = model.run(tokens).logits
    processed = model.process("fold_norm", "center_unembed")
    assert not processed.config.tied_unembed
    assert processed.weights.w_u is not processed.weights.w_e
    assert model.config.processing == ()
    assert model.weights.w_u is model.weights.w_e
    assert torch.equal(model.run(tokens).logits, before)


def test_float32_stays_float32(tokens: torch.Tensor) -> None:
    before = tiny("gpt2").to(dtype=torch.float32)
    after = before.process("all")
    assert {part.dtype for part in (after.weights.w_u, after.weights.layers[0].w_qkv, after.weights.layers[0].w_o)} == {
        torch.float32
    }
    torch.testing.assert_close(log_probs(after, tokens), log_probs(before, tokens), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("model", "step", "reason"),
    [
        ("llama", "center_writing", "RMS norm"),
        ("no norm", "center_writing", "no norm"),
        ("no norm", "fold_norm", "no norms to fold"),
        ("llama", "factor_attention", "rotary"),
        ("neox parallel", "factor_attention", "rotary"),
    ],
)
def test_refused_with_the_reason(model: str, step: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"{step} is refused.*{reason}"):
        tiny(model).process(step)


def test_factor_attention_is_refused_for_grouped_heads() -> None:
    model = tiny("llama")
    config = replace(model.config, positions="none", rotary_dim=0)
    with pytest.raises(InputError, match="2 query heads share"):
        process(config, model.weights, ["factor_attention"])


@pytest.mark.parametrize("model", ["llama", "no norm"])
def test_centering_without_layer_norm_would_change_the_function(model: str, tokens: torch.Tensor) -> None:
    before = tiny(model)
    forced = Model(*center_writing(before.config, before.weights))
    assert (log_probs(forced, tokens) - log_probs(before, tokens)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "steps",
    [("fold_value_bias", "fold_norm"), ("factor_attention", "fold_norm"), ("factor_attention", "center_writing")],
)
def test_wrong_order_is_refused(steps: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=f"undoes {steps[0]}.*put {steps[1]} first"):
        tiny("gpt2").process(*steps)
    assert tiny("gpt2").process(*reversed(steps)).config.processing == (steps[1], steps[0])


def test_a_step_is_made_once() -> None:
    once = tiny("gpt2").process("fold_norm")
    assert once.process("fold_norm").weights is once.weights


def test_unknown_step() -> None:
    with pytest.raises(InputError, match="no step 'fold'; there are center_writing"):
        tiny("gpt2").process("fold")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["gpt2", "llama", "neox serial"])
def test_half_precision_is_rounded_once(name: str, dtype: torch.dtype) -> None:
    """Means and products are those of float32, not rounded at each step."""
    model = tiny(name).to(dtype=dtype)
    expected, made = model.to(dtype=torch.float32).process("all").to(dtype=dtype), model.process("all")
    assert made.dtype == dtype
    assert made.config == expected.config
    assert torch.equal(made.weights.w_u, expected.weights.w_u)
    for layer, other in zip(made.weights.layers, expected.weights.layers, strict=True):
        assert torch.equal(layer.w_qkv, other.w_qkv)
        assert torch.equal(layer.w_o, other.w_o)
        biases = [bias for bias in (layer.b_qkv, other.b_qkv) if bias is not None]
        assert len(biases) != 1
        assert not biases or torch.equal(*biases)
