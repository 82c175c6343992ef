"""Scores on repeated random tokens, copying through the OV circuit, and attention from role to role."""

import numpy as np
import pytest
import torch

import unweave as uw
from tests.methods.by_hand import made_model
from tests.readers import word_tokenizer
from tests.tiny import N_HEADS, N_LAYERS, tiny_model, tiny_pair
from unweave.models.model import Model
from unweave.tasks.repeated import draw_repeated
from unweave.tasks.texts import from_texts

KINDS = ["llama", "gpt2", "gpt_neox"]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_mean_attention_along_three_diagonals(kind):
    model, n = tiny_model(kind), 6
    scores = uw.heads.head_scores(model, n_tokens=n, n_sequences=4, seed=3)
    assert scores.dims == ("prompt", "score", "layer", "head")
    patterns = model.run(draw_repeated(model, 4, n, 3), keep="pattern")
    for prompt, layer, head in [(0, 0, 0), (3, 2, 1), (2, 1, 3)]:
        pattern = patterns["pattern", layer][prompt, head]
        expected = {
            "duplicate token": sum(pattern[n + i, i] for i in range(n)) / n,
            "previous token": sum(pattern[i + 1, i] for i in range(n - 1)) / (n - 1),
            "induction": sum(pattern[n + i, i + 1] for i in range(n)) / n,
        }
        for name, value in expected.items():
            found = float(scores.sel(prompt=prompt, score=name, layer=layer, head=head))
            assert found == pytest.approx(float(value), abs=1e-12)


@pytest.mark.parametrize(("bos", "front"), [(None, 1), (True, 1), (False, 0)])
def test_scores_are_behind_the_beginning_token_as_the_prompts_of_the_model(bos, front):
    """By hand, and the same number of tokens is read behind it; the tokenizer puts one in front."""
    base, n = tiny_model("gpt2"), 5
    model = Model(base.config, base.weights, word_tokenizer(["a b c d e f g"], adds_bos=True))
    scores = uw.heads.head_scores(model, n, 3, seed=2, bos=bos)
    tokens = draw_repeated(model, 3, n, 2, bos)
    assert tokens.shape == (3, 2 * n + front)
    begins = set(tokens[:, 0].tolist()) == {model.tokenizer.bos_token_id}  # type: ignore[union-attr]
    assert begins == bool(front)
    assert scores.attrs["bos"] == front == int(from_texts(model, ["a b"], bos=bos).bos)
    pattern = model.run(tokens, keep="pattern")["pattern", 1][0, 2]
    expected = {
        "duplicate token": pattern[front + n :, front:].diagonal().mean(),
        "induction": pattern[front + n :, front + 1 :].diagonal()[:n].mean(),
        "previous token": pattern[front + 1 : front + n, front:].diagonal().mean(),
    }
    for name, value in expected.items():
        assert float(scores.sel(prompt=0, score=name, layer=1, head=2)) == pytest.approx(float(value), abs=1e-12)


def test_a_beginning_token_that_there_is_none_of():
    with pytest.raises(uw.InputError, match="bos=True: there is no tokenizer"):
        uw.heads.head_scores(tiny_model("gpt2"), 5, 2, bos=True)


def test_heads_made_by_hand_have_the_scores_that_they_were_made_for():
    scores = uw.heads.head_scores(made_model(), n_tokens=8, n_sequences=3).mean("prompt")
    made = {"previous token": (0, 0), "duplicate token": (0, 1), "induction": (1, 0)}
    for name, (layer, head) in made.items():
        table = scores.sel(score=name).values.copy()
        assert table[layer, head] > 0.9
        table[layer, head] = 0
        assert table.max() < 0.3


def test_tokens_are_seeded_repeated_and_not_special():
    model = tiny_model("gpt2")
    tokens = draw_repeated(model, 5, 10, 0)
    assert torch.equal(tokens[:, :10], tokens[:, 10:])
    assert torch.equal(tokens, draw_repeated(model, 5, 10, 0))
    assert not torch.equal(tokens, draw_repeated(model, 5, 10, 1))
    np.testing.assert_array_equal(uw.heads.head_scores(model, 5, 3), uw.heads.head_scores(model, 5, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((17,), "17 tokens twice are 34, and tiny gpt2 reads 32; give at most 16"),
        ((1,), "at least 2 and 1"),
        ((5, 0), "got 5 and 0"),
    ],
)
def test_sequences_that_cannot_be_made(arguments, message):
    with pytest.raises(uw.InputError, match=message):
        uw.heads.head_scores(tiny_model("gpt2"), *arguments)


def copied_by_hand(model: uw.Model, word: int, layer: int, head: int, sign: int, top: int) -> bool:
    """The chain of the definition, with the forward pass's own functions left aside."""
    c, w = model.config, model.weights

    def normed(x, norm, shift=True):
        x = x - x.mean() if c.norm == "layer" else x
        x = x / (x.pow(2).mean() + c.norm_eps).sqrt() * norm.weight
        return x if norm.bias is None or not shift else x + norm.bias

    x, first = w.w_e[word], w.layers[0]
    assert first.w_in is not None
    assert first.w_out is not None
    hidden = first.w_in @ normed(x, first.norm2) + (0 if first.b_in is None else first.b_in)
    if c.gated_mlp:
        gate, linear = hidden.chunk(2)
        post = torch.nn.functional.silu(gate) * linear
    else:
        post = torch.nn.functional.gelu(hidden, approximate="tanh")
    x = x + first.w_out @ post + (0 if first.b_out is None else first.b_out)
    w_v, w_o = model.W_V[layer, head // c.heads_per_kv], model.W_O[layer, head]
    out = sign * (normed(x, w.layers[layer].norm1, shift=False) @ w_v @ w_o)
    logits = w.w_u @ normed(out, w.norm_final) + (0 if w.b_u is None else w.b_u)
    return word in logits.topk(top).indices.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_copying_is_the_words_place_among_its_own_logits(kind):
    model, words = tiny_model(kind), [0, 3, 7, 11, 19]
    scores = uw.heads.copying_scores(model, words, top=5)
    assert scores.dims == ("word", "score", "layer", "head")
    for sign, name in ((1, "copying"), (-1, "negative copying")):
        expected = [
            copied_by_hand(model, word, layer, head, sign, 5)
            for word in words
            for layer in range(N_LAYERS)
            for head in range(N_HEADS)
        ]
        np.testing.assert_array_equal(scores.sel(score=name).values.ravel(), expected)
    assert 0 < float(scores.mean()) < 1


def test_copying_does_not_depend_on_how_the_weights_are_written():
    model = tiny_model("gpt2")
    words = range(20)
    for steps in (("fold_norm",), ("center_writing", "center_unembed", "fold_norm", "fold_value_bias")):
        np.testing.assert_array_equal(
            uw.heads.copying_scores(model.process(*steps), words), uw.heads.copying_scores(model, words)
        )


def test_heads_made_by_hand_copy_or_oppose():
    scores = uw.heads.copying_scores(made_model(), [5, 6, 7], top=1).mean("word")
    assert scores.sel(score="copying").values.tolist() == [[0, 0], [1, 0]]
    assert scores.sel(score="negative copying").values.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "none was given"), ([3, 3], "given twice"), ([99], "0 to 22, got 99"), ([" Mary"], "has no tokenizer")],
)
def test_words_that_cannot_be_copied(words, message):
    with pytest.raises(uw.InputError, match=message):
        uw.heads.copying_scores(tiny_model("gpt2"), words)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_between_roles_is_the_patterns_entry(kind):
    pair = tiny_pair(tiny_model(kind))
    looks = uw.heads.role_attention(pair)
    assert looks.dims == ("prompt", "layer", "head", "q_role", "k_role")
    assert looks.q_role.values.tolist() == ["S1", "S2", "end"]
    run = pair.model.run(pair.prompts, keep="pattern")
    end = pair.prompts.role("end").tolist()
    for prompt in range(3):
        found = looks.sel(prompt=prompt, q_role="end", k_role="S2")
        np.testing.assert_allclose(found, run["pattern"][:, prompt, :, end[prompt], 3], atol=1e-12)
    assert (looks.sel(q_role="S1", k_role="S2").values == 0.0).all()
    corrupted = uw.heads.role_attention(pair, ["end"], prompts="corrupted")
    assert float(abs(corrupted - looks.sel(q_role=["end"], k_role=["end"])).max()) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_attention_by_value_is_weighted_and_sums_to_one(kind):
    pair = tiny_pair(tiny_model(kind))
    weighted = uw.heads.role_attention(pair, ["S2", "end"], by_value=True)
    run = pair.model.run(pair.prompts, keep=["pattern", "v"])
    prompt, layer, head = 2, 1, 3
    lengths = run["v", layer][prompt, :, head // pair.model.config.heads_per_kv].norm(dim=-1)
    row = run["pattern", layer][prompt, head, 6] * lengths
    found = float(weighted.sel(prompt=prompt, layer=layer, head=head, q_role="end", k_role="S2"))
    assert found == pytest.approx(float(row[3] / row.sum()), abs=1e-12)
    assert weighted.attrs["quantity"] == "value-weighted attention"


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_to_two_tokens_differ_by_the_attribution(kind):
    """Where the two roles' tokens are answer and wrong answer, the difference is the direct logit attribution."""
    pair = tiny_pair(tiny_model(kind))
    rows = torch.arange(3)
    tokens = [pair.prompts.tokens[rows, pair.prompts.role(role)] for role in ("S1", "S2")]
    asked = uw.Prompts.from_tokens(
        pair.prompts.tokens, answers=tokens[0], wrong=tokens[1], roles=pair.prompts.roles, lengths=pair.prompts.lengths
    )
    pair = uw.Contrast(pair.model, asked, pair.corrupted, pair.metric)
    both = uw.heads.attention_contribution(pair, ["S1", "S2"])
    assert both["contribution"].dims == ("prompt", "role", "layer", "head")
    difference = both["contribution"].sel(role="S1") - both["contribution"].sel(role="S2")
    np.testing.assert_allclose(difference, uw.attribute(pair, by="head"), atol=1e-10)
    looks = uw.heads.role_attention(pair).sel(q_role="end", k_role=["S1", "S2"])
    np.testing.assert_allclose(both["attention"], looks.transpose("prompt", "k_role", ...), atol=1e-12)


def test_roles_that_the_task_lacks():
    pair = tiny_pair(tiny_model("gpt2"))
    for call in (lambda: uw.heads.role_attention(pair, ["IO"]), lambda: uw.heads.attention_contribution(pair)):
        with pytest.raises(uw.InputError, match="role 'IO' is not among this task's roles: S1, S2, end"):
            call()
    with pytest.raises(uw.InputError, match="roles: none was given"):
        uw.heads.role_attention(pair, [])
