"""A matrix kept as the product of two thin ones.

A head's circuits `W_Q W_K^T` and `W_V W_O` are `[d_model, d_model]` and of rank `d_head` at most. Kept as factors,
products, norms, singular values and eigenvalues cost what the thin factors cost:

- with `left = Q_l R_l` and `right^T = Q_r R_r` (QR decompositions), the core `R_l R_r^T` is small, and has the singular
  values and the norm of the whole;
- the eigenvalues of `left right` that are not 0 are those of `right left`, which is small too.

Only `.matrix` forms the whole.
"""

from dataclasses import dataclass
from types import EllipsisType
from typing import NamedTuple, final

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from unweave.errors import InputError
from unweave.models.precision import widened, without_autocast
from unweave.models.weights import abbreviated

Index = int | slice | EllipsisType | list | Tensor


class SVD(NamedTuple):
    """`u diag(s) vh`; `s` is sorted, the largest first. `rank` is the smallest of rows, inner and columns."""

    u: Float[Tensor, "*batch rows rank"]
    s: Float[Tensor, "*batch rank"]
    vh: Float[Tensor, "*batch rank columns"]

    __repr__ = abbreviated


@final
@dataclass(frozen=True, repr=False, eq=False)
class FactoredMatrix:
    """`left @ right`, never multiplied out: `[*batch rows inner]` and `[*batch inner columns]`.

    Leading axes (layers, heads) are a batch, and broadcast against each other. Factors in half precision become
    float32: half precision has no decompositions, and products of several matrices overflow in it.

    Raises:
        InputError: factors that are no matrices, or whose inner sizes or batches do not fit.
    """

    # Checked below, so that a misfit is an InputError, and not an error of the annotations where these are checked.
    left: Tensor  # [*batch rows inner]
    right: Tensor  # [*batch inner columns]

    def __post_init__(self) -> None:
        left, right = self.left, self.right
        if left.ndim < 2 or right.ndim < 2 or left.shape[-1] != right.shape[-2]:
            raise InputError(
                f"factors: expected [..., rows, inner] and [..., inner, columns], got {_size(left)} and {_size(right)}"
            )
        batch = _common_batch(left, right)
        object.__setattr__(self, "left", widened(left).expand(*batch, *left.shape[-2:]))
        object.__setattr__(self, "right", widened(right).expand(*batch, *right.shape[-2:]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole: `(*batch, rows, columns)`."""
        return (*self.left.shape[:-1], self.right.shape[-1])

    @property
    @without_autocast
    def matrix(self) -> Float[Tensor, "*batch rows columns"]:
        """The whole, multiplied out."""
        return self.left @ self.right

    @property
    def mT(self) -> "FactoredMatrix":  # noqa: N802 - torch's own name
        """Rows and columns exchanged."""
        return FactoredMatrix(self.right.mT, self.left.mT)

    @without_autocast
    def __matmul__(self, other: "FactoredMatrix | Tensor") -> "FactoredMatrix":
        """`self @ other`, where `other` is a matrix, factored or not; for a vector see `apply`."""
        _check_meets(self.shape, tuple(other.shape))
        if isinstance(other, Tensor):
            return FactoredMatrix(self.left, self.right @ widened(other))
        core = self.right @ other.left
        # the narrower of the two inner sizes is kept
        if core.shape[-2] <= core.shape[-1]:
            return FactoredMatrix(self.left, core @ other.right)
        return FactoredMatrix(self.left @ core, other.right)

    @without_autocast
    def __rmatmul__(self, other: Tensor) -> "FactoredMatrix":
        """`other @ self`, where `other` is a tensor: a matrix."""
        _check_meets(tuple(other.shape), self.shape)
        return FactoredMatrix(widened(other) @ self.left, self.right)

    def between(self, left: Tensor, right: Tensor) -> "FactoredMatrix":
        """`left @ self @ right`, where both are matrices, such as embeddings."""
        return self.__rmatmul__(left) @ right

    @without_autocast
    def apply(self, vector: Float[Tensor, " columns"]) -> Float[Tensor, "*batch rows"]:
        """`self @ vector`."""
        _check_meets(self.shape, (*vector.shape, 1))
        return (self.left @ (self.right @ widened(vector))[..., None])[..., 0]

    def __getitem__(self, index: Index | tuple[Index, ...]) -> "FactoredMatrix":
        """Part of the batch, `m[0, 3]`, or of rows and columns, `m[..., :5, [1, 2]]`.

        Raises:
            InputError: too many indices, or a single row or column (which would be no matrix).
        """
        entries = index if isinstance(index, tuple) else (index,)
        n_batch = len(self.shape) - 2
        batch, rows, columns = _split_index(entries, n_batch)
        return FactoredMatrix(self.left[*batch][..., rows, :], self.right[*batch][..., columns])

    @without_autocast
    def norm(self) -> Float[Tensor, "*batch"]:
        """Frobenius norm."""
        return torch.linalg.matrix_norm(self._core()[1])

    @without_autocast
    def svd(self) -> SVD:
        """The singular value decomposition, without the vectors of singular values that are 0 for sure."""
        q_left, core, q_right = self._core()
        u, s, vh = torch.linalg.svd(core, full_matrices=False)
        return SVD(q_left @ u, s, vh @ q_right.mT)

    @without_autocast
    def eigenvalues(self) -> Complex[Tensor, "*batch rank"]:
        """The `min(rows, inner)` eigenvalues that may differ from 0, in no order.

        Raises:
            InputError: a matrix that is not square.
        """
        rows, columns = self.shape[-2:]
        if rows != columns:
            raise InputError(f"eigenvalues: the matrix is {rows} x {columns}, and only a square one has any; see svd()")
        small = self.right @ self.left if self.left.shape[-1] <= rows else self.matrix
        return torch.linalg.eigvals(small)

    def _core(self) -> tuple[Tensor, Tensor, Tensor]:
        """`Q_l`, `R_l R_r^T` and `Q_r`: the whole is `Q_l core Q_r^T`."""
        q_left, r_left = torch.linalg.qr(self.left)
        q_right, r_right = torch.linalg.qr(self.right.mT)
        return q_left, r_left @ r_right.mT, q_right

    def __repr__(self) -> str:
        return f"FactoredMatrix({list(self.shape)}, inner {self.left.shape[-1]}, {self.left.dtype})"


def _common_batch(left: Tensor, right: Tensor) -> tuple[int, ...]:
    try:
        return torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except RuntimeError as error:
        raise InputError(
            f"factors: the leading axes of {_size(left)} and {_size(right)} do not fit each other"
        ) from error


def _check_meets(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    if len(first) < 2 or len(second) < 2:
        raise InputError(f"@: {list(first)} times {list(second)}: expected matrices; a vector goes to apply(vector)")
    if first[-1] != second[-2]:
        raise InputError(f"@: {list(first)} times {list(second)} does not fit: the inner sizes must be equal")


def _split_index(entries: tuple[Index, ...], n_batch: int) -> tuple[tuple[Index, ...], Index, Index]:
    """Indices of the batch, the rows and the columns."""
    every = slice(None)
    if Ellipsis not in [entry for entry in entries if isinstance(entry, EllipsisType)]:
        entries = (*entries, Ellipsis)
    at = next(place for place, entry in enumerate(entries) if isinstance(entry, EllipsisType))
    missing = n_batch + 2 - (len(entries) - 1)
    if missing < 0:
        raise InputError(f"index: {len(entries) - 1} indices for a matrix with {n_batch + 2} axes")
    full = (*entries[:at], *[every] * missing, *entries[at + 1 :])
    *batch, rows, columns = full
    if isinstance(rows, int) or isinstance(columns, int):
        raise InputError("index: one row or column alone is no matrix; write 3:4 for 3, or index .matrix")
    return tuple(batch), rows, columns


def _size(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
