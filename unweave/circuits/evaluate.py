"""The tests of a circuit, from one call: faithfulness and its curve, completeness, minimality (arXiv 2211.00593).

What they share are ablated runs (`unweave.circuits.runs`); their modules say what they mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import xarray as xr

from unweave.circuits.ablation import Ablation, ablation_of
from unweave.circuits.circuit import Circuit
from unweave.circuits.completeness import completeness
from unweave.circuits.edge_runs import edge_ablation
from unweave.circuits.edge_tests import EdgeTests, edge_tests
from unweave.circuits.faithfulness import curve, faithfulness, sizes_of
from unweave.circuits.minimality import minimality
from unweave.circuits.runs import CircuitRuns
from unweave.engine.edge_graph import EdgeGraph
from unweave.errors import InputError, Interrupted
from unweave.methods.replacement import Replacement
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.prompts import Prompts
from unweave.progress import Progress, shown

TESTS = ("faithfulness", "curve", "completeness", "minimality")


@final
@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How much `evaluate` tries, and how it draws.

    Args:
        controls: random circuits of the same size.
        subsets: random subsets of the circuit, for completeness.
        best: heads that are searched for one by one, for the curve of faithfulness.
        searches, steps, candidates: greedy searches for completeness, steps of each, heads drawn in each step.
        seed: of all draws.
        union: keep the positions of all prompts together in each prompt, as some published code does, in place of each
            prompt's own.

    Raises:
        InputError: a negative number.
    """

    controls: int = 20
    best: int = 6
    subsets: int = 10
    searches: int = 2
    steps: int = 10
    candidates: int = 5
    seed: int = 0
    union: bool = False

    @property
    def greedy(self) -> tuple[int, int, int]:
        """Searches, steps and candidates."""
        return self.searches, self.steps, self.candidates

    def most_runs(self, circuit: Circuit) -> int:
        """How many choices of heads are scored at most, and one more."""
        n = len(circuit.heads)
        curve = self.best * max(n, 1) + 2 * len(sizes_of(n))
        removed = 1 + len(circuit.groups) + self.subsets + self.searches
        return 1 + self.controls + curve + 2 * n + 2 * removed + 2 * (1 + self.searches * self.steps * self.candidates)

    def __post_init__(self) -> None:
        for name in ("controls", "best", "subsets", "searches", "steps", "candidates"):
            if getattr(self, name) < 0:
                raise InputError(f"effort: {name}: expected 0 or more, got {getattr(self, name)}")


def evaluate(
    circuit: Circuit,
    pair: Contrast,
    reference: Prompts | None = None,
    *,
    how: str | Replacement | None = None,
    source: str | Prompts | None = None,
    effort: EvaluationOptions | None = None,
    memory: int | float | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataTree:
    """Ablates what is not in a circuit, and says how well the rest does the task.

    Of a circuit that keeps edges every other edge is ablated, of heads and MLPs alike, and `how` is "donor" by
    default: the corrupted prompts' values. It has no test of minimality: `uw.prune` drops what is not needed. Its curve
    is in the order of its edges' effects, on all prompts.

    Args:
        circuit: what is tested: its heads, or the edges that it keeps.
        pair: model, prompts and metric. F is the metric's mean over the clean prompts, with their answers.
        reference: the prompts whose mean replaces a head. By default the corrupted prompts where each template has
            at least five; else more of them, drawn as the pair's own (see `unweave.circuits.ablation`); where that
            cannot be, the corrupted prompts, and a template of one is refused.
        how: "template" (the default where prompts have templates), "mean", "zero" or "resample", or a
            `Replacement("template", lone="keep")`, which takes the mean of a single prompt for what it is.
        source: "corrupted" (the default), "clean" or prompts: whose mean or value replaces it, as in `knockout`. Of too
            few prompts per template more are drawn, as above.
        effort: how many random circuits, subsets and searches; `EvaluationOptions()` by default.
        memory: as in `patch`; prompts and masks are taken in batches that fit.
        progress: None for a bar on a terminal, True, False, or a function of what is done and what there is.

    Returns:
        Four Datasets, `score["faithfulness"]`, `score["curve"]`, `score["completeness"]` and, of heads,
        `score["minimality"]`, described at the functions of these names. Intervals are over prompts. What the curve and
        completeness search for is chosen on one half of the prompts and reported on the other, if there are 8 or more
        (`halves`).

    Raises:
        InputError: a circuit of another model, a head or role that is not there, or reference prompts that give no
            means.
        Interrupted: Ctrl-C; its `partial` holds the tests that were finished.
    """
    if not isinstance(circuit, Circuit):
        raise InputError(f"circuit: expected a Circuit, got a {type(circuit).__name__}; uw.sketch(pair) finds one")
    check_pair(pair)
    effort = effort or EvaluationOptions()
    tables: dict[str, xr.Dataset] = {}
    with shown(progress, "evaluate") as report:
        try:
            if circuit.keeps == "edges":
                circuit.check(pair)
                outside = edge_ablation(pair, EdgeGraph(pair.model.config), how, reference, source, memory)
                each = EdgeTests.of(circuit, outside, memory)
                made = edge_tests(each, effort.controls, effort.subsets, effort.seed, report)
            else:
                ablation = ablation_of(circuit, pair, how, reference, effort.union, source=source, memory=memory)
                made = _head_tests(circuit, ablation, effort, memory, report)
            for name, test in made:
                tables[name] = test
        except KeyboardInterrupt:
            done = ", ".join(tables) or "none"
            raise Interrupted(
                f"in the evaluation of a circuit; finished: {done}", xr.DataTree.from_dict(tables)
            ) from None
    return xr.DataTree.from_dict({name: tables[name] for name in TESTS if name in tables})


def _head_tests(
    circuit: Circuit,
    ablation: Ablation,
    effort: EvaluationOptions,
    memory: int | float | None,
    report: Progress | None,
) -> Iterator[tuple[str, xr.Dataset]]:
    total = effort.most_runs(circuit)
    runs = CircuitRuns(circuit, ablation, memory, lambda done: report(done, total) if report else None)
    _check_scale(runs)
    yield "faithfulness", faithfulness(runs, effort.controls, effort.seed)
    yield "curve", curve(runs, effort.best)
    yield "minimality", minimality(runs)
    yield "completeness", completeness(runs, effort.subsets, effort.greedy, effort.seed)
    runs.tell(total)


def _check_scale(runs: CircuitRuns) -> None:
    whole = runs.whole.values
    if not float(whole.mean().abs()) > 1e-6 * float(whole.abs().max()):
        raise InputError(
            f"pair: the model's {runs.pair.metric.name} is 0 on average, so a circuit's share of it has no meaning; "
            "choose prompts that the model can do, or another metric"
        )
