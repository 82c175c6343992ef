"""Factored matrices against the same matrices multiplied out."""

import itertools

import pytest
import torch

from unweave import InputError
from unweave.models.factored import FactoredMatrix


def factored(*shape: int, inner: int = 3, seed: int = 0) -> FactoredMatrix:
    """A random batch of matrices of rank `inner`; `shape` is that of the whole."""
    draw = torch.Generator().manual_seed(seed)
    *batch, rows, columns = shape
    left = torch.randn(*batch, rows, inner, generator=draw, dtype=torch.float64)
    return FactoredMatrix(left, torch.randn(*batch, inner, columns, generator=draw, dtype=torch.float64))


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


SHAPES = [(6, 5), (2, 6, 5), (2, 3, 6, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inner", [1, 3, 8])
def test_norm_and_singular_values(shape: tuple[int, ...], inner: int) -> None:
    m = factored(*shape, inner=inner)
    u, s, vh = m.svd()
    close((u * s[..., None, :]) @ vh, m.matrix)
    close(s, torch.linalg.svdvals(m.matrix)[..., : min(inner, 5)])
    close(u.mT @ u, torch.eye(s.shape[-1], dtype=torch.float64).expand(*shape[:-2], -1, -1))
    close(m.norm(), torch.linalg.matrix_norm(m.matrix))


@pytest.mark.parametrize("inner", [2, 7])
def test_eigenvalues_are_those_of_the_whole_that_are_not_zero(inner: int) -> None:
    m = factored(2, 5, 5, inner=inner)
    for found, whole in zip(m.eigenvalues(), m.matrix, strict=True):
        expected = sorted(torch.linalg.eigvals(whole), key=lambda value: -abs(value))[: min(inner, 5)]
        left = sorted(found, key=lambda value: -abs(value))
        assert all(min(abs(a - b) for b in expected) < 1e-10 for a in left)
        assert all(min(abs(a - b) for b in left) < 1e-10 for a in expected)


def test_products_with_factored_matrices_matrices_and_vectors() -> None:
    wide, narrow = factored(2, 6, 5, inner=4), factored(2, 5, 7, inner=2, seed=1)
    product = wide @ narrow
    close(product.matrix, wide.matrix @ narrow.matrix)
    close((narrow.mT @ wide.mT).matrix, product.matrix.mT)
    assert product.left.shape[-1] == 2
    assert (narrow.mT @ wide.mT).left.shape[-1] == 2
    plain = torch.randn(5, 3, dtype=torch.float64)
    close((wide @ plain).matrix, wide.matrix @ plain)
    close((plain.mT @ narrow).matrix, plain.mT @ narrow.matrix)
    close(wide.apply(plain[:, 0]), wide.matrix @ plain[:, 0])
    columns = torch.randn(7, 4, dtype=torch.float64)
    close(narrow.between(plain.mT, columns).matrix, plain.mT @ narrow.matrix @ columns)


def test_batches_broadcast() -> None:
    layers, heads = factored(2, 1, 4, 4), factored(3, 4, 4, seed=1)
    assert (layers @ heads).shape == (2, 3, 4, 4)
    close((layers @ heads).matrix, layers.matrix @ heads.matrix)


def test_parts() -> None:
    m = factored(2, 3, 6, 5)
    cases = itertools.product([1, slice(None)], [slice(1, 4), [0, 2], slice(None)])
    for batch, rows in cases:
        close(m[batch, ..., rows, 1:3].matrix, m.matrix[batch, ..., rows, 1:3])
    close(m[1, 2].matrix, m.matrix[1, 2])
    close(m[1].matrix, m.matrix[1])
    close(m.mT.matrix, m.matrix.mT)
    assert m.mT[0].shape == (3, 5, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FactoredMatrix(torch.ones(3, 2), torch.ones(3, 2)), r"factors: .*\[3, 2\] and \[3, 2\]"),
        (lambda: FactoredMatrix(torch.ones(3), torch.ones(3, 2)), "factors: expected"),
        (lambda: FactoredMatrix(torch.ones(2, 3, 2), torch.ones(3, 2, 3)), "leading axes"),
        (lambda: factored(4, 5) @ factored(4, 5), r"\[4, 5\] times \[4, 5\]"),
        (lambda: factored(4, 5).apply(torch.ones(4, dtype=torch.float64)), "inner sizes"),
        (lambda: torch.ones(2, 5, dtype=torch.float64) @ factored(4, 5), "inner sizes"),
        (lambda: factored(4, 5) @ torch.ones(5, dtype=torch.float64), r"apply\(vector\)"),
        (lambda: factored(4, 5).eigenvalues(), "4 x 5"),
        (lambda: factored(4, 5)[2], "3:4"),
        (lambda: factored(4, 5)[0, 0, 0], "3 indices"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_it_prints_its_shape_and_not_its_numbers() -> None:
    assert repr(factored(2, 6, 5)) == "FactoredMatrix([2, 6, 5], inner 3, torch.float64)"
