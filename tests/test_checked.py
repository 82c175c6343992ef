"""The tests' own check of shapes: one that does not hold fails, in arguments and in what is returned."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from torch import Tensor

import unweave as uw
from tests.readers import unchecked


@jaxtyping.jaxtyped(typechecker=None)
def first_rows(x: Float[Tensor, "row d"], like: "Float[Tensor, 'row other']") -> Float[Tensor, "row d"]:
    return x[:2]


def test_axes_of_one_name_are_equally_long() -> None:
    assert first_rows(torch.ones(2, 3), torch.ones(2, 5)).shape == (2, 3)
    for rows in (2, 3):  # an argument, and what is returned
        with pytest.raises(BeartypeCallHintViolation):
            first_rows(torch.ones(3, 3), torch.ones(rows, 5))
    with unchecked():
        assert first_rows(torch.ones(3, 3), torch.ones(2, 5)).shape == (2, 3)


@jaxtyping.jaxtyped(typechecker=None)
def rows_of(x: Float[Tensor, "row d"]) -> Iterator[Float[Tensor, " d"]]:
    yield from x


@jaxtyping.jaxtyped(typechecker=None)
def last_row(y: Float[Tensor, "row d"]) -> Float[Tensor, " d"]:
    return list(rows_of(y.repeat(2, 1)))[-1]


def test_a_generator_has_axes_of_its_own() -> None:
    assert last_row(torch.ones(2, 3)).shape == (3,)


def test_the_package_is_checked() -> None:
    with pytest.raises(BeartypeCallHintViolation):
        uw.classifier.other_tokens(torch.ones(2, 3), 5)
