"""Loaded modules: read if they compute what their config and weights say, and refused by name where they do not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm
from transformers import AttentionInterface, GPT2ForSequenceClassification, LlamaForCausalLM, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import LlamaMLP

import unweave as uw
from tests.models.reference import N_VOCAB, gpt2, llama, neox, random_model, reference_logits

MAKERS = [gpt2, llama, neox]
MLP = "model.layers.0.mlp"
Change = Callable[[Any], Any]


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(N_VOCAB, (2, 7), generator=torch.Generator().manual_seed(1))


def logits(module: nn.Module, tokens: Tensor) -> Tensor:
    return uw.load_model(module, dtype="float64", device="cpu").run(tokens).logits


def noise(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64))


# Embedding and head


def new_embedding(hf: PreTrainedModel) -> None:
    embedding = nn.Embedding(N_VOCAB, hf.config.hidden_size, dtype=torch.float64)
    embedding.weight = noise(*embedding.weight.shape)
    hf.set_input_embeddings(embedding)


def new_embedding_weight(hf: Any) -> None:
    hf.get_input_embeddings().weight = noise(N_VOCAB, hf.config.hidden_size)


def new_head_weight(hf: Any) -> None:
    hf.get_output_embeddings().weight = noise(N_VOCAB, hf.config.hidden_size)


def head_with_bias(hf: Any) -> None:
    head = nn.Linear(hf.config.hidden_size, N_VOCAB, dtype=torch.float64)
    head.bias = noise(N_VOCAB)
    hf.set_output_embeddings(head)


@pytest.mark.parametrize("change", [new_embedding, new_embedding_weight, new_head_weight, head_with_bias])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("make", MAKERS)
def test_embedding_and_head_are_those_of_the_module(make: Any, tied: bool, change: Change, tokens: Tensor) -> None:
    hf = random_model(make(tie_word_embeddings=tied))
    before = reference_logits(hf, tokens)
    change(hf)
    expected = reference_logits(hf, tokens)
    assert (expected - before).abs().max() > 0.5
    torch.testing.assert_close(logits(hf, tokens), expected, atol=1e-9, rtol=0)
    assert not uw.load_model(hf).config.tied_unembed


@pytest.mark.parametrize("make", MAKERS)
def test_tied_is_what_shares_its_values(make: Any, tokens: Tensor) -> None:
    hf = random_model(make(tie_word_embeddings=True))
    head = hf.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    head.weight = nn.Parameter(head.weight.detach().float())  # another dtype, and so the same values only if they fit
    hf.get_input_embeddings().weight = nn.Parameter(head.weight.detach().double())
    model = uw.load_model(hf, dtype="float64")
    assert model.config.tied_unembed
    torch.testing.assert_close(model.run(tokens).logits, reference_logits(hf.double(), tokens), atol=1e-9, rtol=0)


@pytest.mark.parametrize("make", [llama, neox])
def test_rotary_frequencies_are_those_of_the_module(make: Any, tokens: Tensor) -> None:
    hf: Any = random_model(make())
    before = reference_logits(hf, tokens)
    hf.base_model.rotary_emb.inv_freq.mul_(0.5)
    expected = reference_logits(hf, tokens)
    assert (expected - before).abs().max() > 1e-2
    torch.testing.assert_close(logits(hf, tokens), expected, atol=1e-9, rtol=0)


# What leaves the output as it is


def compiled_layer(hf: Any) -> None:
    hf.model.layers[0] = torch.compile(hf.model.layers[0], backend="eager")


def compiled_forward(hf: Any) -> None:
    hf.forward = torch.compile(hf.forward, backend="eager")


def collected(hf: Any) -> None:
    hf(torch.tensor([[1, 2]]), output_hidden_states=True)


def backward_hooks(hf: Any) -> None:
    hf.model.layers[0].register_full_backward_pre_hook(lambda _module, _grad: None)
    hf.model.layers[1].register_full_backward_hook(lambda _module, _in, _out: None)


def norm_removed(hf: Any) -> None:
    parametrizations.weight_norm(hf.model.layers[0].mlp.up_proj)
    parametrize.remove_parametrizations(hf.model.layers[0].mlp.up_proj, "weight")


def hook_removed(hf: Any) -> None:
    hf.model.layers[0].register_forward_hook(lambda _module, _args, out: out).remove()


HARMLESS: dict[str, Change] = {
    "compiled": lambda hf: torch.compile(hf, backend="eager"),
    "compiled in place": lambda hf: hf.compile(backend="eager"),
    "compiled layer": compiled_layer,
    "compiled forward": compiled_forward,
    "parallel": nn.DataParallel,
    "compiled and parallel": lambda hf: nn.DataParallel(torch.compile(hf, backend="eager")),  # type: ignore[arg-type]
    "collected": collected,
    "backward hooks": backward_hooks,
    "norm removed": norm_removed,
    "hook removed": hook_removed,
    "checkpointing": lambda hf: hf.enable_input_require_grads(),
    "dispatched": lambda hf: (add_hook_to_module(hf.model.layers[0], AlignDevicesHook("cpu")), None)[1],
    "trained": lambda hf: hf.train(),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_not_change_the_output_is_read(name: str, tokens: Tensor) -> None:
    hf = random_model(llama())
    expected = reference_logits(hf, tokens)
    changed = HARMLESS[name](hf)
    torch.testing.assert_close(logits(hf if changed is None else changed, tokens), expected, atol=1e-9, rtol=0)


# What changes it


class Doubled(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Adapted(nn.Module):
    """As peft wraps a layer."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, base.out_features, bias=False)})


class Wrapped(nn.Module):
    """As peft wraps a model."""

    def __init__(self, hf: Any) -> None:
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = hf
        self.config = hf.config


class Packed(nn.Linear):
    """As a quantized layer."""


class PackedParameter(nn.Parameter):
    """As a quantized tensor."""


class OwnLlama(LlamaForCausalLM):
    pass


def put(place: str, value: Callable[[Any], Any]) -> Change:
    """A change of the module at a place: of its attribute, or of itself if `place` names no attribute."""
    above, _, name = place.rpartition(".")

    def change(hf: Any) -> None:
        module = hf.get_submodule(above)
        setattr(module, name, value(getattr(module, name, None)))

    return change


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda _module, _args, out: out)
    return module


def own_attention(hf: Any) -> None:
    def mine(*args: Any, **options: Any) -> Any:
        return sdpa_attention_forward(*args, **options)

    AttentionInterface.register("mine", mine)
    hf.set_attn_implementation("mine")


def class_exchanged(hf: Any) -> None:
    hf.model.layers[0].mlp.__class__ = Doubled


def forward_of_another(hf: Any) -> None:
    hf.model.layers[0].mlp.forward = hf.model.layers[1].mlp.forward


def layers_dropped(hf: Any) -> None:
    hf.model.layers = hf.model.layers[:1]


def config_changed(hf: Any) -> None:
    hf.config.rms_norm_eps = 0.1


CHANGES: dict[str, tuple[Change, list[str]]] = {
    "hook": (
        lambda hf: hf.model.layers[1].register_forward_hook(lambda *a: a[-1]) and None,
        ["model.layers.1", "hook"],
    ),
    "pre-hook": (lambda hf: hf.lm_head.register_forward_pre_hook(lambda *_: None) and None, ["lm_head", "hook"]),
    "hook of a wrapper": (lambda hf: hooked(nn.DataParallel(hf)), ["DataParallel", "hook"]),
    "spectral norm": (lambda hf: spectral_norm(hf.lm_head) and None, ["lm_head", "SpectralNorm"]),
    "parametrized": (
        lambda hf: parametrizations.weight_norm(hf.model.layers[0].mlp.up_proj) and None,
        [f"{MLP}.up_proj", "parametrized weight", "remove_parametrizations"],
    ),
    "pruned": (lambda hf: prune.l1_unstructured(hf.lm_head, "weight", 0.5) and None, ["lm_head", "L1Unstructured"]),
    "forward": (put(f"{MLP}.forward", lambda _: torch.zeros_like), [MLP, "forward"]),
    "forward of the whole": (put("forward", lambda forward: lambda *a, **k: forward(*a, **k)), ["forward"]),
    "forward of another": (forward_of_another, [MLP, "forward"]),
    "subclass": (put(MLP, lambda mlp: Doubled(mlp.config)), [MLP, "Doubled", "LlamaMLP"]),
    "class": (class_exchanged, [MLP, "Doubled"]),
    "norm": (put("model.norm", lambda _: nn.LayerNorm(20)), ["model.norm", "LayerNorm", "LlamaRMSNorm"]),
    "activation": (put(f"{MLP}.act_fn", lambda _: nn.Tanh()), [f"{MLP}.act_fn", "Tanh", "SiLUActivation"]),
    "head": (put("lm_head", nn.Sequential), ["lm_head", "Sequential"]),
    "number": (put("model.norm.variance_epsilon", lambda _: 0.1), ["model.norm", "variance_epsilon=0.1"]),
    "scale": (put("model.layers.0.self_attn.scaling", lambda s: s + 1), ["model.layers.0.self_attn", "scaling"]),
    "config": (config_changed, ["model.layers.0.input_layernorm", "0.1"]),
    "bias": (put("model.layers.0.self_attn.q_proj", lambda q: nn.Linear(20, 24)), ["q_proj", "bias"]),
    "layers": (layers_dropped, ["model.layers", "has no 1"]),
    "probe": (put("probe", lambda _: nn.Linear(20, 2)), ["probe"]),
    "quantized": (put("lm_head", lambda _: Packed(20, N_VOCAB, bias=False)), ["lm_head", "Packed", "unquantized"]),
    "quantized tensor": (put("lm_head.weight", PackedParameter), ["lm_head", "PackedParameter", "unquantized"]),
    "attention": (own_attention, ["mine"]),
    "adapter": (put(f"{MLP}.up_proj", Adapted), [f"{MLP}.up_proj", "adapter", "merge"]),
    "adapters loaded": (put("_hf_peft_config_loaded", lambda _: True), ["adapter", "merge"]),
    "wrapped by peft": (Wrapped, ["Wrapped", "adapter", "merge"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_output_is_refused_by_name(name: str) -> None:
    hf = random_model(llama())
    change, told = CHANGES[name]
    changed = change(hf)
    with pytest.raises(uw.ModelError) as caught:
        uw.load_model(hf if changed is None else changed)
    message = str(caught.value)
    assert [word for word in told if word not in message] == []
    assert "is missing" not in message
    assert "\n" not in message


def test_other_classes_are_refused() -> None:
    with pytest.raises(uw.ModelError, match=r"OwnLlama is not.*LlamaForCausalLM"):
        uw.load_model(OwnLlama(llama()))
    with pytest.raises(uw.ModelError, match=r"GPT2ForSequenceClassification is not.*GPT2LMHeadModel"):
        uw.load_model(GPT2ForSequenceClassification(gpt2()))
    with pytest.raises(uw.ModelError, match=r"LlamaModel is not.*LlamaForCausalLM"):
        uw.load_model(random_model(llama()).base_model)


def test_a_base_model_that_is_tied_has_its_head(tokens: Tensor) -> None:
    hf = random_model(gpt2())
    torch.testing.assert_close(logits(hf.base_model, tokens), reference_logits(hf, tokens), atol=1e-9, rtol=0)


def test_a_module_is_left_as_it_is() -> None:
    hf = random_model(llama())
    before, config = copy.deepcopy(hf.state_dict()), hf.config.to_dict()
    uw.load_model(hf).weights.w_e.zero_()
    assert all(torch.equal(value, before[name]) for name, value in hf.state_dict().items())
    assert hf.config.to_dict() == config
