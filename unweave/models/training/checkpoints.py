"""The models of one training, epoch by epoch, as `uw.training.train` left them in its folder."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

from unweave.models.loading import load_model
from unweave.models.model import Model
from unweave.models.training.folder import Epoch, epoch_folder, read_history


@final
class Checkpoints(Mapping[int, Model]):
    """Models by epoch, in order, each read from disk when it is asked for; `history` says how they did."""

    def __init__(self, folder: Path, history: tuple[Epoch, ...]) -> None:
        self.folder, self.history = folder, history

    def __getitem__(self, epoch: int) -> Model:
        if epoch not in self._epochs():
            raise KeyError(f"{self.folder} has epochs 0 to {self.history[-1].epoch}, and none {epoch!r}")
        return load_model(epoch_folder(self.folder, epoch), device="cpu")

    def __iter__(self) -> Iterator[int]:
        return iter(self._epochs())

    def __len__(self) -> int:
        return len(self.history)

    def __contains__(self, epoch: object) -> bool:
        return epoch in self._epochs()

    def __repr__(self) -> str:
        return f"<Checkpoints in {self.folder}: epochs 0 to {self.history[-1].epoch}>"

    def _epochs(self) -> list[int]:
        return [row.epoch for row in self.history]


def checkpoints(folder: str | os.PathLike[str]) -> Checkpoints:
    """The models after each epoch of the training in a folder, epoch 0 the untrained one; read when asked for.

        run = uw.training.checkpoints("palindrome-run")
        run[15]                                  # the model after epoch 15
        uw.over_models(run, method)              # any method along the training

    Raises:
        InputError: no training in that folder.
        ModelError: its record cannot be read.
    """
    path = Path(folder).expanduser()
    return Checkpoints(path, read_history(path))
