"""`uw.training`: training of small models: what is learned from, how, the loop, and what it leaves in a folder."""

from unweave.models.training.checkpoints import checkpoints as checkpoints
from unweave.models.training.examples import Examples as Examples
from unweave.models.training.examples import TrainingData as TrainingData
from unweave.models.training.loop import train as train
from unweave.models.training.recipe import Recipe as Recipe
