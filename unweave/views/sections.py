"""The sections and facts of a report, from the results alone."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from unweave.results.labels import number
from unweave.results.summary import summary
from unweave.views.answer import Fact
from unweave.views.baselines import Baseline, baselines
from unweave.views.blocks import Block, Details, Section, Table, Text
from unweave.views.choice import Roles, blocks_of, finding
from unweave.views.circuit.drawing import CircuitLike
from unweave.views.head_evidence import HeadRolesLike, roles_table
from unweave.views.path_effects import path_tables
from unweave.views.prompts import PromptList, pairs_of_results
from unweave.views.tables import baseline_table
from unweave.views.titles import task_finding
from unweave.views.wording import counted, interval, percent

if TYPE_CHECKING:
    import xarray

SHOWN_PROMPTS = 3

WRITTEN = "Where is the answer written?"
CARRIES = "What carries it?"
LOOKS = "Where do these heads look?"
DOES = "What does each head do?"
THROUGH = "Which acts through which?"
WITHOUT = "What happens without them?"
SIGNALS = "Is it position or token?"
ENOUGH = "Is the circuit enough?"
OTHERS = "Other results"
_SECTION = {
    "logit lens": WRITTEN,
    "direct logit attribution": WRITTEN,
    "activation patching": CARRIES,
    "attention": LOOKS,
    "attention between roles": LOOKS,
    "attention against contribution": LOOKS,
    "head scores": DOES,
    "copying scores": DOES,
    "path patching": THROUGH,
    "knockout": WITHOUT,
    "knockout attribution": WITHOUT,
    "backup heads": WITHOUT,
    "position and token": SIGNALS,
    "faithfulness": ENOUGH,
    "faithfulness curve": ENOUGH,
    "completeness": ENOUGH,
    "minimality": ENOUGH,
}
_LABELS = {
    ("logit lens", ""): "written",
    ("direct logit attribution", ""): "directly by",
    ("activation patching", "resid_pre"): "where it sits",
    ("activation patching", "z"): "carried by",
}
_ANSWERS = ({"stage"}, {"layer", "head"}, {"layer", "pos"}, {"layer", "role"})
# What each section's methods do, and what they do not say.
SAYS = {
    WRITTEN: (
        "The residual stream is a sum of what every head and MLP has written to it. The logit lens reads the answer "
        "from the sum as it stands after each layer; direct attribution reads it from each part alone. Both keep the "
        "last norm's scale as it was in the run. They see what is said to the output directly, and nothing of what "
        "acts through later layers.",
    ),
    CARRIES: (
        "In activation patching one activation of one run is put into the other, and everything behind it is computed "
        "again. An effect of 0 leaves the patched run as it was; the far end of the scale is the other run's score. "
        "The scale is the gap between the mean scores of the clean and the corrupted prompts.",
    ),
    LOOKS: (
        "Attention says from where a head may take what it writes. It is no effect: a head can look at a token and "
        "pass on nothing of it.",
    ),
    DOES: (
        "On random tokens that are repeated nothing has a meaning, so that what a head looks at there is its habit: "
        "the same token before, the token after that, or the token just before. A head copies if it raises the words "
        "that it looks at.",
    ),
    THROUGH: (
        "In path patching a head's output is exchanged on its way to chosen receivers alone. All other heads keep what "
        "they wrote, so that what changes came by this path. From the logits backwards, level by level, the circuit "
        "is found.",
    ),
    WITHOUT: (
        "In a knockout a head's output is replaced by one that says nothing of the prompt. Where other heads step in, "
        "less is lost than the head had written: attribution before and after shows which.",
    ),
    SIGNALS: (
        "The heads' outputs are taken from prompts whose subject has kept or lost its position, and kept or lost its "
        "token. What the score follows is what the heads carry.",
    ),
    ENOUGH: (
        "F is the score. Faithful: F(C), with all heads outside the circuit ablated, is near F(M) of the model. "
        "Complete: they stay near each other whatever heads K are taken out of both. Minimal: each head changes F "
        "beside some K.",
    ),
    OTHERS: (),
}
_ORDER = (WRITTEN, CARRIES, LOOKS, DOES, THROUGH, WITHOUT, SIGNALS, ENOUGH, OTHERS)


def sections_of(
    results: "Sequence[xarray.DataArray | xarray.Dataset]",
    circuit: CircuitLike | None = None,
    named: HeadRolesLike | None = None,
) -> tuple[Section, ...]:
    """The sections of an investigation, in its order; those without a result are left out.

    Args:
        results: of methods.
        circuit: whose paths are listed, level by level.
        named: heads with names and the evidence for them.
    """
    roles = roles_of(results)
    groups: dict[str, list[Block]] = {name: [] for name in _ORDER}
    if named is not None:
        groups[DOES].append(roles_table(named))
    if circuit is not None and circuit.edges:
        groups[THROUGH].append(Details("The paths of the circuit, by group", path_tables(circuit)))
    for result in results:
        groups[_SECTION.get(str(result.attrs.get("method", "")), OTHERS)] += blocks_of(result, roles=roles)
    made = [Section(name, (Text(SAYS[name]), *blocks)) for name, blocks in groups.items() if blocks]
    first = task_section(results)
    return (first, *made) if first else tuple(made)


def task_section(results: "Sequence[xarray.DataArray | xarray.Dataset]") -> Section | None:
    """Whether the model does the task, and its prompts; None where no result remembers the baselines."""
    known = next(iter(with_baselines(results)), None)
    if known is None:
        return None
    clean, corrupted = baselines(known)
    metric = str(known.attrs.get("metric", "metric"))
    blocks: list[Block] = [baseline_table(clean, corrupted, metric, task_finding(clean, metric))]
    pairs = pairs_of_results([array for array in arrays_of(results) if same_prompts(array, known)])
    if pairs:
        blocks.append(
            PromptList(pairs[:SHOWN_PROMPTS], "The prompts", _prompt_caption(pairs[0].corrupted != ()), metric)
        )
        if len(pairs) > SHOWN_PROMPTS:
            others = PromptList(pairs[SHOWN_PROMPTS:], metric=metric, first=SHOWN_PROMPTS + 1)
            blocks.append(Details(f"The other {counted(len(others.pairs), 'prompt')}", (others,)))
    return Section("Does the model do the task?", tuple(blocks))


def _prompt_caption(two: bool) -> str:
    text = "A dot is a space that belongs to the token; roles are underlined."
    return f"{text} The corrupted prompt stands below the clean one, its differing tokens marked." if two else text


def arrays_of(results: "Sequence[xarray.DataArray | xarray.Dataset]") -> "Iterator[xarray.DataArray]":
    """The results one site at a time."""
    import xarray as xr

    for result in results:
        yield from result.data_vars.values() if isinstance(result, xr.Dataset) else (result,)


def same_prompts(one: "xarray.DataArray", other: "xarray.DataArray | xarray.Dataset") -> bool:
    """Whether two results are about the same prompts: their baselines are the same numbers."""
    names = ("clean", "corrupted")
    if any(name not in result.coords for name in names for result in (one, other)):
        return False
    return all(np.array_equal(one[name].values, other[name].values) for name in names)


def with_baselines(
    results: "Sequence[xarray.DataArray | xarray.Dataset]",
) -> "list[xarray.DataArray | xarray.Dataset]":
    """The results that remember how the clean and the corrupted prompts scored."""
    return [result for result in results if {"clean", "corrupted"} <= set(result.coords)]


def roles_of(results: "Sequence[xarray.DataArray | xarray.Dataset]") -> Roles | None:
    """Positions of each prompt by role, from the first result that has roles; None where none has."""
    known = next((result for result in results if "role_pos" in result.coords), None)
    if known is None:
        return None
    places = known["role_pos"].transpose("prompt", "role").values
    return {str(role): places[:, column].tolist() for column, role in enumerate(known["role"].values)}


def facts_of(results: "Sequence[xarray.DataArray | xarray.Dataset]") -> tuple[Fact, ...]:
    """The answer, as far as the results hold it: how well the task is done, by which model, what each method found."""
    facts: list[Fact] = []
    known = next(iter(with_baselines(results)), None)
    if known is not None:
        facts += _scores(*baselines(known), str(known.attrs.get("metric", "metric")))
    if results:
        facts += _subject((results[0] if known is None else known).attrs)
    # Of two results with one finding each, roles say more than positions, and stand last.
    ranked = sorted(arrays_of(results), key=lambda array: "role" in array.dims)
    findings = {fact.label: fact for array in ranked if (fact := _finding(array))}
    return (*facts, *(findings[label] for label in _LABELS.values() if label in findings))


def settings_table(results: "Sequence[xarray.DataArray | xarray.Dataset]") -> Table:
    """What all results say of how they were made; where they differ, every value."""
    hidden = {"method", "quantity", "site", "zero", "one", "direction", "notes", "unit", "backups", "weakened"}
    values: dict[str, dict[str, None]] = {}
    for result in results:
        for name, value in result.attrs.items():
            if name not in hidden and value not in ("", -1):
                shown = ("no", "yes")[int(value)] if name == "bos" else str(value)
                values.setdefault(str(name).replace("_", " "), {})[shown] = None
    rows = tuple((name, ", ".join(given)) for name, given in values.items())
    return Table(("setting", "value"), rows, "Settings", align="ll")


def results_table(results: "Sequence[xarray.DataArray | xarray.Dataset]") -> Table:
    """Which results the page shows: method, sites, dimensions, and what is to be known of them."""
    rows = []
    for result in results:
        arrays = list(arrays_of([result]))
        sites = [str(array.attrs.get("site", "") or array.name or "") for array in arrays]
        size = ", ".join(f"{dim} {n}" for dim, n in result.sizes.items())
        notes = dict.fromkeys(str(array.attrs.get("notes", "")) for array in arrays)
        rows.append((str(result.attrs.get("method", "")), ", ".join(sites), size, "; ".join(filter(None, notes))))
    return Table(("method", "sites", "size", "notes"), tuple(rows), "Results", align="llll")


def _scores(clean: Baseline, corrupted: Baseline, metric: str) -> list[Fact]:
    facts = []
    if metric == "logit difference":
        facts.append(Fact("right answer ahead", percent(clean.above_zero), f"of {counted(clean.n, 'prompt')}", True))
    for name, line in ((f"mean {metric}", clean), ("on the corrupted prompts", corrupted)):
        spread = f"95\u00a0% interval {interval(line.low, line.high)}" if line.n > 1 else "one prompt, no interval"
        facts.append(Fact(name, number(line.mean), spread, True))
    return facts


def _subject(attrs: dict) -> list[Fact]:
    weights = ", ".join(
        str(attrs[name]) for name in ("quantization", "model_source", "model_revision") if attrs.get(name)
    )
    asked = [f"corrupted by {attrs['corruption']}" if attrs.get("corruption") else ""]
    asked.append(f"seed {attrs['seed']}" if int(attrs.get("seed", -1)) >= 0 else "")
    prompts = f"{counted(int(attrs.get('n_prompts', 0)), 'prompt')} of the task {attrs.get('task', 'unknown')}"
    return [
        Fact("model", str(attrs.get("model", "unknown")), weights),
        Fact("prompts", prompts, ", ".join(filter(None, asked))),
    ]


def _finding(array: "xarray.DataArray") -> Fact | None:
    dims = {str(dim) for dim in array.dims} - {"prompt"}
    method, site = array.attrs.get("method"), str(array.attrs.get("site", array.name or ""))
    label = _LABELS.get((str(method), site if method == "activation patching" else ""))
    if label is None or dims not in _ANSWERS:
        return None
    return Fact(label, finding(summary(array), array))
