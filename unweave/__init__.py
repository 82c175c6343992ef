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

import ast
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from unweave.version import __version__ as __version__

# The one list of public names: editors and type checkers read it, and so does `__getattr__`.
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


def _homes() -> dict[str, str]:
    """The module that each public name is imported from."""
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    found = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in found for alias in node.names}


_HOMES = _homes()
__all__ = sorted([*_HOMES, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'unweave' has no attribute {name!r}")
    home = _HOMES[name]
    value = None if home == __name__ else getattr(import_module(home), name, None)
    # Modules have public names too: `uw.weights`.
    globals()[name] = value = value or import_module(f"{home}.{name}")
    return value


def __dir__() -> list[str]:
    return list(__all__)
