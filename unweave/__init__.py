"""unweave finds the circuit that a transformer language model uses for a task, and tests it.

    import unweave as uw

    model = uw.load_model("smollm2-135m")
    task = uw.tasks.ioi(model, n_prompts=32, seed=0)
    pair = uw.Contrast(model, task.prompts, task.corrupt("ABC"), uw.LogitDiff())
    heads = uw.patch(pair, "z", over=("layer", "head"))
    uw.show(heads)

Names are imported when they are first used, so that `import unweave` and the command's help cost nothing.
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
    "train": "unweave.models.training.loop",
    "Recipe": "unweave.models.training.recipe",
    "Examples": "unweave.models.training.examples",
    "TrainingData": "unweave.models.training.examples",
    "checkpoints": "unweave.models.training.checkpoints",
    "Model": "unweave.models.model",
    "FactoredMatrix": "unweave.models.factored",
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
    "Effort": "unweave.circuits.evaluate",
    "evaluate": "unweave.circuits.evaluate",
    "SketchRules": "unweave.circuits.sketch",
    "sketch": "unweave.circuits.sketch",
    "attention": "unweave.methods.attention",
    "attribute": "unweave.methods.attribution",
    "logit_lens": "unweave.methods.attribution",
    "knockout": "unweave.methods.knockout",
    "Replacement": "unweave.methods.replacement",
    "knockout_attribution": "unweave.methods.backup",
    "backup_heads": "unweave.methods.backup",
    "head_scores": "unweave.methods.head_scores",
    "copying_scores": "unweave.methods.copying",
    "role_attention": "unweave.methods.role_attention",
    "attention_contribution": "unweave.methods.role_attention",
    "classify_heads": "unweave.methods.head_roles",
    "HeadRules": "unweave.methods.head_roles",
    "position_token": "unweave.methods.position_token",
    "test_prompt": "unweave.methods.one_prompt",
    "adversarial_prompts": "unweave.methods.blind_spots",
    "blind_spots": "unweave.methods.blind_spots",
    "other_tokens": "unweave.methods.blind_spots",
    "class_probability": "unweave.methods.blind_spots",
    "class_attribution": "unweave.methods.class_attribution",
    "attribution_through": "unweave.methods.attribution_through",
    "composition_scores": "unweave.methods.weights.composition",
    "k_composition": "unweave.methods.weights.composition_circuits",
    "v_composition": "unweave.methods.weights.composition_circuits",
    "mean_query": "unweave.methods.weights.composition_circuits",
    "copying_eigenvalues": "unweave.methods.weights.copying_eigenvalues",
    "qk_circuit": "unweave.methods.weights.full_circuits",
    "ov_circuit": "unweave.methods.weights.full_circuits",
    "top_1_accuracy": "unweave.methods.weights.full_circuits",
    "qk_matrices": "unweave.methods.weights.head_matrices",
    "ov_matrices": "unweave.methods.weights.head_matrices",
    "norm_scales": "unweave.methods.norm_scales",
    "rebuilt_attention": "unweave.methods.rebuilt_attention",
    "patch": "unweave.methods.patching",
    "over_models": "unweave.methods.over_models",
    "path_patch": "unweave.methods.path_patching",
    "patch_at": "unweave.methods.patching",
    "load": "unweave.results",
    "save": "unweave.results",
    "summary": "unweave.results",
    "top": "unweave.results",
    "display_seq": "unweave.views.sequences",
    "report": "unweave.views",
    "show": "unweave.views",
    "InputError": "unweave.errors",
    "Interrupted": "unweave.errors",
    "ModelError": "unweave.errors",
    "UnweaveError": "unweave.errors",
}
_ROOMS = ("metrics", "tasks")

__all__ = sorted([*_HOMES, *_ROOMS, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return import_module(f"unweave.{name}")
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
    from unweave.circuits.evaluate import Effort as Effort
    from unweave.circuits.evaluate import evaluate as evaluate
    from unweave.circuits.sketch import SketchRules as SketchRules
    from unweave.circuits.sketch import sketch as sketch
    from unweave.errors import InputError as InputError
    from unweave.errors import Interrupted as Interrupted
    from unweave.errors import ModelError as ModelError
    from unweave.errors import UnweaveError as UnweaveError
    from unweave.methods.attention import attention as attention
    from unweave.methods.attribution import attribute as attribute
    from unweave.methods.attribution import logit_lens as logit_lens
    from unweave.methods.attribution_through import attribution_through as attribution_through
    from unweave.methods.backup import backup_heads as backup_heads
    from unweave.methods.backup import knockout_attribution as knockout_attribution
    from unweave.methods.blind_spots import adversarial_prompts as adversarial_prompts
    from unweave.methods.blind_spots import blind_spots as blind_spots
    from unweave.methods.blind_spots import class_probability as class_probability
    from unweave.methods.blind_spots import other_tokens as other_tokens
    from unweave.methods.class_attribution import class_attribution as class_attribution
    from unweave.methods.copying import copying_scores as copying_scores
    from unweave.methods.head_roles import HeadRules as HeadRules
    from unweave.methods.head_roles import classify_heads as classify_heads
    from unweave.methods.head_scores import head_scores as head_scores
    from unweave.methods.knockout import knockout as knockout
    from unweave.methods.norm_scales import norm_scales as norm_scales
    from unweave.methods.one_prompt import test_prompt as test_prompt
    from unweave.methods.over_models import over_models as over_models
    from unweave.methods.patching import patch as patch
    from unweave.methods.patching import patch_at as patch_at
    from unweave.methods.path_patching import path_patch as path_patch
    from unweave.methods.position_token import position_token as position_token
    from unweave.methods.rebuilt_attention import rebuilt_attention as rebuilt_attention
    from unweave.methods.replacement import Replacement as Replacement
    from unweave.methods.role_attention import attention_contribution as attention_contribution
    from unweave.methods.role_attention import role_attention as role_attention
    from unweave.methods.weights.composition import composition_scores as composition_scores
    from unweave.methods.weights.composition_circuits import k_composition as k_composition
    from unweave.methods.weights.composition_circuits import mean_query as mean_query
    from unweave.methods.weights.composition_circuits import v_composition as v_composition
    from unweave.methods.weights.copying_eigenvalues import copying_eigenvalues as copying_eigenvalues
    from unweave.methods.weights.full_circuits import ov_circuit as ov_circuit
    from unweave.methods.weights.full_circuits import qk_circuit as qk_circuit
    from unweave.methods.weights.full_circuits import top_1_accuracy as top_1_accuracy
    from unweave.methods.weights.head_matrices import ov_matrices as ov_matrices
    from unweave.methods.weights.head_matrices import qk_matrices as qk_matrices
    from unweave.metrics import Accuracy as Accuracy
    from unweave.metrics import CrossEntropy as CrossEntropy
    from unweave.metrics import Custom as Custom
    from unweave.metrics import KLToClean as KLToClean
    from unweave.metrics import LogitDiff as LogitDiff
    from unweave.metrics import LogProb as LogProb
    from unweave.metrics import ProbDiff as ProbDiff
    from unweave.metrics import Rank as Rank
    from unweave.metrics.contrast import Contrast as Contrast
    from unweave.models.config import Config as Config
    from unweave.models.factored import FactoredMatrix as FactoredMatrix
    from unweave.models.loading import load_model as load_model
    from unweave.models.model import Model as Model
    from unweave.models.native import save_model as save_model
    from unweave.models.prompts import Prompts as Prompts
    from unweave.models.run import Edit as Edit
    from unweave.models.small import small_config as small_config
    from unweave.models.training.checkpoints import checkpoints as checkpoints
    from unweave.models.training.examples import Examples as Examples
    from unweave.models.training.examples import TrainingData as TrainingData
    from unweave.models.training.loop import train as train
    from unweave.models.training.recipe import Recipe as Recipe
    from unweave.nodes import Edge as Edge
    from unweave.nodes import Node as Node
    from unweave.results import load as load
    from unweave.results import save as save
    from unweave.results import summary as summary
    from unweave.results import top as top
    from unweave.tasks import Task as Task
    from unweave.views import report as report
    from unweave.views import show as show
    from unweave.views.sequences import display_seq as display_seq
