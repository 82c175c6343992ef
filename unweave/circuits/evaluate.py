"""The three tests of a circuit, from one call: faithfulness, completeness, minimality (arXiv 2211.00593).

What they share are ablated runs (`unweave.circuits.masked_runs`); what they mean stands in their modules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from unweave.circuits.ablation import ablation_of
from unweave.circuits.circuit import Circuit
from unweave.circuits.completeness import completeness
from unweave.circuits.faithfulness import faithfulness
from unweave.circuits.minimality import minimality
from unweave.circuits.runs import CircuitRuns
from unweave.errors import InputError, Interrupted
from unweave.methods.replacement import Replacement
from unweave.metrics.contrast import Contrast, check_pair
from unweave.models.prompts import Prompts
from unweave.progress import Progress, shown

if TYPE_CHECKING:
    import xarray as xr


TESTS = ("faithfulness", "completeness", "minimality")


@final
@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is tried, and how it is drawn.

    Args:
        controls: random circuits of the same size.
        subsets: random subsets of the circuit, for completeness.
        searches, steps, candidates: greedy searches for completeness, steps of each, heads drawn in each step.
        seed: of all draws.
        union: keep the positions of all prompts together in each prompt, as some published code does, in place of each
            prompt's own.

    Raises:
        InputError: a negative number.
    """

    controls: int = 3
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

    def __post_init__(self) -> None:
        for name in ("controls", "subsets", "searches", "steps", "candidates"):
            if getattr(self, name) < 0:
                raise InputError(f"effort: {name}: expected 0 or more, got {getattr(self, name)}")


def evaluate(
    circuit: Circuit,
    pair: Contrast,
    reference: Prompts | None = None,
    *,
    how: str | Replacement | None = None,
    effort: Effort | None = None,
    progress: Progress | bool | None = None,
) -> xr.DataTree:
    """Ablates what is not in a circuit, and says how well the rest does the task.

    Args:
        circuit: what is tested; only its heads are.
        pair: model, prompts and metric. F is the metric's mean over the clean prompts, with their answers.
        reference: the prompts whose mean stands in for a head. By default the corrupted prompts where each template has
            at least five; else more of them, drawn as the pair's own (see `unweave.circuits.reference`); where that
            cannot be, the corrupted prompts, and a template of one is refused.
        how: "template" (the default where prompts have templates), "mean", "zero" or "resample", or a
            `Replacement("template", lone="keep")`, which takes the mean of a single prompt for what it is.
        effort: how many random circuits, subsets and searches; `Effort()` by default.
        progress: None for a bar on a terminal, True, False, or a function of what is done and what there is.

    Returns:
        Three Datasets, `score["faithfulness"]`, `score["completeness"]` and `score["minimality"]`, described at the
        functions of these names. Intervals are over prompts.

    Raises:
        InputError: a circuit of another model, a head or role that is not there, or reference prompts that give no
            means.
        Interrupted: Ctrl-C; its `partial` holds the tests that were finished.
    """
    if not isinstance(circuit, Circuit):
        raise InputError(f"circuit: expected a Circuit, got a {type(circuit).__name__}; uw.sketch(pair) finds one")
    check_pair(pair)
    import xarray as xr

    effort = effort or Effort()
    tables: dict[str, xr.Dataset] = {}
    with shown(progress, "evaluate") as report:
        tell = _counter(report, 3 + effort.steps * bool(effort.searches))
        try:
            runs = CircuitRuns(circuit, ablation_of(circuit, pair, how, reference, effort.union))
            _check_scale(runs)
            tables["faithfulness"] = faithfulness(runs, effort.controls, effort.seed)
            tell()
            tables["minimality"] = minimality(runs)
            tell()
            tables["completeness"] = completeness(runs, effort.subsets, effort.greedy, effort.seed, tell)
            tell()
        except KeyboardInterrupt:
            done = ", ".join(tables) or "none"
            raise Interrupted(
                f"in the evaluation of a circuit; finished: {done}", xr.DataTree.from_dict(tables)
            ) from None
    return xr.DataTree.from_dict({name: tables[name] for name in TESTS})


def findings(score: xr.DataTree) -> list[str]:
    """What an evaluation found: a line for each test."""
    return [_faithful(score["faithfulness"].to_dataset()), _complete(score), _minimal(score)]


def _faithful(table: xr.Dataset) -> str:
    mean = table["score"].mean("prompt").to_series()
    own = table.sel(kept="circuit")
    span = f"[{float(own.ratio_low):.2f}, {float(own.ratio_high):.2f}]"
    apart = f"[{float(own.difference_low):.2f}, {float(own.difference_high):.2f}]"
    controls = [value for name, value in mean.items() if str(name).startswith("random")]
    spread = f"{min(controls):.2f} to {max(controls):.2f}" if controls else ""
    random = f"; {len(controls)} random circuits as large {spread}" if controls else ""
    return (
        f"faithfulness: {int(own.heads)} of {table.attrs['model_heads']} heads give F(C) {mean['circuit']:.2f} "
        f"of F(M) {mean['model']:.2f}, ratio {float(own.ratio):.2f} {span}, difference {float(own.difference):.2f} "
        f"{apart}; no head {mean['nothing']:.2f}{random}"
    )


def _complete(score: xr.DataTree) -> str:
    table = score["completeness"].to_dataset()
    worst = table.isel(removed=int(table["gap"].values.argmax()))
    which = f"{worst.removed.item()}: {worst.members.item()}"
    return (
        f"completeness: the gap |F(C \\ K) - F(M \\ K)| is {float(table['gap'].mean()):.2f} on average over "
        f"{table.sizes['removed']} K, and {float(worst.gap):.2f} at worst ({which})"
    )


def _minimal(score: xr.DataTree) -> str:
    table = score["minimality"].to_dataset()
    least = table.isel(address=int(table["size"].values.argmin()))
    needed = int(((table["share_low"] > 0) | (table["share_high"] < 0)).sum())
    return (
        f"minimality: {needed} of {table.sizes['address']} heads change F beyond their interval; the least is "
        f"{least.address.item()}, {float(least.size):.1%} of F(M) without {least.members.item() or 'nothing else'}"
    )


def _check_scale(runs: CircuitRuns) -> None:
    whole = runs.whole.values
    if not float(whole.mean().abs()) > 1e-6 * float(whole.abs().max()):
        raise InputError(
            f"pair: the model's {runs.pair.metric.name} is 0 on average, so a circuit's share of it has no meaning; "
            "choose prompts that the model can do, or another metric"
        )


def _counter(report: Progress | None, total: int) -> Callable[[], None]:
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if report is not None:
            report(done, total)

    return tell
