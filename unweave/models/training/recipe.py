"""How a model is trained: the numbers that, with the config and the examples, decide every weight."""

import math
from dataclasses import dataclass

from unweave.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Adam over shuffled batches (Kingma and Ba 2015, arXiv 1412.6980).

    `epochs` times over the examples, `batch` of them a step, at the learning rate `lr`; the last batch of an epoch
    holds what is left. `weight_decay` is decoupled from the gradient (Loshchilov and Hutter 2019, arXiv 1711.05101).
    `seed` is that of the initial weights and of the order of the examples.

    Raises:
        InputError: a number that no training can have.
    """

    epochs: int = 15
    batch: int = 512
    lr: float = 1e-3
    weight_decay: float = 0.0
    seed: int = 42

    def __post_init__(self) -> None:
        for name, number in (("epochs", self.epochs), ("batch", self.batch)):
            if number < 1:
                raise InputError(f"{name}: expected at least 1, got {number}")
        if not 0 < self.lr < math.inf:
            raise InputError(f"lr: expected a positive number such as 0.001, got {self.lr}")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay: expected 0 or a positive number, got {self.weight_decay}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed: expected 0 to 2**63 - 1, got {self.seed}")
