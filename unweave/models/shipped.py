"""Models that come with unweave itself: small ones, trained by `unweave train`.

Each is a folder in our own format beside this file, with the `training.json` of its training: the recipe, where the
examples came from, and the accuracy after each epoch. `unweave train NAME` with the same recipe makes it again.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unweave.models.model import Model
from unweave.models.native import read_native


@dataclass(frozen=True, kw_only=True)
class ShippedModel:
    """A model in the package, of unweave's own licence."""

    name: str
    description: str
    licence: str = "Apache-2.0"

    @property
    def folder(self) -> Path:
        return Path(__file__).parent / "data" / self.name


SHIPPED = {
    model.name: model
    for model in (
        ShippedModel(
            name="palindrome",
            description="Palindrome classifier: 2 layers x 2 heads, attention only; 20 values between START and END",
        ),
    )
}


def read_shipped(name: str, tokenizer: Any = None) -> Model:
    """A model of the package, its weights as they are stored. Raises ModelError where its files are damaged."""
    model = read_native(SHIPPED[name].folder, tokenizer)
    return replace(model, config=replace(model.config, source=f"comes with unweave as {name!r}"))
