"""Attention that sees both ways, with padding as keys left out, against a few lines of torch."""

import math

import pytest
import torch
from torch import Tensor

import unweave as uw
from tests.small import PAD, SHAPE, random_model, random_state, small_model, small_pair

ACTIVATIONS = {
    "relu": torch.relu,
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "gelu_new": lambda x: x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "silu": lambda x: x * torch.sigmoid(x),
}


def by_hand(config: uw.Config, state: dict[str, Tensor], tokens: Tensor, length: int) -> Tensor:
    """Logits of one prompt, head by head and position by position."""

    def norm(x: Tensor, name: str) -> Tensor:
        if config.norm == "none":
            return x
        x = x - x.mean(-1, keepdim=True)
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * state[f"{name}.w"] + state[f"{name}.b"]

    x = state["embed.W_E"][tokens] + state["pos_embed.W_pos"][: len(tokens)]
    for layer in range(config.n_layers):
        part = {name.split(f"blocks.{layer}.")[1]: v for name, v in state.items() if f"blocks.{layer}." in name}
        read, write = norm(x, f"blocks.{layer}.ln1"), part["attn.b_O"].repeat(len(tokens), 1)
        for head in range(config.n_heads):
            q, k, v = (read @ part[f"attn.W_{kind}"][head] + part[f"attn.b_{kind}"][head] for kind in "QKV")
            for pos in range(len(tokens)):
                seen = [
                    n
                    for n in range(len(tokens))
                    if (n <= pos if config.causal else n < length and int(tokens[n]) != config.pad_token)
                ]
                weights = torch.softmax(torch.stack([q[pos] @ k[n] for n in seen]) / math.sqrt(config.d_head), 0)
                write[pos] += (weights @ v[seen]) @ part["attn.W_O"][head]
        x = x + write
        if config.d_mlp:
            hidden = norm(x, f"blocks.{layer}.ln2") @ part["mlp.W_in"] + part["mlp.b_in"]
            x = x + ACTIVATIONS[config.activation](hidden) @ part["mlp.W_out"] + part["mlp.b_out"]
    return norm(x, "ln_final") @ state["unembed.W_U"] + state["unembed.b_U"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"d_mlp": 5, "activation": "gelu"},
        {"d_mlp": 5, "activation": "gelu_new", "norm": "none"},
        {"d_mlp": 5, "activation": "silu", "causal": False},
        {"causal": False, "pad_token": PAD},
        {"d_mlp": 5, "norm": "none", "causal": False, "pad_token": PAD},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()) or "default",
)
def test_small_models_equal_the_equations(options: dict) -> None:
    config = uw.small_config(**SHAPE, **options)
    state, prompts = random_state(config), small_pair(small_model("layer")).prompts
    logits = random_model(config).run(prompts).logits
    for row, length in enumerate(prompts.lengths.tolist()):
        expected = by_hand(config, state, prompts.tokens[row], length)[:length]
        torch.testing.assert_close(logits[row, :length], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["layer", "none", "rotary"])
def test_padding_is_never_read(kind: str) -> None:
    """Other tokens beyond the end, or another position of the padding inside, change nothing that counts."""
    model = small_model(kind)
    pair = small_pair(model)
    whole = model.run(pair.prompts)
    for row, length in enumerate(pair.prompts.lengths.tolist()):
        alone = model.run(pair.prompts.tokens[row : row + 1, :length]).logits[0]
        torch.testing.assert_close(whole.logits[row, :length], alone, rtol=0, atol=1e-12)


def test_every_position_sees_all_others() -> None:
    pattern = small_model("layer").run(torch.tensor([[0, 3, 4, PAD, 2]]), keep="pattern")["pattern", 0][0]
    assert (pattern[..., 3] == 0).all()
    assert (pattern[..., [0, 1, 2, 4]] > 0).all()
    torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))


def test_the_padding_token_counts_where_the_config_names_none() -> None:
    tokens = torch.tensor([[0, 3, PAD, 2]])
    state = random_state(uw.small_config(**SHAPE, causal=False))
    plain, masked = (
        random_model(uw.small_config(**SHAPE, causal=False, pad_token=pad)).run(tokens).logits for pad in (None, PAD)
    )
    torch.testing.assert_close(plain[0], by_hand(uw.small_config(**SHAPE, causal=False), state, tokens[0], 4))
    assert (plain - masked).abs().max() > 1e-3


def test_a_prompt_of_padding_alone_is_refused() -> None:
    with pytest.raises(uw.InputError, match=r"prompt 2 is nothing but padding \(token 1\)"):
        small_model("layer").run(torch.tensor([[0, 3], [PAD, PAD]]))


@pytest.mark.parametrize("kind", ["layer", "none", "rotary"])
def test_processing_keeps_the_function(kind: str) -> None:
    model = small_model(kind)
    prompts = small_pair(model).prompts
    before, after = (m.run(prompts).logits.log_softmax(-1) for m in (model, model.process("all")))
    for row, length in enumerate(prompts.lengths.tolist()):
        torch.testing.assert_close(after[row, :length], before[row, :length], rtol=0, atol=1e-9)


def test_centering_what_is_written_is_refused_without_a_norm() -> None:
    model = small_model("none")
    with pytest.raises(uw.InputError, match="center_writing is refused for small: the model has no norm"):
        model.process("center_writing")
    assert model.process("all").config.processing == ("center_unembed", "fold_value_bias", "factor_attention")
