"""The sections and facts of a report, in the order of an investigation, from the results alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import xarray as xr

from unweave.circuits.circuit import Circuit
from unweave.methods.head_types import HeadTypes
from unweave.registry import (
    CARRIES,
    DOES,
    ENOUGH,
    LOOKS,
    OTHERS,
    SECTIONS,
    SIGNALS,
    TASK,
    THROUGH,
    WITHOUT,
    WRITTEN,
    method_of,
)
from unweave.results.labels import number
from unweave.results.origin import DIGEST
from unweave.results.summary import is_summary
from unweave.views.blocks import Block, Details, Fact, Table
from unweave.views.captions import finding
from unweave.views.circuit_tables import path_tables
from unweave.views.head_pictures import roles_table
from unweave.views.pictures import Roles, blocks_together, tables_of, together
from unweave.views.prompt_list import pairs_of_results, prompt_blocks
from unweave.views.result_tables import Baseline, baseline_table, baselines, task_finding
from unweave.views.scope import same_prompts, spoken, subjects
from unweave.views.wording import Result, counted, interval, percent

_ANSWERS = ({"stage"}, {"layer", "head"}, {"layer", "pos"}, {"layer", "role"})
# What each section's methods do, and what they do not say.
SAYS = {
    WRITTEN: (
        "The residual stream is a sum of what every head and MLP has written to it. The logit lens reads the answer "
        "from the sum as it stands after each layer; direct attribution reads it from each part by itself. Both keep "
        "the last norm's scale as it was in the run. They see what is said to the output directly, and nothing of what "
        "acts through later layers.",
    ),
    CARRIES: (
        "In activation patching one activation of one run is put into the other, and everything after it is computed "
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
        "In path patching a head's output is exchanged on its way to chosen receivers only. All other heads keep what "
        "they wrote, so that what changes came by this path. From the logits backwards, level by level, the circuit "
        "is found. An edge is one such step: what one component writes, as one later input reads it.",
    ),
    WITHOUT: (
        "In a knockout a head's output is replaced by one that says nothing of the prompt. If other heads make up for "
        "it, less is lost than the head had written: attribution before and after shows which.",
    ),
    SIGNALS: (
        "The heads' outputs are taken from prompts whose subject has kept or lost its position, and kept or lost its "
        "token. What the score follows is what the heads carry.",
    ),
    ENOUGH: (
        "F is the score. Faithful: F(C), with all heads outside the circuit ablated, is near F(M) of the model. "
        "Complete: they stay near each other whatever heads K are taken out of both. Minimal: each head changes F "
        "next to some K. A curve of edges keeps the first few, and gives all others the ablated value.",
    ),
}


def blocks_by_section(
    results: Sequence[Result],
    circuit: Circuit | None = None,
    named: HeadTypes | None = None,
    prompts: Sequence[Block] = (),
) -> dict[str, list[Block]]:
    """The blocks of an investigation by their sections, from results.

    Args:
        results: of methods.
        circuit: whose paths are listed, level by level.
        named: heads with names and the evidence for them.
        prompts: shown in place of those that the results remember.
    """
    groups: dict[str, list[Block]] = {name: [] for name in SECTIONS}
    groups[TASK] = task_blocks(results, prompts)
    if named is not None:
        groups[DOES].append(roles_table(named))
    if circuit is not None and circuit.edges:
        groups[THROUGH].append(Details("The paths of the circuit, by group", path_tables(circuit)))
    for subject, alike in together(results):
        # Roles of other prompts stand elsewhere.
        roles = roles_of([other for other in results if same_prompts(alike[0], other)])
        groups[section_of(alike[0])] += [about(block, subject) for block in blocks_together(alike, roles=roles)]
    return groups


def section_of(result: object) -> str:
    """The section that a result stands in, by its method."""
    known = method_of(getattr(result, "attrs", {})) if isinstance(result, (xr.DataArray, xr.Dataset)) else None
    return known.section if known else OTHERS


def task_blocks(results: Sequence[Result], given: Sequence[Block] = ()) -> list[Block]:
    """Whether the model does the task, and its prompts, of each model, task, metric and set of prompts that there is;
    none if no result remembers the baselines. `given` are the prompts, if they are known.
    """
    blocks: list[Block] = []
    for subject, known in subjects_with_baselines(results):
        clean, corrupted = baselines(known)
        metric = str(known.attrs.get("metric", "metric"))
        table = baseline_table(clean, corrupted, metric, task_finding(clean, metric))
        alike = [array for array in arrays_of(results) if same_prompts(array, known)]
        prompts = [] if given else prompt_blocks(pairs_of_results(alike), metric)
        blocks += [about(block, subject) for block in (table, *prompts)]
    return [*blocks, *given]


def subjects_with_baselines(
    results: Sequence[Result],
) -> list[tuple[str, Result]]:
    """One result of each subject that remembers how the clean and the corrupted prompts scored, by what it is of."""
    first: dict[str, Result] = {}
    for subject, result in zip(subjects(results), results, strict=True):
        if {"clean", "corrupted"} <= set(result.coords) and result["clean"].dims in ((), ("prompt",)):
            first.setdefault(subject, result)
    return list(first.items())


def about(block: Block, subject: str) -> Block:
    """A block whose title says first what it is of."""
    name = next((name for name in ("title", "summary") if getattr(block, name, "")), None)
    return replace(block, **{name: spoken(subject, getattr(block, name))}) if subject and name else block  # type: ignore[type-var]


def arrays_of(results: Sequence[Result]) -> Iterator[xr.DataArray]:
    """The results one site at a time; of a summary its means."""
    for result in results:
        if isinstance(result, xr.Dataset) and is_summary(result):
            yield result["mean"].assign_attrs(result.attrs)
        else:
            yield from result.data_vars.values() if isinstance(result, xr.Dataset) else (result,)


def roles_of(results: Sequence[Result]) -> Roles | None:
    """Positions of each prompt by role, from the first result that has roles; None where none has."""
    known = next((result for result in results if {"prompt", "role"} <= set(result.dims)), None)
    if known is None:
        return None
    places = known["role_pos"].transpose("prompt", "role").values
    return {str(role): places[:, column].tolist() for column, role in enumerate(known["role"].values)}


def facts_of(results: Sequence[Result]) -> tuple[Fact, ...]:
    """The answer, as far as the results hold it: how well the task is done, by which model, what each method found."""
    known = subjects_with_baselines(results)
    facts: list[Fact] = []
    if len(known) == 1:
        facts += score_facts_of(*baselines(known[0][1]), str(known[0][1].attrs.get("metric", "metric")))
    for subject, result in known if len(known) > 1 else ():
        clean, corrupted = baselines(result)
        scores = f"mean {result.attrs.get('metric', 'metric')} {number(clean.mean)}, {number(corrupted.mean)} corrupted"
        facts.append(Fact("results of", subject, f"{scores}, over {counted(clean.n, 'prompt')}"))
    # Of several subjects, what they have in common.
    about = [_subject(result) for _, result in known] or [_subject(result) for result in results[:1]]
    facts += [fact for fact in about[0] if all(fact in each for each in about)] if about else []
    # Of two results with one finding each, roles say more than positions, and stand last.
    findings: dict[tuple[str, str], Fact] = {}
    of = zip(subjects(results), results, strict=True)
    for subject, result in sorted(of, key=lambda pair: "role" in pair[1].dims):
        found = {fact.label: replace(fact, note=subject) for fact in _findings(result)}
        findings |= {(label, subject): fact for label, fact in found.items()}
    order = ["written", "directly by", "where it sits", "carried by"]
    return (*facts, *(findings[key] for key in sorted(findings, key=lambda key: order.index(key[0]))))


def settings_table(results: Sequence[Result]) -> Table:
    """What all results say of how they were made; where they differ, every value."""
    hidden = {"method", "quantity", "site", "zero", "one", "direction", "notes", "unit", "backups", "weakened"}
    hidden |= {"measure", DIGEST, "better", "gap", "clean_mean", "share_of", "over", "roles", "n_pos"}
    hidden |= {"n_layers", "n_heads", "n_kv_heads", "n_neurons", "metric_unit", "jaccard"}
    hidden |= {"n_not_run", "larger_than", "larger_share"}  # of edges
    hidden |= {f"{name}{end}" for name in ("cmd", "cpr") for end in ("", "_low", "_high")}
    values: dict[str, dict[str, None]] = {}
    for result in results:
        for name, value in result.attrs.items():
            if name not in hidden and value not in ("", -1):
                shown = ", ".join(value) if isinstance(value, list) else str(value)
                shown = ("yes" if value else "no") if name == "bos" else shown
                values.setdefault(str(name).replace("_", " "), {})[shown] = None
    rows = tuple((name, ", ".join(given)) for name, given in values.items())
    return Table(("setting", "value"), rows, "Settings", align="ll")


def results_table(results: Sequence[Result]) -> Table:
    """Which results the page shows: method, sites, dimensions, and what is to be known of them."""
    rows = []
    for result in results:
        arrays = list(arrays_of([result]))
        sites = [str(array.attrs.get("site", "") or array.name or "") for array in arrays]
        size = ", ".join(f"{dim} {n}" for dim, n in result.sizes.items())
        notes = dict.fromkeys(str(array.attrs.get("notes", "")) for array in arrays)
        rows.append((str(result.attrs.get("method", "")), ", ".join(sites), size, "; ".join(filter(None, notes))))
    return Table(("method", "sites", "size", "notes"), tuple(rows), "Results", align="llll")


def score_facts_of(clean: Baseline, corrupted: Baseline, metric: str) -> list[Fact]:
    facts = []
    if metric == "logit difference":
        share, of = percent(clean.above_zero), f"of {counted(clean.n, 'prompt')}"
        facts.append(Fact("right answer ahead of the wrong one", share, of, True))
    for name, line in ((f"mean {metric}", clean), ("on the corrupted prompts", corrupted)):
        spread = f"95\u00a0% interval {interval(line.low, line.high)}" if line.n > 1 else "one prompt, no interval"
        facts.append(Fact(name, number(line.mean), spread, True))
    return facts


def _subject(result: Result) -> list[Fact]:
    attrs, n = result.attrs, int(result.attrs.get("n_prompts", 0))
    n = result["clean"].size if "clean" in result.coords else n
    weights = ", ".join(
        str(attrs[name]) for name in ("quantization", "model_source", "model_revision") if attrs.get(name)
    )
    asked = [f"corrupted by {attrs['corruption']}" if attrs.get("corruption") else ""]
    asked.append(f"seed {attrs['seed']}" if int(attrs.get("seed", -1)) >= 0 else "")
    prompts = f"{counted(n, 'prompt')} of the task {attrs.get('task', 'unknown')}"
    return [
        Fact("model", str(attrs.get("model", "unknown")), weights),
        Fact("prompts", prompts, ", ".join(filter(None, asked))),
    ]


def _findings(result: Result) -> list[Fact]:
    """What a result adds to the answer, if anything: a line for each of its sites."""
    known = method_of(result.attrs)
    if known is None or not known.answers:
        return []
    facts = []
    for site, table in tables_of(result).items():
        label = known.answers.get("" if "" in known.answers else site)
        if label and set(map(str, table["mean"].dims)) in _ANSWERS:
            facts.append(Fact(label, finding(table)))
    return facts
