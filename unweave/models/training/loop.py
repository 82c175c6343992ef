"""The training loop. There is one forward pass: the model that is trained is computed by `unweave.models.forward`.

1. Initial weights and the order of the examples come from one generator, seeded by the recipe.
2. An epoch takes every example once, in batches: cross-entropy where there is a label, its gradient, a step of Adam.
3. After each epoch the model answers the held-out examples, and the folder, if there is one, gets a checkpoint.

Only a finished epoch is kept. Ctrl-C, wherever it falls, costs the epoch that was under way and nothing else: resumed,
the training makes the same draws and ends in the same weights, bit for bit, as one that was never stopped. That holds
on one machine with one number of threads: sums are cut up by thread, and round differently when cut differently.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from unweave.errors import InputError, Interrupted
from unweave.models.config import Config
from unweave.models.model import Model
from unweave.models.training.examples import Examples, TrainingData, answers
from unweave.models.training.folder import Epoch, TrainingFolder
from unweave.models.training.initial import initial_weights
from unweave.models.training.recipe import Recipe
from unweave.models.weights import Weights
from unweave.progress import Progress, shown

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Training:
    """A model as far as it was trained, and how it did after each epoch; `history[0]` is the untrained model."""

    model: Model
    recipe: Recipe
    history: tuple[Epoch, ...]

    @property
    def accuracy(self) -> float:
        """The share of held-out labels that the model gets right."""
        return self.history[-1].accuracy

    @property
    def finished(self) -> bool:
        return self.history[-1].epoch == self.recipe.epochs


def train(
    config: Config,
    data: TrainingData,
    recipe: Recipe | None = None,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | bool | None = None,
) -> Training:
    """Train a model from random weights, on the device of the data.

    Args:
        config: the shape of the model, such as `uw.small_config(…)`.
        data: examples to learn from, and held-out ones that the model is tested on after each epoch.
        recipe: epochs, batch, learning rate, seed; `Recipe()` if left out.
        folder: gets the trained model (`uw.load_model(folder)`), one of each epoch (`uw.training.checkpoints(folder)`),
            and what resuming takes. Nothing is written without it.
        resume: go on with the training in `folder`, from its last finished epoch.
        progress: True for a bar on stderr, False for none, or a function of (done, total); by default a bar on a
            terminal.

    Returns:
        The trained model and its history. The same seed gives the same weights, bit for bit, on the same machine with
        the same number of threads.

    Raises:
        InputError: data that do not fit the config; a folder that holds a training already, or, with `resume`, one of
            another config, recipe or data, with what differs; a loss that is no longer a number.
        Interrupted: Ctrl-C. `partial` is the training up to its last finished epoch, or None.
    """
    recipe = recipe or Recipe()
    config = replace(config, source="trained by unweave", revision="", quantization="", processing=())
    data.check(config)
    if resume and folder is None:
        raise InputError("resume: which training? give its folder too, folder=…")
    kept = None if folder is None else TrainingFolder.opened(Path(folder), config, recipe, data, resume)
    state = _State.begun(config, recipe, data)
    if kept is not None and resume:
        state.restore(*kept.restored())
    done = state.training(config, recipe)
    with shown(progress, f"training {config.name}") as report:
        try:
            for epoch in range(len(state.history), recipe.epochs + 1):
                loss = _learn(state, config, recipe, data.examples, report) if epoch else None
                state.history.append(_tested(config, state.weights, data.held_out, epoch, loss))
                latest = state.training(config, recipe)
                if kept is not None:
                    kept.keep(latest.model, latest.history, state.tensors())
                done = latest
            if kept is not None:
                kept.finish(done.model)
        except KeyboardInterrupt:
            raise Interrupted(_where_it_stopped(done, kept), done if done.history else None) from None
    return done


@dataclass
class _State:
    """What training changes: the weights, Adam's moments, the generator, and the history so far."""

    weights: Weights
    optimiser: torch.optim.Optimizer
    draw: torch.Generator
    history: list[Epoch]

    @classmethod
    def begun(cls, config: Config, recipe: Recipe, data: TrainingData) -> "_State":
        draw = torch.Generator().manual_seed(recipe.seed)
        device = data.examples.tokens.device
        weights = initial_weights(config, draw).to(device).map(lambda tensor: tensor.requires_grad_())
        adam = torch.optim.AdamW(weights.named().values(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        return cls(weights, adam, draw, [])

    def training(self, config: Config, recipe: Recipe) -> Training:
        """As far as it is, in storage of its own."""
        model = Model(config, self.weights.map(lambda tensor: tensor.detach().clone()))
        return Training(model, recipe, tuple(self.history))

    def tensors(self) -> dict[str, Tensor]:
        """All that resuming takes, as tensors by name."""
        moments = self.optimiser.state_dict()["state"]
        return {
            **{f"weights.{name}": tensor.detach() for name, tensor in self.weights.named().items()},
            **{f"adam.{place}.{name}": value for place, row in moments.items() for name, value in row.items()},
            "generator": self.draw.get_state(),
        }

    def restore(self, tensors: dict[str, Tensor], history: tuple[Epoch, ...]) -> None:
        """Go back to where `tensors` were taken."""
        with torch.no_grad():
            for name, tensor in self.weights.named().items():
                tensor.copy_(tensors[f"weights.{name}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("adam."):
                _, place, name = key.split(".")
                moments.setdefault(int(place), {})[name] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})
        self.draw.set_state(tensors["generator"])
        self.history = list(history)


def _learn(state: _State, config: Config, recipe: Recipe, examples: Examples, report: Progress | None) -> float:
    """One epoch. Returns the mean loss over its labels, each as it was when its batch was learned from."""
    n_batches = math.ceil(len(examples) / recipe.batch)
    done, n_steps = (len(state.history) - 1) * n_batches, recipe.epochs * n_batches
    order = torch.randperm(len(examples), generator=state.draw).to(examples.tokens.device)
    total, n_labels = 0.0, 0
    for step, rows in enumerate(order.split(recipe.batch), start=done):
        with torch.enable_grad():
            logits, labels = answers(config, state.weights, examples.take(rows))
            loss = F.cross_entropy(logits, labels)
            state.optimiser.zero_grad()
            loss.backward()
        state.optimiser.step()
        total, n_labels = total + loss.item() * len(labels), n_labels + len(labels)
        if report is not None:
            report(step + 1, n_steps)
    if not math.isfinite(total):
        raise InputError(f"lr: the loss is no longer a number; give a smaller learning rate than {recipe.lr}")
    return total / n_labels


@torch.no_grad()
def _tested(config: Config, weights: Weights, held_out: Examples, epoch: int, loss: float | None) -> Epoch:
    """How the model does on the held-out examples."""
    total, right, n_labels = 0.0, 0, 0
    for part in _parts(held_out):
        logits, labels = answers(config, weights, part)
        total += F.cross_entropy(logits, labels, reduction="sum").item()
        right += int((logits.argmax(-1) == labels).sum())
        n_labels += len(labels)
    return Epoch(epoch=epoch, loss=loss, held_out_loss=total / n_labels, accuracy=right / n_labels)


def _parts(examples: Examples) -> Iterator[Examples]:
    rows = torch.arange(len(examples), device=examples.tokens.device)
    return (examples.take(part) for part in rows.split(ROWS_AT_ONCE))


def _where_it_stopped(done: Training, kept: TrainingFolder | None) -> str:
    if not done.history:
        return "training was stopped before an epoch was done"
    where = "not on disk, as there is no folder" if kept is None else f"kept in {kept.path}"
    return f"training was stopped; {done.history[-1].epoch} of {done.recipe.epochs} epochs are done, and {where}"
