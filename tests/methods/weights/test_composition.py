"""Composition scores and circuits against matrices multiplied out."""

import numpy as np
import pytest
import torch
import xarray as xr

import unweave as uw
from tests.tiny import D_HEAD, N_CTX, tiny_model
from unweave.methods.weights.composition import composition_baseline, composition_score
from unweave.methods.weights.head_matrices import class_direction, ov_matrices, qk_matrices
from unweave.models.factored import FactoredMatrix


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_scores_are_those_of_whole_matrices(kind) -> None:
    model = tiny_model(kind)
    found = uw.weights.composition_scores(model, ["0.1", "1.2"], ["1.0", "2.3"], pairs=2)
    ov, qk = ov_matrices(model).matrix, qk_matrices(model).matrix
    reads = {"Q": qk, "K": qk.mT, "V": ov}
    at = {"0.1": 1, "1.2": 6, "1.0": 4, "2.3": 11}
    for name, matrices in reads.items():
        for sender, receiver in (("0.1", "1.0"), ("0.1", "2.3"), ("1.2", "2.3")):
            a, b = ov[at[sender]], matrices[at[receiver]]
            expected = (a @ b).norm() / a.norm() / b.norm()
            assert float(found.sel(kind=name, sender=sender, receiver=receiver)) == pytest.approx(float(expected))
    assert bool(found.sel(sender="1.2", receiver="1.0").isnull().all())


def test_all_pairs_of_layers_are_there() -> None:
    found = uw.weights.composition_scores(tiny_model("gpt2"), pairs=2)
    assert found.shape == (3, 8, 8)
    later = found.receiver_layer > found.sender_layer
    assert bool((found.notnull() == later).all())
    assert bool(((found >= 0) & (found <= 1)).where(later, True).all())


def test_what_the_receiver_cannot_read_composes_not_at_all() -> None:
    rows = torch.eye(6, dtype=torch.float64)
    sender = FactoredMatrix(rows[None, :, :2], rows[None, :2])
    apart, same = FactoredMatrix(rows[None, :, 4:], rows[None, 4:]), FactoredMatrix(rows[None, :, :2], rows[None, :2])
    assert float(composition_score(sender, apart)) == 0
    assert float(composition_score(sender, same)) == pytest.approx(2**0.5 / 2)
    assert float(composition_score(sender, FactoredMatrix(rows[None, :, :2] * 0, rows[None, :2]))) == 0


def test_the_baseline_is_seeded_and_shrinks_with_the_width() -> None:
    narrow, wide = composition_baseline(16, 4, 50, 1), composition_baseline(256, 4, 50, 1)
    assert narrow == composition_baseline(16, 4, 50, 1)
    assert narrow != composition_baseline(16, 4, 50, 2)
    assert narrow.mean == pytest.approx(
        16**-0.5, rel=0.1
    )  # a vector keeps that share of its size in a random direction
    assert wide.mean == pytest.approx(256**-0.5, rel=0.1)
    with pytest.raises(uw.InputError, match="at least 2"):
        composition_baseline(16, 4, 1)


def test_circuits_by_position_and_by_token() -> None:
    model = tiny_model("gpt2")
    ov, qk = ov_matrices(model).matrix, qk_matrices(model).matrix
    w_pos, w_e = model.weights.w_pos, model.weights.w_e
    assert w_pos is not None
    k = uw.weights.k_composition(model, (0, 1), (2, 3), query=5)
    np.testing.assert_allclose(k, w_pos[5] @ qk[11] @ (w_pos @ ov[1]).T, atol=1e-10)
    assert k.dims == ("pos",)
    assert k.sizes["pos"] == N_CTX
    v = uw.weights.v_composition(model, (0, 1), (2, 3), "tokens", outputs=(3, 7))
    np.testing.assert_allclose(v, w_e @ ov[1] @ ov[11] @ class_direction(model, (3, 7)), atol=1e-10)
    np.testing.assert_allclose(
        uw.weights.v_composition(model, (0, 1), (2, 3), "tokens", outputs=(7, 3)), -v, atol=1e-12
    )


def test_a_given_query_asks_as_its_position_does() -> None:
    model = tiny_model("gpt2")
    w_pos = model.weights.w_pos
    assert w_pos is not None
    query = w_pos[5] @ qk_matrices(model, ["2.3"]).left[0]
    given, named = (uw.weights.k_composition(model, "0.1", "2.3", query=q) for q in (query, 5))
    np.testing.assert_allclose(given, named, atol=1e-12)


def test_the_mean_query_is_a_mean_of_queries() -> None:
    model, tokens = tiny_model("llama"), torch.arange(12).reshape(3, 4)
    queries = model.run(tokens, keep=("q", 1))["q", 1][:, -1, 2]
    torch.testing.assert_close(uw.weights.mean_query(model, tokens, "1.2"), queries.mean(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: uw.weights.composition_scores(m, ["2.0"]), "none stands in a later layer"),
        (lambda m: uw.weights.composition_scores(m, ["1.0"], ["1.1"]), "none stands in a later layer"),
        (lambda m: uw.weights.k_composition(m, "1.0", "1.1"), "no later layer"),
        (lambda m: uw.weights.k_composition(m, "0.0", "1.1", query=N_CTX), f"positions 0 to {N_CTX - 1}"),
        (lambda m: uw.weights.k_composition(m, "0.0", "1.1", query=torch.ones(D_HEAD + 1)), r"expected \[4\]"),
        (lambda m: uw.weights.v_composition(m, "0.0", "1.1", "both"), "'positions' or 'tokens'"),
        (lambda m: uw.weights.v_composition(m, "0.0", "1.1", outputs=(0, 0)), "two different outputs"),
        (lambda m: uw.weights.v_composition(m, "0.0", "1.1", outputs=(0, 99)), "0 to 22"),
    ],
)
def test_pairs_that_cannot_compose_are_one_clear_error(call, message: str) -> None:
    with pytest.raises(uw.InputError, match=message):
        call(tiny_model("gpt2"))


def test_ctrl_c_keeps_the_layers_that_were_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from unweave.methods.weights import composition

    calls, real = [], composition._scores

    def twice(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(composition, "_scores", twice)
    with pytest.raises(uw.Interrupted) as caught:
        uw.weights.composition_scores(tiny_model("gpt2"), pairs=2)
    partial = caught.value.partial
    assert isinstance(partial, xr.DataArray)
    assert bool(partial.where(partial.receiver_layer == 1, drop=True).sel(sender="0.0").notnull().all())
    assert bool(partial.where(partial.receiver_layer == 2, drop=True).isnull().all())
