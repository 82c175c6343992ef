"""Converters against the reference library's logits, and what they refuse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedConfig

from tests.models.reference import N_VOCAB, gpt2, llama, neox, random_model, reference_logits
from unweave.errors import ModelError
from unweave.models.families import convert
from unweave.models.model import Model

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 8}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0}

EMBEDDINGS = ("wte.weight", "embed_in.weight", "embed_tokens.weight")

CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama grouped": llama,
    "llama tied": lambda: llama(tie_word_embeddings=True),
    "llama one kv head": lambda: llama(num_key_value_heads=1),
    "llama not grouped, biased": lambda: llama(num_key_value_heads=4, attention_bias=True, mlp_bias=True),
    "llama gelu": lambda: llama(hidden_act="gelu_pytorch_tanh"),
    "llama rope linear": lambda: llama(rope_parameters=dict(LINEAR_ROPE)),
    "llama rope llama3": lambda: llama(rope_parameters=dict(LLAMA3_ROPE)),
    "llama rope yarn": lambda: llama(rope_parameters=dict(YARN_ROPE)),
    "gpt2": gpt2,
    "gpt2 untied": lambda: gpt2(tie_word_embeddings=False, n_inner=18),
    "gpt2 relu": lambda: gpt2(activation_function="relu"),
    "gpt2 unscaled": lambda: gpt2(scale_attn_weights=False),
    "gpt2 scaled by layer": lambda: gpt2(scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True),
    "neox parallel": neox,
    "neox serial": lambda: neox(use_parallel_residual=False),
    "neox unbiased attention": lambda: neox(attention_bias=False, hidden_act="gelu_new"),
    "neox half rotary": lambda: neox(rotary_pct=0.5),
    "neox full rotary": lambda: neox(rotary_pct=1.0, tie_word_embeddings=True),
    "neox rope linear": lambda: neox(rope_parameters=dict(LINEAR_ROPE, partial_rotary_factor=0.5)),
}


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(N_VOCAB, (3, 24), generator=torch.Generator().manual_seed(1))


def ours(hf: Any) -> Model:
    return Model(*convert(hf.config.to_dict(), hf.state_dict()))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_the_reference(name: str, dtype: torch.dtype, tolerance: float, tokens: torch.Tensor) -> None:
    hf = random_model(CONFIGS[name](), dtype)
    expected = reference_logits(hf, tokens)
    assert expected.std() > 0.1  # logits that hardly vary would agree with anything
    torch.testing.assert_close(ours(hf).run(tokens).logits, expected, atol=tolerance, rtol=0)


# Each option here is one that a careless converter might ignore: without it, the logits are others.
@pytest.mark.parametrize(
    ("with_option", "without"),
    [
        ("llama rope linear", llama),
        ("llama rope llama3", lambda: llama(rope_parameters={"rope_type": "default", "rope_theta": 100.0})),
        ("llama rope yarn", lambda: llama(rope_parameters={"rope_type": "default", "rope_theta": 100.0})),
        ("llama gelu", llama),
        ("gpt2 unscaled", gpt2),
        ("gpt2 scaled by layer", gpt2),
        ("gpt2 relu", gpt2),
        ("neox serial", neox),
        ("neox half rotary", neox),
    ],
)
def test_options_matter(with_option: str, without: Callable[[], PreTrainedConfig], tokens: torch.Tensor) -> None:
    hf = random_model(CONFIGS[with_option]())
    plain = Model(*convert(without().to_dict(), hf.state_dict()))
    assert (plain.run(tokens).logits - reference_logits(hf, tokens)).abs().max() > 1e-3


def test_tied_unembedding_is_one_tensor() -> None:
    model = ours(random_model(llama(tie_word_embeddings=True)))
    assert model.config.tied_unembed
    assert model.weights.w_u is model.weights.w_e


def test_checkpoint_with_another_unembedding_is_not_tied() -> None:
    hf = random_model(llama(tie_word_embeddings=True))
    state = dict(hf.state_dict())
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    config, weights = convert(hf.config.to_dict(), state)
    assert not config.tied_unembed
    assert torch.equal(weights.w_u, state["lm_head.weight"])


def test_one_of_two_tied_tensors_is_enough() -> None:
    hf = random_model(llama(tie_word_embeddings=True))
    state = dict(hf.state_dict())
    for missing in ("lm_head.weight", "model.embed_tokens.weight"):
        _, weights = convert(hf.config.to_dict(), {name: t for name, t in state.items() if name != missing})
        assert weights.w_u is weights.w_e
        assert torch.equal(weights.w_e, state["lm_head.weight"])


def test_copies_in_two_dtypes_are_tied_if_they_hold_the_same_values() -> None:
    hf = random_model(llama(tie_word_embeddings=True))
    state = dict(hf.state_dict())
    rounded = state["lm_head.weight"].half()
    assert not convert(hf.config.to_dict(), state | {"lm_head.weight": rounded})[0].tied_unembed
    same = {"lm_head.weight": rounded, "model.embed_tokens.weight": rounded.float()}
    assert convert(hf.config.to_dict(), state | same)[0].tied_unembed


@pytest.mark.parametrize("name", ["q_proj.lora_A.default.weight", "q_proj.base_layer.weight"])
def test_tensors_of_an_adapter_are_refused_as_such(name: str) -> None:
    hf = random_model(llama())
    with pytest.raises(ModelError, match=rf"{name} belongs to an adapter.*merge"):
        convert(hf.config.to_dict(), hf.state_dict() | {f"model.layers.0.self_attn.{name}": torch.zeros(1)})


def test_rotary_frequencies_stay_float32() -> None:
    freq = ours(random_model(neox())).weights.rotary_freq
    assert freq is not None
    assert freq.dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "prefix", "buffers"),
    [
        (gpt2, "transformer.", ["h.0.attn.bias", "h.0.attn.masked_bias"]),
        (neox, "gpt_neox.", ["layers.0.attention.bias", "layers.0.attention.rotary_emb.inv_freq"]),
        (llama, "model.", ["layers.0.self_attn.rotary_emb.inv_freq"]),
    ],
)
def test_older_checkpoints(make: Callable[[], PreTrainedConfig], prefix: str, buffers: list[str]) -> None:
    hf = random_model(make())
    state = {name.removeprefix(prefix): tensor for name, tensor in hf.state_dict().items()}
    state |= {name: torch.ones(1) for name in buffers}
    _, weights = convert(hf.config.to_dict(), state)
    assert torch.equal(weights.w_e, next(tensor for name, tensor in state.items() if name.endswith(EMBEDDINGS)))


@pytest.mark.parametrize(
    ("make", "option", "value"),
    [
        (llama, "sliding_window", 128),
        (llama, "attn_logit_softcapping", 50.0),
        (llama, "rope_interleaved", True),
        (llama, "hidden_act", "tanh"),
        (llama, "quantization_config", {"quant_method": "gptq"}),
        (gpt2, "add_cross_attention", True),
        (gpt2, "activation_function", "quick_gelu"),
        (gpt2, "n_ctx", 8),
        (neox, "is_encoder_decoder", True),
        (neox, "head_dim", 4),
        (neox, "qk_norm", True),
    ],
)
def test_refuses_options_by_name_and_value(make: Callable[[], PreTrainedConfig], option: str, value: object) -> None:
    hf = random_model(make())
    with pytest.raises(ModelError) as caught:
        convert(hf.config.to_dict() | {option: value}, hf.state_dict())
    assert f"{option}={value!r}" in str(caught.value)


def test_an_option_that_is_not_set_is_no_option() -> None:
    hf = random_model(llama())
    unset = {"sliding_window": None, "use_cache": False, "transformers_version": "9"}
    convert(hf.config.to_dict() | unset, hf.state_dict())


@pytest.mark.parametrize(
    ("rope", "told"),
    [
        ({"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}, "rope_type='dynamic'"),
        ({"rope_type": "longrope", "rope_theta": 100.0}, "rope_type='longrope'"),
        ({"rope_type": "default", "rope_theta": 100.0, "twist": 3}, "twist=3"),
        ({"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ],
)
def test_refuses_rotary_positions(rope: dict[str, object], told: str) -> None:
    hf = random_model(llama())
    with pytest.raises(ModelError, match=told):
        convert(hf.config.to_dict() | {"rope_parameters": rope}, hf.state_dict())


@pytest.mark.parametrize("make", [llama, gpt2, neox])
def test_names_tensors_that_do_not_fit(make: Callable[[], PreTrainedConfig]) -> None:
    hf = random_model(make())
    options, state = hf.config.to_dict(), dict(hf.state_dict())
    victim = next(name for name in state if ".1." in name and "mlp" in name)
    tail = victim.split(".", 1)[1]

    with pytest.raises(ModelError, match=f"{tail} is missing"):
        convert(options, {name: tensor for name, tensor in state.items() if name != victim})
    with pytest.raises(ModelError, match=rf"{tail} has shape \[3, 5\]"):
        convert(options, state | {victim: torch.zeros(3, 5)})
    with pytest.raises(ModelError, match=f"{tail} is of type torch.int8"):
        convert(options, state | {victim: state[victim].to(torch.int8)})
    with pytest.raises(ModelError, match=f"{tail} is not in memory"):
        convert(options, state | {victim: state[victim].to("meta")})
    with pytest.raises(ModelError, match=r"adapter\.weight and 1 more has no place"):
        convert(options, state | {"adapter.weight": torch.zeros(1), "score.weight": torch.zeros(1)})


@pytest.mark.parametrize("options", [{"model_type": "bert"}, {}])
def test_unknown_family_lists_the_families(options: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="gpt2, gpt_neox, llama"):
        convert(options, {})
