"""Edges against the naive loop of hooks on the reference library's model, one forward pass an edge, and against others'
figures; attribution patching against finite differences."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from jaxtyping import Float
from torch import Tensor

import unweave as uw
from tests.oracle.both import Both, both
from tests.oracle.edges_reference import edges_reference, reference_name
from tests.oracle.hooks import Edit, Trace
from tests.oracle.models import FAMILIES
from tests.oracle.paths import Path as Route
from tests.oracle.paths import frozen, received, run_kept
from tests.oracle.sweeps import index_of, logit_difference, unpatched
from unweave.nodes import read_node

SMALL = 1e-6
# Of each kind of sender and receiver some; the last edges of every model, too.
EVERY = 11


def sampled(edges: xr.DataArray) -> list[int]:
    """Numbers of edges: every eleventh, and the last ones."""
    return sorted({*range(0, edges.sizes["edge"], EVERY), *range(edges.sizes["edge"] - 4, edges.sizes["edge"])})


def route(edges: xr.DataArray, number: int, role: str | None = None) -> Route:
    """An edge as a path of the oracle: everything on the way is frozen, so that the change comes as it was sent."""
    sender = read_node(str(edges["sender"].values[number]))
    sends = ("embed", 0, None) if sender.site == "embed" else (sender.site, sender.layer, sender.part)
    name, kind = str(edges["receiver"].values[number]), str(edges["input"].values[number])
    reads = read_node(f"{kind} {name}" if kind else name)
    receives = None if reads.site == "logits" else ((kind or "mlp_in", reads.layer, reads.part),)
    return Route((sends,), receives, sends_at=role, live_mlps=False)


def naive(asked: Both, path: Route, direction: str, share: float = 1.0) -> Float[Tensor, " prompt"]:
    """The effect of an edge that is sent a share of the change, over that share."""
    clean, corrupted = unpatched(asked.hf, asked.pair)
    tokens, ours, theirs = (
        (asked.pair.clean, clean, corrupted) if direction == "noise" else (asked.pair.corrupted, corrupted, clean)
    )
    score = logit_difference(asked.pair)
    base, gap = score(ours.logits), (score(clean.logits) - score(corrupted.logits)).mean()
    partly = Trace(theirs.logits, {key: own + share * (theirs.sites[key] - own) for key, own in ours.sites.items()})
    read = {site for site, _, _ in path.receivers or ()}
    second = run_kept(asked.hf, tokens, frozen(asked.hf, asked.pair, path, ours, partly), tuple(read))
    if path.receivers is not None:
        edits = [received(asked.hf, asked.pair, path, second, receiver) for receiver in path.receivers]
        second = run_kept(asked.hf, tokens, edits, ())
    return (score(second.logits) - base) / gap / share


def responded(asked: Both, path: Route) -> Float[Tensor, " prompt"]:
    """As `naive`, of the receiver's whole response, of which a small share goes on."""
    clean, corrupted = unpatched(asked.hf, asked.pair)
    score = logit_difference(asked.pair)
    gap = (score(clean.logits) - score(corrupted.logits)).mean()
    assert path.receivers is not None
    ((kind, layer, _),) = path.receivers
    second = run_kept(asked.hf, asked.pair.clean, frozen(asked.hf, asked.pair, path, clean, corrupted), (kind,))
    site = "mlp_out" if kind == "mlp_in" else "z"
    edit = received(asked.hf, asked.pair, path, second, path.receivers[0])
    third = run_kept(asked.hf, asked.pair.clean, [edit], (site,))
    own = clean.sites[site, layer]
    partly = own + SMALL * (third.sites[site, layer] - own)
    last = run_kept(asked.hf, asked.pair.clean, [Edit(site, layer, index_of(site), partly)], ())
    return (score(last.logits) - score(clean.logits)) / gap / SMALL


CASES = list(product(FAMILIES, (("noise", "equal", "swap"), ("denoise", "unequal", "ABC"))))


@pytest.mark.parametrize(("family", "case"), CASES, ids=lambda value: value if isinstance(value, str) else value[0])
def test_exact_edges_are_those_of_the_naive_loop(family: str, case: tuple[str, str, str]) -> None:
    direction, lengths, corruption = case
    asked = both(family, lengths, corruption)
    found = uw.edges(asked.contrast, "exact", direction=direction, progress=False)
    assert float(abs(found).max()) > 0.1
    for number in sampled(found):
        expected = naive(asked, route(found, number), direction)
        np.testing.assert_allclose(found[:, number].values, expected.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_edges_sent_at_a_role(family: str) -> None:
    asked = both(family, "unequal", "swap")
    role = "S2"
    found = {how: uw.edges(asked.contrast, how, at=role, progress=False) for how in ("exact", "gradient")}
    assert float(abs(found["exact"]).max()) > 0.05
    for number in sampled(found["exact"])[::2]:
        path = route(found["exact"], number, role)
        np.testing.assert_allclose(found["exact"][:, number], naive(asked, path, "noise"), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found["gradient"][:, number], naive(asked, path, "noise", SMALL), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_derivatives_of_the_naive_loop(family: str) -> None:
    asked = both(family, "equal", "swap")
    gradient, local = (uw.edges(asked.contrast, how, progress=False) for how in ("gradient", "local"))
    assert float(abs(gradient).max()) > 0.1
    for number in sampled(gradient):
        path = route(gradient, number)
        np.testing.assert_allclose(gradient[:, number], naive(asked, path, "noise", SMALL), rtol=1e-3, atol=1e-5)
        if path.receivers is not None:
            np.testing.assert_allclose(local[:, number], responded(asked, path), rtol=1e-3, atol=1e-5)
    to_logits = local["receiver"] == "logits"
    exact = uw.edges(asked.contrast, "exact", receivers="logits", progress=False)
    np.testing.assert_allclose(local[:, to_logits.values], exact, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> tuple[dict, uw.Contrast]:
    return edges_reference(shared_data)


@pytest.mark.parametrize(
    ("how", "theirs"),
    [
        ("exact", "exact"),
        ("gradient", "EAP"),
        ("integrated", "EAP-IG-inputs"),
        ("integrated activations", "EAP-IG-activations"),
        ("both ends", "clean-corrupted"),
    ],
)
def test_scores_of_another_implementation(reference: tuple[dict, uw.Contrast], how: str, theirs: str) -> None:
    file, pair = reference
    expected = {reference_name(edge): score for edge, score in file["edges"][theirs].items()}
    changes = uw.edges(pair, how, progress=False).mean("prompt") * pair.gap
    assert set(changes["edge"].values) == set(expected)
    # The file has twelve decimals.
    np.testing.assert_allclose(changes.sel(edge=list(expected)), list(expected.values()), rtol=1e-9, atol=6e-13)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradients_of_a_senders_edges_sum_to_that_of_the_sender(family: str) -> None:
    pair = both(family, "unequal", "swap").contrast
    edges = uw.edges(pair, "gradient", progress=False)
    heads: Any = uw.attribution_patch(pair, "z", ("layer", "head"), "noise", progress=False)
    layers: Any = uw.attribution_patch(pair, "mlp_out", ("layer",), "noise", progress=False)
    for name, group in edges.groupby("sender"):
        node = read_node(str(name))
        if node.site == "z":
            np.testing.assert_allclose(group.sum("edge"), heads.sel(layer=node.layer, head=node.part), rtol=1e-9)
        elif node.site == "mlp_out":
            np.testing.assert_allclose(group.sum("edge"), layers.sel(layer=node.layer), rtol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("site", "over"),
    [
        ("z", ("layer", "head", "role")),
        ("resid_pre", ("layer", "pos")),
        ("pattern", ("layer", "head", "q_pos", "k_pos")),
        ("k", ("head", "layer")),
        ("mlp_post", ("layer", "neuron")),
    ],
)
def test_attribution_patching_is_patching_to_first_order(family: str, site: str, over: tuple[str, ...]) -> None:
    pair = both(family, "equal", "swap").contrast
    predicted: Any = uw.attribution_patch(pair, site, over, "noise", progress=False)
    patched = uw.patch(pair, site, over, "noise", progress=False)
    assert predicted.dims == patched.dims
    assert all(predicted[name].equals(patched[name]) for name in patched.coords)
    assert float(abs(predicted).max()) > 0.05
    assert np.isfinite(predicted.values).all()
    # A small share of the change has that share of the predicted effect.
    whole: Any = uw.attribution_patch(pair, site, {"layer": [1]}, "noise", progress=False)[:, 0]
    own, donor = (pair.model.run(prompts, [site])[site, 1] for prompts in (pair.prompts, pair.corrupted))
    run = pair.model.run(pair.prompts, edits=[uw.Edit(site, 1, own + SMALL * (donor - own))])
    np.testing.assert_allclose(
        whole, (uw.LogitDiff()(run, pair.prompts) - pair.clean_scores) / pair.gap / SMALL, rtol=1e-3, atol=1e-5
    )
    if "role" not in over:
        others = [dim for dim in predicted.dims if dim not in ("prompt", "layer")]
        np.testing.assert_allclose(predicted.sel(layer=1).sum(others), whole, rtol=1e-9, atol=1e-12)


def test_verified_runs_the_largest_and_a_sample() -> None:
    pair = both("llama-grouped", "equal", "ABC").contrast
    exact, gradient, local = (uw.edges(pair, how, progress=False) for how in ("exact", "gradient", "local"))
    found = uw.edges(pair, verify=12, control=20, seed=3, progress=False)
    run = found["run"].values
    assert [(run == kind).sum() for kind in ("largest", "drawn", "")] == [12, 20, found.sizes["edge"] - 32]
    np.testing.assert_array_equal(np.isnan(found.values).any(0), run == "")
    np.testing.assert_allclose(found[:, run != ""], exact[:, run != ""], rtol=1e-9, atol=1e-12)
    sizes = np.maximum(*(abs(scores.mean("prompt")).values for scores in (gradient, local)))
    assert sizes[run == "largest"].min() >= sizes[run != "largest"].max()
    np.testing.assert_allclose(found["local"], local.mean("prompt"), rtol=1e-9, atol=1e-12)
    # Were more than this share of the others larger, 20 draws would all miss them in fewer than 5 of 100 cases.
    assert (1 - found.attrs["larger_share"]) ** 20 == pytest.approx(0.05)
    assert found.attrs["larger_than"] == pytest.approx(float(abs(exact[:, run == "drawn"].mean("prompt")).max()))
    everything = uw.edges(pair, verify=10_000, progress=False)
    assert everything.attrs["n_not_run"] == 0
    np.testing.assert_allclose(everything, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("how", ["exact", "gradient", "local", "integrated"])
def test_edges_do_not_depend_on_the_memory(how: str) -> None:
    pair = both("llama-grouped", "unequal", "ABC").contrast
    whole, tight = (uw.edges(pair, how, memory=memory, progress=False) for memory in (None, 1))
    np.testing.assert_allclose(tight, whole, rtol=1e-9, atol=1e-12)


def test_edges_of_some_ends_are_those_of_all() -> None:
    pair = both("neox-parallel", "equal", "swap").contrast
    some = uw.edges(pair, senders=["embed", "0.1", "mlp 1"], receivers=["2.2", "mlp -1", "logits"], progress=False)
    assert set(some["receiver"].values) == {"2.2", "mlp 2", "logits"}
    assert some["input"].values.tolist()[:4] == ["q", "k", "v", ""]
    for how in ("exact", "local"):
        whole = uw.edges(pair, how, progress=False).sel(edge=some["edge"].values)
        one = some if how == "exact" else some["local"]
        np.testing.assert_allclose(one, whole if how == "exact" else whole.mean("prompt"), rtol=1e-9, atol=1e-12)
    # In a parallel block attention and MLP read one stream: no edge joins them.
    joined = uw.edges(pair, "gradient", progress=False)
    assert not ((joined["sender"] == "1.0") & (joined["receiver"] == "mlp 1")).any()


def test_ctrl_c_keeps_the_edges_that_are_done() -> None:
    pair = both("gpt2", "equal", "swap").contrast

    def stop(done: float, total: float) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(uw.Interrupted) as caught:
        uw.edges(pair, "exact", memory=1, progress=stop)
    partial: Any = caught.value.partial
    whole = uw.edges(pair, "exact", progress=False)
    done = ~np.isnan(partial.values)
    assert 0.2 < done.mean() < 1
    np.testing.assert_allclose(partial.values[done], whole.values[done], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"how": "exactly"}, "exact"),
        ({"senders": ["9.0"]}, "layers 0 to 2"),
        ({"senders": ["q 1.0"]}, "q 1.0"),
        ({"senders": "1.0 + 1.1"}, "together"),
        ({"receivers": ["1.0", "1.0"]}, "1.0"),
        ({"receivers": []}, "receivers"),
        ({"receivers": ["mlp 0"], "senders": ["mlp 1"]}, "later"),
        ({"verify": 0}, "verify"),
        ({"steps": 0}, "steps"),
        ({"at": "nowhere"}, "nowhere"),
        ({"direction": "both"}, "denoise"),
    ],
)
def test_what_cannot_be_asked(options: dict[str, Any], word: str) -> None:
    with pytest.raises(uw.InputError, match=word):
        uw.edges(both("gpt2", "equal", "swap").contrast, progress=False, **options)


def test_a_metric_without_a_gradient_has_exact_edges_only() -> None:
    pair = both("gpt2", "equal", "swap").contrast
    ranked = uw.Contrast(pair.model, pair.prompts, pair.corrupted, uw.Rank())
    assert float(abs(uw.edges(ranked, "exact", progress=False)).max()) > 0.1
    with pytest.raises(uw.InputError, match="gradient"):
        uw.edges(ranked, progress=False)
    with pytest.raises(uw.InputError, match="gradient"):
        uw.attribution_patch(ranked, "z", ("layer", "head"), progress=False)


@pytest.mark.parametrize("metric", [uw.LogProb(), uw.ProbDiff(), uw.CrossEntropy(), uw.KLToClean()])
def test_other_metrics(metric: Any) -> None:
    pair = both("gpt2", "equal", "swap").contrast
    asked = uw.Contrast(pair.model, pair.prompts, pair.corrupted, metric)
    direction = "denoise" if metric.needs_reference else "noise"  # KL has no slope at the clean run
    exact, local = (uw.edges(asked, how, direction=direction, progress=False) for how in ("exact", "local"))
    to_logits = (exact["receiver"] == "logits").values
    np.testing.assert_allclose(local[:, to_logits], exact[:, to_logits], rtol=1e-9, atol=1e-12)
    assert np.corrcoef(local.values.ravel(), exact.values.ravel())[0, 1] > 0.5


def test_a_metric_at_its_lowest_predicts_nothing_and_is_refused() -> None:
    pair = both("gpt2", "equal", "swap").contrast
    divergence = uw.Contrast(pair.model, pair.prompts, pair.corrupted, uw.KLToClean())
    for how in ("gradient", "local", "verified"):
        with pytest.raises(uw.InputError, match="no gradient"):
            uw.edges(divergence, how, progress=False)
    with pytest.raises(uw.InputError, match="no gradient"):
        uw.attribution_patch(divergence, "z", ("layer", "head"), direction="noise", progress=False)
    for found in (
        uw.edges(divergence, "gradient", direction="denoise", progress=False),
        uw.edges(divergence, "integrated", progress=False),
    ):
        assert float(abs(found.mean("prompt")).max()) > 0.01
