"""Attribution before and after a knockout, and the heads that back up others."""

import numpy as np
import pytest
import torch

import unweave as uw
from tests.tiny import D_HEAD, N_HEADS, N_LAYERS, tiny_model, tiny_pair
from unweave.models.model import Model
from unweave.models.run import Edit
from unweave.results.summary import significant

KINDS = ["llama", "gpt2", "gpt_neox"]


def attribution_by_hand(model: Model, pair: uw.Contrast, edits: list[Edit], scale_of: list[Edit]) -> torch.Tensor:
    """`[prompt layer head]`: each head's output at the end, through the last norm with the scale of another run."""
    run = model.run(pair.prompts, keep=["z", "resid_post"], edits=edits)
    other = model.run(pair.prompts, keep=["resid_post"], edits=scale_of)
    rows, end = torch.arange(len(pair.prompts)), pair.prompts.lengths - 1
    x = other["resid_post", -1][rows, end]
    centred = model.config.norm == "layer"
    x = x - x.mean(-1, keepdim=True) if centred else x
    scale = (x.pow(2).mean(-1, keepdim=True) + model.config.norm_eps).sqrt()
    answers, wrong = pair.prompts.answers, pair.prompts.wrong
    direction = model.weights.w_u[answers] - model.weights.w_u[wrong]
    assert model.weights.norm_final.weight is not None
    table = torch.zeros(len(rows), N_LAYERS, N_HEADS, dtype=torch.float64)
    for layer in range(N_LAYERS):
        for head in range(N_HEADS):
            w_o = model.weights.layers[layer].w_o[:, head * D_HEAD : (head + 1) * D_HEAD]
            written = run["z", layer][rows, end, head] @ w_o.T
            written = written - written.mean(-1, keepdim=True) if centred else written
            table[:, layer, head] = (written / scale * model.weights.norm_final.weight * direction).sum(-1)
    return table


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [None, "end"])
def test_before_after_and_what_the_scale_makes(kind, at):
    pair = tiny_pair(tiny_model(kind))
    parts = uw.heads.knockout_attribution(pair, [(0, 1), (1, 2)], "zero", at)
    assert parts.dims == ("prompt", "run", "layer", "head")
    zero = torch.zeros(1, dtype=torch.float64)
    pos = None if at is None else pair.prompts.role(at)
    out = [Edit("z", 0, zero, head=1, pos=pos), Edit("z", 1, zero, head=2, pos=pos)]
    before, after = (attribution_by_hand(pair.model, pair, edits, edits) for edits in ([], out))
    at_scale_before = attribution_by_hand(pair.model, pair, out, [])
    np.testing.assert_allclose(parts.sel(run="before"), before, atol=1e-10)
    np.testing.assert_allclose(parts.sel(run="after"), after, atol=1e-10)
    np.testing.assert_allclose(parts.sel(run="change"), after - before, atol=1e-10)
    np.testing.assert_allclose(parts.sel(run="from scale"), after - at_scale_before, atol=1e-10)
    assert (parts.sel(run="after", layer=0, head=1).values == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_totals_are_the_real_scores(kind):
    pair = tiny_pair(tiny_model(kind))
    parts = uw.heads.knockout_attribution(pair, [(1, 3)], "mean")
    change = uw.knockout(pair, [(1, 3)], "mean", measure="change")
    np.testing.assert_allclose(parts.total_before, pair.clean_scores, atol=1e-10)
    np.testing.assert_allclose(parts.total_after - parts.total_before, change[:, 0], atol=1e-10)


def test_heads_before_the_knockout_change_by_the_scale_alone():
    pair = tiny_pair(tiny_model("gpt2"))
    parts = uw.heads.knockout_attribution(pair, [(1, 0)], "mean")
    np.testing.assert_allclose(parts.sel(run="change", layer=0), parts.sel(run="from scale", layer=0), atol=1e-12)
    later = parts.sel(layer=2)
    assert float(abs(later.sel(run="change") - later.sel(run="from scale")).max()) > 1e-3
    ratio = 1 / parts.scale_ratio
    expected = parts.sel(run="before", layer=0, drop=True) * ratio
    np.testing.assert_allclose(parts.sel(run="after", layer=0), expected, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_backup_heads_are_those_that_grew(kind):
    pair = tiny_pair(tiny_model(kind))
    threshold = 0.05
    found = uw.heads.backup_heads(pair, [(0, 1)], "zero", threshold=threshold)
    parts = uw.heads.knockout_attribution(pair, [(0, 1)], "zero")
    grown = (parts.sel(run="change") - parts.sel(run="from scale")).mean("prompt")
    grown = grown / abs(float(parts.total_before.mean()))
    after = parts.sel(run="after").mean("prompt")
    expected = {
        f"{layer}.{head}"
        for layer in range(N_LAYERS)
        for head in range(N_HEADS)
        if (layer, head) != (0, 1) and grown[layer, head] > threshold and after[layer, head] > 0
        if significant(uw.summary(found))[layer, head]
    }
    assert set(found.attrs["backups"]) == expected
    assert (found.sel(layer=0, head=1).values == 0).all()
    np.testing.assert_allclose(found.sel(layer=0), 0, atol=1e-12)  # heads of the same layer cannot react


def test_the_naive_prediction_comes_true_where_nothing_reacts():
    """After the last layer's head of a parallel block only the norm's scale is left to react."""
    pair = tiny_pair(tiny_model("gpt_neox"))
    found = uw.heads.backup_heads(pair, [(N_LAYERS - 1, 1)], "zero")
    np.testing.assert_allclose(found.total, pair.clean_scores, atol=1e-10)
    np.testing.assert_allclose(found.naive, found.total - found.own, atol=1e-12)
    np.testing.assert_allclose(found.values, 0, atol=1e-12)
    assert found.attrs["backups"] == []
    bias = _reading_constant(pair)
    np.testing.assert_allclose((found.without - bias) * found.scale_ratio, found.naive - bias, atol=1e-10)
    reacting = uw.heads.backup_heads(pair, [(0, 1)], "zero")
    assert float(abs((reacting.without - bias) * reacting.scale_ratio - (reacting.naive - bias)).max()) > 1e-3


def _reading_constant(pair: uw.Contrast) -> np.ndarray:
    """What the logit difference owes to biases after the last norm's scale."""
    weights, prompts = pair.model.weights, pair.prompts
    direction = weights.w_u[prompts.answers] - weights.w_u[prompts.wrong]
    assert weights.norm_final.bias is not None
    assert weights.b_u is not None
    return (direction @ weights.norm_final.bias + weights.b_u[prompts.answers] - weights.b_u[prompts.wrong]).numpy()


def test_what_has_no_backup_is_refused():
    pair = tiny_pair(tiny_model("gpt2"))
    with pytest.raises(uw.InputError, match=r"1\.2 is named twice"):
        uw.heads.backup_heads(pair, [(1, 2), "1.2"])
    with pytest.raises(uw.InputError, match="heads 0 to 3"):
        uw.heads.knockout_attribution(pair, [(0, 4)])
    with pytest.raises(uw.InputError, match="role 'IO'"):
        uw.heads.knockout_attribution(pair, [(0, 1)], at="IO")
