"""Models in half precision: every method answers, in float32, near the answer of the same weights in float64.

The model is loud: squares of its stream, sums over its prompts, and scores before they are scaled lie above what
float16 holds, so that a method that computes one of them in the model's dtype answers inf, NaN or 0. Its logits have a
large number in common, so that those that are rounded to half precision are far off.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.tiny import D_MODEL, D_VOCAB, N_HEADS, tiny_model
from unweave.circuits.circuit import Group
from unweave.metrics.metric import Metric
from unweave.models.forward import forward, unembed
from unweave.models.weights import LayerWeights, NormWeights

HALVES = (torch.bfloat16, torch.float16)
N_PROMPTS, N_POS = 24, 7
LOUD, SIZE, SCORES, OFFSET = 4096.0, 8.0, 256.0, 64.0
# Below this a value is no effect: in logits, shares and probabilities alike.
LEAST = 0.25
TOLERANCE = {torch.bfloat16: 0.1, torch.float16: 0.02}
CIRCUIT = uw.Circuit(groups=(Group("movers", ((0, 1), (2, 3)), "all"),))
WORDS, ANSWER = list(range(8)), 11


def loud_model() -> uw.Model:
    """A tiny llama whose first MLP writes `LOUD` to dimension 0 of the stream, which norms divide by and nothing reads.

    Queries and keys are `SCORES` times as large, and scores are scaled by as much less.
    """
    model = tiny_model("llama", torch.float64)
    quiet = torch.ones(D_MODEL, dtype=torch.float64)
    quiet[0] = 0
    loud, n_qk = LOUD * (1 - quiet), (N_HEADS + model.config.n_kv_heads) * model.config.d_head

    def norm(old: NormWeights, number: int) -> NormWeights:
        assert old.weight is not None
        return NormWeights(old.weight * quiet * (LOUD / D_MODEL**0.5 / SIZE if number else 1))

    def layer(number: int, old: LayerWeights) -> LayerWeights:
        assert old.w_out is not None
        return replace(
            old,
            norm1=norm(old.norm1, number),
            norm2=norm(old.norm2, number),
            w_qkv=torch.cat([SCORES * old.w_qkv[:n_qk], old.w_qkv[n_qk:]]),
            w_o=old.w_o * quiet[:, None],
            w_out=old.w_out * quiet[:, None],
            b_out=None if number else loud,
        )

    layers = tuple(layer(number, old) for number, old in enumerate(model.weights.layers))
    config = replace(model.config, score_scale=model.config.score_scale / SCORES**2)
    w_u = model.weights.w_u.clone()
    w_u[:, 1] = OFFSET
    weights = replace(model.weights, layers=layers, norm_final=norm(model.weights.norm_final, 1), w_u=w_u)
    return uw.Model(config, weights).to(dtype=torch.bfloat16).to(dtype=torch.float64)  # numbers that both halves hold


def loud_pair(model: uw.Model, metric: Metric) -> uw.Contrast:
    """Prompts whose answer is what the corrupted token at S2 takes most from."""
    tokens = torch.randint(D_VOCAB, (N_PROMPTS, N_POS), generator=torch.Generator().manual_seed(5))
    other = tokens.clone()
    other[:, 3] = (other[:, 3] + 7) % D_VOCAB
    logits = [model.to(dtype=torch.float64).run(rows).logits[:, -1] for rows in (tokens, other)]
    moved = logits[0] - logits[1]
    roles = {"S1": [1] * N_PROMPTS, "S2": [3] * N_PROMPTS}
    clean = uw.Prompts.from_tokens(tokens, moved.argmax(-1), moved.argmin(-1), roles)
    groups = torch.arange(N_PROMPTS) % 2
    return uw.Contrast(model, replace(clean, groups=groups), uw.Prompts.from_tokens(other), metric)


def faithfulness(pair: uw.Contrast, how: str) -> xr.DataArray:
    effort = uw.EvaluationOptions(controls=1, subsets=1, searches=0)
    return uw.evaluate(CIRCUIT, pair, how=how, effort=effort, progress=False)["faithfulness"].to_dataset()["score"]


def centred(logits: torch.Tensor) -> xr.DataArray:
    return xr.DataArray(logits - logits.mean(-1, keepdim=True))


def swept(name: str, **options: object) -> Callable[[uw.Contrast], xr.DataArray]:
    return lambda pair: getattr(uw, name)(pair, progress=False, **options)


def knocked(how: str, *heads: str) -> Callable[[uw.Contrast], xr.DataArray]:
    targets = list(heads or ["mlp 1", "1.2", "q 1.1", "k 2.kv0", "v 1.kv0", "pattern 1.2", "attn_out 0"])
    return lambda pair: uw.knockout(pair, targets, how, progress=False)


SENDERS = ["mlp 0", ["embed", "0.1"]]
PATTERNS = {"layer": None, "head": [0, 2], "q_pos": [3, 6], "k_pos": None}
METHODS: dict[str, Callable[[uw.Contrast], xr.DataArray]] = {
    "logits": lambda pair: centred(pair.model.run(pair.prompts).logits),
    "logits at the end": lambda pair: centred(pair.model.run(pair.prompts).logits_at()),
    "probability": lambda pair: xr.DataArray(uw.classifier.class_probability(pair.model, pair.prompts, ANSWER)),
    **{f"patch {s}": swept("patch", sites=s, over=("layer", "role")) for s in ("resid_pre", "mlp_out", "v")},
    "patch queries": swept("patch_at", addresses=[["q 0", "q 1", "q 2"]], direction="noise"),
    **{f"patch {s}": swept("patch", sites=s, over=("layer", "head")) for s in ("z", "k", "pattern")},
    "patch entries of patterns": swept("patch", sites="pattern", over=PATTERNS),
    "patch neurons": swept("patch", sites="mlp_post", over=("layer", "neuron")),
    "patch several at once": swept("patch_at", addresses=[["z 0.1", "mlp_out 1"], ["v 0.kv0", "pattern 1.2"]]),
    "paths to heads": swept("path_patch", receivers=["2.1 q", "1.kv0 v", "1.kv1 v", "mlp 2"], senders=SENDERS),
    "paths to live heads": swept(
        "path_patch", receivers=["1.kv0 v", "1.kv1 v", "2.kv0 k", "2.kv0 v"], senders=SENDERS, attention="qkv"
    ),
    "paths to the logits": swept("path_patch", receivers="logits", senders=["mlp 0", "mlp 1", "1.2", "2.3"]),
    **{f"edges {how}": swept("edges", how=how) for how in ("exact", "gradient", "local", "integrated")},
    **{f"predicted {s}": swept("attribution_patch", sites=s, over=("layer", "role")) for s in ("z", "resid_pre", "k")},
    "circuits of edges": lambda pair: uw.curve(pair, uw.edges(pair, "gradient", progress=False), [0.2], progress=False),
    **{f"knockout {how}": knocked(how) for how in ("zero", "mean", "template", "resample", "gaussian")},
    "mean of the loud MLP": knocked("mean", "mlp 0"),
    "knockout by noise in the stream": knocked("gaussian", "result 1.2", "result 2.1"),
    "contributions without a head": lambda pair: uw.heads.knockout_attribution(pair, ["v 0.kv0"]),
    "backup heads": lambda pair: uw.heads.backup_heads(pair, [(0, 0), (0, 1), (1, 0), (1, 1)], "zero"),
    **{f"attribution by {by}": (lambda pair, by=by: uw.attribute(pair, by)) for by in ("component", "head", "neuron")},
    "lens": lambda pair: uw.logit_lens(pair),
    "lens, own norm": lambda pair: uw.logit_lens(pair, norm="own"),
    "classes": lambda pair: uw.classifier.class_attribution(pair.model, pair.prompts, (2, 5)),
    "through a head": lambda pair: uw.classifier.attribution_through(pair.model, pair.prompts, "0.1", "1.0"),
    "through a head, from itself": lambda pair: uw.classifier.attribution_through(
        pair.model, pair.prompts, "0.1", "1.0", looking="self"
    ),
    "attention": lambda pair: uw.attention(pair, [(1, 2), (2, 0)]),
    "attention of roles": lambda pair: uw.heads.role_attention(pair),
    "attention by value": lambda pair: uw.heads.role_attention(pair, by_value=True),
    "contribution": lambda pair: uw.heads.attention_contribution(pair, ["S1", "S2"])["contribution"],
    "attention rebuilt": lambda pair: uw.classifier.rebuilt_attention(pair.model, pair.prompts, "0.1"),
    "norm scales": lambda pair: uw.weights.norm_scales(pair.model, pair.prompts),
    "head scores": lambda pair: uw.heads.head_scores(pair.model, 5, 8),
    "copying eigenvalues": lambda pair: uw.weights.copying_eigenvalues(pair.model),
    "composition": lambda pair: uw.weights.composition_scores(pair.model, pairs=2, progress=False).sel(
        sender=["0.0", "0.1", "0.2", "0.3"]
    ),
    "QK": lambda pair: uw.weights.qk_circuit(pair.model, tokens=WORDS),
    "QK shares": lambda pair: uw.weights.qk_circuit(pair.model, tokens=WORDS, softmax=True),
    "OV": lambda pair: uw.weights.ov_circuit(pair.model, tokens=WORDS),
    "K-composition": lambda pair: uw.weights.k_composition(
        pair.model, "0.1", "1.0", "tokens", uw.weights.mean_query(pair.model, pair.prompts, "1.0")
    ),
    "V-composition": lambda pair: uw.weights.v_composition(pair.model, "0.1", "1.0", "tokens"),
    "singular values": lambda pair: xr.DataArray(uw.weights.qk_matrices(pair.model).svd().s),
    "norms of circuits": lambda pair: xr.DataArray(uw.weights.ov_matrices(pair.model).norm()),
    "circuit by mean": lambda pair: faithfulness(pair, "mean"),
    "circuit by template": lambda pair: faithfulness(pair, "template"),
}
METRICS = [uw.LogitDiff(), uw.LogProb(), uw.CrossEntropy(), uw.ProbDiff(), uw.KLToClean()]
METRICS += [uw.Custom(lambda logits, prompts: logits.log_softmax(-1)[:, ANSWER], "a metric of the user's")]


def compare(found: xr.DataArray, expected: xr.DataArray, dtype: torch.dtype) -> None:
    """`found` is near `expected`, as a share of its largest value. Refuses to compare where that is no effect."""
    largest = float(abs(expected).max())
    if not largest >= LEAST:
        raise ValueError(f"the largest value is {largest:.2g}: noise would be compared with noise")
    assert found.dtype == (np.float64 if expected.attrs.get("method") == "copying eigenvalues" else np.float32)
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=TOLERANCE[dtype] * largest)


@pytest.fixture(scope="module")
def wide() -> uw.Contrast:
    return loud_pair(loud_model(), uw.LogitDiff())


@pytest.fixture(scope="module")
def halves(wide: uw.Contrast) -> list[uw.Contrast]:
    """The same weights in half precision."""
    return [replace(wide, model=wide.model.to(dtype=dtype)) for dtype in HALVES]


def test_the_model_is_loud(wide: uw.Contrast) -> None:
    run, most = wide.model.run(wide.prompts, keep=["scores", "resid_mid", "mlp_out"]), torch.finfo(torch.float16).max
    scores = run["scores"][run["scores"].isfinite()] / wide.model.config.score_scale
    for large in (scores, run["resid_mid", 1] ** 2, run["mlp_out", 0].sum(0)):
        assert float(large.abs().max()) > most


@pytest.mark.parametrize("name", METHODS)
def test_a_method(halves: list[uw.Contrast], wide: uw.Contrast, name: str) -> None:
    expected = METHODS[name](wide)
    for half in halves:
        compare(METHODS[name](half), expected, half.model.dtype)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_metric(metric: Metric, dtype: torch.dtype) -> None:
    wide = loud_pair(loud_model(), metric)
    half = replace(wide, model=wide.model.to(dtype=dtype))
    compare(xr.DataArray(half.corrupted_scores), xr.DataArray(wide.corrupted_scores), dtype)
    found, expected = (uw.patch(pair, "z", ("layer", "head"), progress=False) for pair in (half, wide))
    compare(found, expected, dtype)


@pytest.fixture(scope="module")
def single(wide: uw.Contrast) -> uw.Contrast:
    return replace(wide, model=wide.model.to(dtype=torch.float32))


@pytest.mark.parametrize("name", METHODS)
def test_autocast_changes_no_number(single: uw.Contrast, name: str) -> None:
    expected = METHODS[name](single)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = METHODS[name](replace(single))
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-4 * float(abs(expected).max()))


def test_autocast_changes_no_weights(single: uw.Contrast) -> None:
    expected = single.model.process("fold_norm").weights.named()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = single.model.process("fold_norm").weights.named()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_small_numbers_are_not_compared() -> None:
    noise = xr.DataArray(np.full(3, 1e-16))
    with pytest.raises(ValueError, match="noise"):
        compare(noise.astype(np.float32), noise, torch.float16)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_words_are_copied_or_not_by_logits_that_are_not_rounded(dtype: torch.dtype) -> None:
    model = loud_model()
    expected, found = (uw.heads.copying_scores(m, list(range(D_VOCAB)), top=3) for m in (model, model.to(dtype=dtype)))
    assert 0.1 < float(expected.mean()) < 0.9
    assert float((found == expected).mean()) > 0.95


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_factored_matrices_are_float32(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    left, right, other = (torch.randn(6, 6, generator=draw).to(dtype) for _ in range(3))
    found, expected = uw.weights.FactoredMatrix(left, right), uw.weights.FactoredMatrix(left.double(), right.double())
    for product in (found, found @ other, other @ found, found @ found, found.between(other, other)):
        assert {product.matrix.dtype, product.norm().dtype, product.svd().s.dtype} == {torch.float32}
    torch.testing.assert_close(found.svd().s.double(), expected.svd().s, rtol=1e-4, atol=1e-4)
    sizes = [matrix.eigenvalues().abs().sort().values.double() for matrix in (found, expected)]
    torch.testing.assert_close(*sizes, rtol=1e-3, atol=1e-3)
    assert found.apply(other[0]).dtype == torch.float32


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_gradients(dtype: torch.dtype) -> None:
    """Of the mean log-probability of the answer, to the embeddings: as those of the same weights in float64."""
    slopes = []
    for model in (loud_model(), loud_model().to(dtype=dtype)):
        embeddings = model.weights.w_e.clone().requires_grad_()
        weights = replace(model.weights, w_e=embeddings)
        tokens = torch.arange(N_POS)[None]
        logits = unembed(weights, forward(model.config, weights, tokens))
        logits[0, -1].log_softmax(-1)[ANSWER].backward()
        assert embeddings.grad is not None
        slopes.append(xr.DataArray(embeddings.grad.double()))
    wide, half = slopes
    compare(half.astype(np.float32), wide, dtype)
