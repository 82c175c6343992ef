"""unweave finds the circuit that a transformer language model uses for a task, and tests it.

    import unweave as uw

    model = uw.load_model("smollm2-135m")
    task = uw.tasks.ioi(model, n_prompts=32, seed=0)
    pair = uw.Contrast(model, task.prompts, task.corrupt("ABC"), uw.LogitDiff())
    heads = uw.patch(pair, "z", over=("layer", "head"))
    uw.show(heads)

What only some users need has a module of its own: `uw.weights` (weight circuits), `uw.heads` (what single heads do),
`uw.classifier`, `uw.training`, `uw.tasks`, `uw.metrics`. Names are imported when they are first used, so that
`import unweave` and the command's help cost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from unweave.version import __version__ as __version__

# Where each public name lives. The block under TYPE_CHECKING says the same to editors and type checkers.
_HOMES = {
    "load_model": "unweave.models.loading",
    "save_model": "unweave.models.native",
    "small_config": "unweave.models.small",
    "Config": "unweave.models.config",
    "Model": "unweave.models.model",
    "Edit": "unweave.models.run",
    "Node": "unweave.nodes",
    "Prompts": "unweave.models.prompts",
    "Task": "unweave.tasks",
    "Contrast": "unweave.metrics.contrast",
    "Accuracy": "unweave.metrics",
    "CrossEntropy": "unweave.metrics",
    "Custom": "unweave.metrics",
    "KLToClean": "unweave.metrics",
    "LogProb": "unweave.metrics",
    "LogitDiff": "unweave.metrics",
    "ProbDiff": "unweave.metrics",
    "Rank": "unweave.metrics",
    "Circuit": "unweave.circuits.circuit",
    "Edge": "unweave.nodes",
    "Group": "unweave.circuits.circuit",
    "EvaluationOptions": "unweave.circuits.evaluate",
    "evaluate": "unweave.circuits.evaluate",
    "SketchOptions": "unweave.circuits.sketch",
    "prune": "unweave.circuits.prune",
    "sketch": "unweave.circuits.sketch",
    "attention": "unweave.methods.attention",
    "attribute": "unweave.methods.attribution",
    "logit_lens": "unweave.methods.attribution",
    "attribution_patch": "unweave.methods.attribution_patch",
    "curve": "unweave.circuits.edge_curve",
    "edges": "unweave.methods.edges",
    "knockout": "unweave.methods.knockout",
    "Replacement": "unweave.methods.replacement",
    "test_prompt": "unweave.methods.one_prompt",
    "patch": "unweave.methods.patching",
    "over_models": "unweave.methods.over_models",
    "path_patch": "unweave.methods.path_patching",
    "patch_at": "unweave.methods.patching",
    "load": "unweave.results",
    "load_edges": "unweave.circuits.eap_ig",
    "save": "unweave.results",
    "agreement": "unweave.results.comparison",
    "compare": "unweave.results.comparison",
    "stability": "unweave.results.comparison",
    "summary": "unweave.results",
    "top": "unweave.results",
    "display_seq": "unweave.views.prompt_list",
    "report": "unweave.views",
    "show": "unweave.views",
    "InputError": "unweave.errors",
    "Interrupted": "unweave.errors",
    "ModelError": "unweave.errors",
    "UnweaveError": "unweave.errors",
}
# Modules with names of their own: `uw.weights.qk_circuit`.
_ROOMS = {
    "classifier": "unweave.methods.classifier",
    "heads": "unweave.methods.heads",
    "metrics": "unweave.metrics",
    "tasks": "unweave.tasks",
    "training": "unweave.models.training",
    "weights": "unweave.methods.weights",
}

__all__ = sorted([*_HOMES, *_ROOMS, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return import_module(_ROOMS[name])
    if name not in _HOMES:
        raise AttributeError(f"module 'unweave' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)


if TYPE_CHECKING:
    from unweave import metrics as metrics
    from unweave import tasks as tasks
    from unweave.circuits.circuit import Circuit as Circuit
    from unweave.circuits.circuit import Group as Group
    from unweave.circuits.eap_ig import load_edges as load_edges
    from unweave.circuits.edge_curve import curve as curve
    from unweave.circuits.evaluate import EvaluationOptions as EvaluationOptions
    from unweave.circuits.evaluate import evaluate as evaluate
    from unweave.circuits.prune import prune as prune
    from unweave.circuits.sketch import SketchOptions as SketchOptions
    from unweave.circuits.sketch import sketch as sketch
    from unweave.errors import InputError as InputError
    from unweave.errors import Interrupted as Interrupted
    from unweave.errors import ModelError as ModelError
    from unweave.errors import UnweaveError as UnweaveError
    from unweave.methods import classifier as classifier
    from unweave.methods import heads as heads
    from unweave.methods import weights as weights
    from unweave.methods.attention import attention as attention
    from unweave.methods.attribution import attribute as attribute
    from unweave.methods.attribution import logit_lens as logit_lens
    from unweave.methods.attribution_patch import attribution_patch as attribution_patch
    from unweave.methods.edges import edges as edges
    from unweave.methods.knockout import knockout as knockout
    from unweave.methods.one_prompt import test_prompt as test_prompt
    from unweave.methods.over_models import over_models as over_models
    from unweave.methods.patching import patch as patch
    from unweave.methods.patching import patch_at as patch_at
    from unweave.methods.path_patching import path_patch as path_patch
    from unweave.methods.replacement import Replacement as Replacement
    from unweave.metrics import Accuracy as Accuracy
    from unweave.metrics import CrossEntropy as CrossEntropy
    from unweave.metrics import Custom as Custom
    from unweave.metrics import KLToClean as KLToClean
    from unweave.metrics import LogitDiff as LogitDiff
    from unweave.metrics import LogProb as LogProb
    from unweave.metrics import ProbDiff as ProbDiff
    from unweave.metrics import Rank as Rank
    from unweave.metrics.contrast import Contrast as Contrast
    from unweave.models import training as training
    from unweave.models.config import Config as Config
    from unweave.models.loading import load_model as load_model
    from unweave.models.model import Model as Model
    from unweave.models.native import save_model as save_model
    from unweave.models.prompts import Prompts as Prompts
    from unweave.models.run import Edit as Edit
    from unweave.models.small import small_config as small_config
    from unweave.nodes import Edge as Edge
    from unweave.nodes import Node as Node
    from unweave.results import load as load
    from unweave.results import save as save
    from unweave.results import summary as summary
    from unweave.results import top as top
    from unweave.results.comparison import agreement as agreement
    from unweave.results.comparison import compare as compare
    from unweave.results.comparison import stability as stability
    from unweave.tasks import Task as Task
    from unweave.views import report as report
    from unweave.views import show as show
    from unweave.views.prompt_list import display_seq as display_seq
