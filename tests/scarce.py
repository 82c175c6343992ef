"""Machines that run out of memory: matrix products of more than so many rows, or prompts, are refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

LINEAR = F.linear


class Products:
    """Rows of the products of rows in flight `[row …]`, and prompts of those of whole prompts `[prompt pos …]`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: int | None = None, prompts: int | None = None) -> None:
        self.most = {2: rows, 3: prompts}
        self.rows: list[int] = []
        self.refused = 0
        monkeypatch.setattr(F, "linear", self._linear)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        most = self.most.get(x.ndim)
        if x.ndim == 2:
            self.rows.append(len(x))
        if most is not None and len(x) > most:
            self.refused += 1
            raise torch.OutOfMemoryError("refused")
        return LINEAR(x, weight, bias)
