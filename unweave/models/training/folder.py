"""What a training leaves in its folder.

    training.json         config, recipe, where the data came from and their fingerprint, the history
    config.json, model.safetensors        the trained model, once training has ended
    epoch-00, epoch-01, …  the model after each epoch, a model folder each
    state.safetensors     what resuming takes: weights, Adam's moments and the generator's state after the last epoch

After an epoch its model is written first, then the history, then the state. Each file appears whole or not at all, and
the state alone says which epoch is finished: a process that dies in between repeats that epoch.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unweave.errors import InputError, ModelError
from unweave.models.config import Config
from unweave.models.hf_folder import read_json, read_tensor_file
from unweave.models.model import Model
from unweave.models.native import save_model, write_tensors
from unweave.models.training.examples import TrainingData
from unweave.models.training.recipe import Recipe
from unweave.version import __version__
from unweave.whole_files import placed

RECORD, STATE = "training.json", "state.safetensors"
_PLAN = ("config", "recipe", "data")


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A model after `epoch` epochs.

    `loss` is the mean cross-entropy (nats a label) over the epoch's batches, each before it was learned from; None at
    epoch 0. `held_out_loss` and `accuracy`, the share of labels that win, are those of the held-out examples.
    """

    epoch: int
    loss: float | None
    held_out_loss: float
    accuracy: float


@dataclass(frozen=True)
class TrainingFolder:
    """The folder of one training. `plan` is what decides its weights: config, recipe and data."""

    path: Path
    plan: dict[str, Any]

    @classmethod
    def opened(cls, path: Path, config: Config, recipe: Recipe, data: TrainingData, resume: bool) -> "TrainingFolder":
        """A folder for a new training, or, with `resume`, that of a training to go on with.

        Raises:
            InputError: a folder that cannot be written to; that holds a training or a model already; or none to resume,
                or one of another plan, with what differs.
        """
        given = {
            "config": asdict(config),
            "recipe": asdict(recipe),
            "data": {**data.source, "fingerprint": data.fingerprint()},
        }
        opened = cls(path, json.loads(json.dumps(given)))
        if resume:
            opened._check_same()
        else:
            opened._check_free()
        return opened

    def _check_free(self) -> None:
        if (self.path / RECORD).exists():
            raise InputError(
                f"folder: {self.path} holds a training already; resume it (resume=True), or give another folder"
            )
        if (self.path / "config.json").exists():
            raise InputError(f"folder: {self.path} holds a model already; give another folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"folder: cannot make {self.path} ({error.strerror}); give another folder") from error

    def _check_same(self) -> None:
        if not (self.path / STATE).is_file():
            raise InputError(f"folder: there is no training to resume in {self.path}; leave resume out to begin one")
        found = _flat({part: read_record(self.path).get(part) for part in _PLAN})
        given = _flat(self.plan)
        differing = [
            f"{name} is {found.get(name, 'missing')} there and {given.get(name, 'missing')} here"
            for name in sorted(found.keys() | given.keys())
            if found.get(name, "missing") != given.get(name, "missing")
        ]
        if differing:
            raise InputError(
                f"folder: the training in {self.path} is another one: {'; '.join(differing)}; give what it was begun "
                "with, or another folder"
            )

    def restored(self) -> tuple[dict[str, Tensor], tuple[Epoch, ...]]:
        """The state after the last finished epoch, and the history until then. Raises ModelError for damaged files."""
        tensors = read_tensor_file(self.path / STATE)
        history = read_history(self.path)
        n_epochs = int(tensors.pop("n_epochs"))
        return tensors, history[:n_epochs]

    def keep(self, model: Model, history: tuple[Epoch, ...], tensors: dict[str, Tensor]) -> None:
        """Keep a finished epoch."""
        save_model(model, epoch_folder(self.path, history[-1].epoch))
        record = {**self.plan, "history": [asdict(epoch) for epoch in history], "unweave": __version__}
        text = json.dumps(record, indent=1) + "\n"
        with placed(self.path / RECORD) as spare:
            spare.write_text(text, encoding="utf-8")
        state = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        state["n_epochs"] = torch.tensor(len(history))
        write_tensors(self.path / STATE, state)

    def finish(self, model: Model) -> None:
        """Keep the trained model in the folder itself."""
        save_model(model, self.path)


def epoch_folder(path: Path, epoch: int) -> Path:
    """Where the model of an epoch lies in a training's folder."""
    return path / f"epoch-{epoch:02}"


def read_record(path: Path) -> dict[str, Any]:
    """The record of the training in a folder. Raises InputError where there is none."""
    if not (path / RECORD).is_file():
        raise InputError(
            f"folder: there is no training in {path} (no {RECORD}); give a folder that uw.training.train wrote"
        )
    return read_json(path / RECORD)


def read_history(path: Path) -> tuple[Epoch, ...]:
    """The epochs that a record tells of. Raises ModelError where they cannot be read."""
    try:
        return tuple(Epoch(**row) for row in read_record(path)["history"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path / RECORD}: cannot be read as the record of a training ({error})") from error


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names."""
    if not isinstance(value, dict):
        return {name: value}
    parts = [_flat(part, f"{name}.{key}".lstrip(".")) for key, part in value.items()]
    return {key: entry for part in parts for key, entry in part.items()}
