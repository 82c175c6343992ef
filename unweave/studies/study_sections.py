"""The sections of a study's report.

Their order and what is said of methods are those of all reports (unweave/views/investigation.py). What stands here is
what a study shows beyond the pictures of its results; every title that states a finding is computed from them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from torch import Tensor

from unweave.circuits.evaluate import TESTS
from unweave.circuits.halves import halves
from unweave.methods.replacement import Replacement
from unweave.metrics.contrast import Contrast
from unweave.models.prompts import Prompts
from unweave.registry import (
    ACT,
    CARRIES,
    CONTROLS,
    DOES,
    ENOUGH,
    LEFT_OUT,
    LOOKS,
    SIGNALS,
    TASK,
    THROUGH,
    WITHOUT,
    WRITTEN,
)
from unweave.results import top
from unweave.results.labels import number
from unweave.studies.findings import N_LEADING, agreement, array, control_values
from unweave.studies.plan import Record
from unweave.studies.scores import first_share, scores
from unweave.studies.subject import Subject, stand_in
from unweave.views.attention_view import attention_finding
from unweave.views.blocks import Block, Details, Figure, Section, Table, Text
from unweave.views.charts.bars import histogram
from unweave.views.charts.scatter import scatter
from unweave.views.circuit_drawing import CircuitDrawing, circuit_drawing, group_colours
from unweave.views.circuit_layout import edges_said
from unweave.views.circuit_tables import path_tables
from unweave.views.evaluation_pictures import evaluation_blocks
from unweave.views.head_pictures import head_evidence, roles_table
from unweave.views.investigation import in_order
from unweave.views.pictures import blocks_of
from unweave.views.prompt_list import prompt_blocks, prompt_pairs
from unweave.views.result_tables import Baseline, baseline, baselines, task_finding
from unweave.views.scope import same_prompts
from unweave.views.wording import SPACE, counted, interval, percent

LOOKED_AT = 6

# Which results' pictures stand in which section, in order.
_SHOWN = {
    WRITTEN: ("lens", "layers", "heads-direct", "heads-split", "neurons"),
    CARRIES: ("tokens", "roles", "heads", "heads-role"),
    DOES: ("head-scores",),
    THROUGH: ("paths",),
    WITHOUT: ("knockouts", "backups"),
    SIGNALS: ("signals",),
}


def sections(subject: Subject, record: Record) -> tuple[Section, ...]:
    """All that have something to show."""
    found = record.results
    blocks: dict[str, list[Block]] = {
        section: [block for name in names if name in found for block in blocks_of(found[name])]
        for section, names in _SHOWN.items()
    }
    blocks |= {
        TASK: _task(subject, record),
        ACT: _compared(record),
        LOOKS: _looks(subject, record),
        ENOUGH: _tests(record),
        CONTROLS: _checked(record),
        LEFT_OUT: [Table(("what", "why"), tuple(record.left_out.items()), align="ll")] if record.left_out else [],
    }
    if "names" in found:
        blocks[DOES].insert(0, roles_table(found["names"]))
    if "circuit" in found and found["circuit"].edges:
        paths = counted(len(found["circuit"].edges), "path")
        blocks[THROUGH].append(Details(f"The {paths} of the circuit", path_tables(found["circuit"])))
    return in_order(blocks, _texts(subject, record, blocks))


def _texts(subject: Subject, record: Record, blocks: Mapping[str, Sequence[Block]]) -> dict[str, list[str]]:
    """What is said of a section's prompts and figures, beyond what its methods do."""
    found = record.results
    texts = {
        ACT: [
            "A head's output changes because it looks elsewhere, or because there is something else to read where it "
            "looks. Restoring shows what is enough to bring the answer back, noising what the answer cannot do "
            "without; if other heads step in, the second is smaller than the first."
        ],
        LOOKS: ["The heads in the first figure are those with the largest effects of their output."],
    }
    if "tokens" in found:
        n = counted(found["tokens"].sizes["prompt"], "prompt")
        texts[CARRIES] = [f"Tokens are compared on {n} of equal length, roles and heads on the swept prompts."]
    if blocks[THROUGH]:
        circuit = found.get("circuit")
        texts[THROUGH] = [_on(subject.paths)]
        if circuit is not None and circuit.edges:
            beside = "The drawing of the circuit stands beside the answer."
            texts[THROUGH] = [edges_said(circuit.edges, circuit.attrs), beside, *texts[THROUGH]]
    if blocks[WITHOUT]:
        texts[WITHOUT] = [_means(subject.stand_in, subject.paths), _on(subject.paths)]
    if blocks[ENOUGH]:
        pair = subject.judged
        apart = set(pair.prompts.texts).isdisjoint(_choosing(subject))
        text = "None of them chose the circuit." if apart else "Some chose the circuit, which looks better on these."
        texts[ENOUGH] = [_means(stand_in(pair), pair), f"{_on(pair)} {text}"]
    return texts


def drawing_of(subject: Subject, record: Record) -> CircuitDrawing | None:
    """The circuit as it stands beside the answer; None where none was found."""
    circuit, named = record.results.get("circuit"), record.results.get("names")
    if circuit is None:
        return None
    places = {role: at.tolist() for role, at in subject.paths.prompts.roles.items()}
    return circuit_drawing(circuit, places=places, evidence=head_evidence(named) if named else {})


def tests_of(record: Record) -> list[xr.Dataset]:
    """The tests of the circuit; none where they were left out."""
    score = record.results.get("evaluation")
    return [] if score is None else [score[name].to_dataset() for name in TESTS if name in score]


def _task(subject: Subject, record: Record) -> list[Block]:
    pair, own = subject.checked, subject.kind.own_groups
    groups = {"all": range(len(pair.prompts)), **(own(pair.prompts) if own else {})}
    table = {name: baselines(scores(pair, rows)) for name, rows in groups.items() if len(rows)}
    first = {name: first_share(pair, rows) for name, rows in groups.items() if len(rows)}
    tokens = record.results.get("tokens")
    if tokens is not None and not same_prompts(scores(subject.pair), tokens):
        table[f"the {len(tokens['prompt'])} prompts compared by token"] = baselines(tokens)
    both = {
        name: xr.DataArray(side.cpu().numpy(), dims="prompt", attrs=scores(pair).attrs)
        for name, side in (("clean", pair.clean_scores), ("corrupted", pair.corrupted_scores))
    }
    figure = histogram(both, bins=30)
    metric = pair.metric.name
    return [
        _task_table(table, first, task_finding(table["all"][0], metric), metric),
        *([Figure(figure)] if len(pair.prompts) > 1 else []),
        *_prompts(subject),
    ]


def _task_table(
    groups: dict[str, tuple[Baseline, Baseline]], first: Mapping[str, float], title: str, metric: str
) -> Table:
    ahead = "right answer ahead of the wrong one" if metric == "logit difference" else "share above 0"
    header = ("prompts", "n", ahead, "first of all outputs", f"mean {metric}", f"95{SPACE}% interval", "corrupted")
    rows = tuple(
        (
            name,
            str(clean.n),
            percent(clean.above_zero),
            percent(first[name]) if name in first else "–",
            number(clean.mean),
            interval(clean.low, clean.high),
            number(corrupted.mean),
        )
        for name, (clean, corrupted) in groups.items()
    )
    return Table(header, rows, title, align="lrrrrrr")


def _prompts(subject: Subject) -> list[Block]:
    pair = subject.pair
    metric = pair.metric.name
    answers, wrong = (_words(pair, column) for column in (pair.prompts.answers, pair.prompts.wrong))
    measured = (pair.clean_scores.tolist(), pair.corrupted_scores.tolist())
    listed_pairs = prompt_pairs(pair.prompts, pair.corrupted, answers=answers, wrong=wrong, scores=measured)
    notes = subject.task.notes
    chosen = [Text((notes[:1].upper() + notes[1:],))] if notes else []
    return [*chosen, *prompt_blocks(listed_pairs, metric)]


def _words(pair: Contrast, column: Tensor | None) -> tuple[str, ...]:
    """The words of a column of answers; none of a classifier's answers, which are no tokens."""
    config = pair.model.config
    if column is None or pair.model.tokenizer is None or config.d_vocab_out != config.d_vocab:
        return ()
    return pair.model.to_str_tokens(column)


def _compared(record: Record) -> list[Block]:
    """Head outputs against what goes into them, against the other direction, and under the other corruption."""
    found = record.results
    blocks: list[Block] = []
    if "heads" in found:
        z = found["heads"]["z"]
        blocks += [_part(z, found["heads"][site]) for site in ("pattern", "v") if site in found["heads"]]
        if "heads-noise" in found:
            noise = array(found["heads-noise"])
            against = scatter(z, noise)
            against.update_xaxes(title_text="effect of restoring the output in the corrupted run")
            against.update_yaxes(title_text="effect of noising it in the clean run")
            blocks += [*blocks_of(noise)[:1], Figure(against, _both_ways(z, noise))]
        if "heads-other" in found:
            other = array(found["heads-other"])
            alike = scatter(z, other, diagonal=True)
            alike.update_xaxes(title_text=f"effect of the output, corruption {z.attrs['corruption']}")
            alike.update_yaxes(title_text=f"effect of the output, corruption {other.attrs['corruption']}")
            blocks.append(Figure(alike, agreement(z, other)))
    return blocks


def _part(z: xr.DataArray, part: xr.DataArray) -> Figure:
    """What goes into heads, patched alone, against their outputs."""
    outputs = _outputs_like(z, part)
    rows = top(outputs, N_LEADING, by="high")
    effects = [float(part.mean("prompt").sel(row.where)) for row in rows]
    best = int(np.argmax(effects))
    what = {"pattern": "Where they look, the attention pattern alone,", "v": "What they read, the value alone,"}
    noun, note = "heads", "On the line, the part alone does what the whole output does."
    if outputs is not z:
        share = z.sizes["head"] // part.sizes["kv_head"]
        noun = "key and value heads"
        note = f"Keys and values are shared by {share} heads, whose outputs are summed. {note}"
    title = (
        f"{what[str(part.attrs['site'])]} brings back {number(sum(effects))} over the {len(rows)} leading {noun}, "
        f"whose outputs bring back {number(sum(row.mean for row in rows))}; most in {rows[best].label}, "
        f"{number(effects[best])} of {number(rows[best].mean)}"
    )
    return Figure(scatter(part, outputs, diagonal=True), title, note=note)


def _outputs_like(z: xr.DataArray, part: xr.DataArray) -> xr.DataArray:
    """Effects of outputs by head, or summed over the heads that share keys and values where `part` is by these."""
    if "kv_head" not in part.dims:
        return z
    summed = z.coarsen(head=z.sizes["head"] // part.sizes["kv_head"]).sum()  # pyright: ignore[reportAttributeAccessIssue]
    return summed.rename(head="kv_head").assign_coords(kv_head=part["kv_head"])


def _both_ways(z: xr.DataArray, noise: xr.DataArray) -> str:
    rows = top(z, N_LEADING, by="high")
    noised = [float(noise.mean("prompt").sel(row.where)) for row in rows]
    gained = sum(row.mean for row in rows)
    return (
        f"Restored one at a time, the {len(rows)} leading heads bring back {number(gained)} together; "
        f"noised one at a time, they take away {number(-sum(noised))}"
    )


def _looks(subject: Subject, record: Record) -> list[Block]:
    found = record.results.get("attention")
    blocks: list[Block] = []
    if found is not None:
        shown = found.isel(prompt=slice(0, LOOKED_AT))
        roles = {name: at.tolist() for name, at in subject.pair.prompts.roles.items()}
        of = f"on {counted(found.sizes['prompt'], 'prompt')}, the first {shown.sizes['prompt']} of which are shown"
        blocks += blocks_of(shown, title=f"{attention_finding(found, roles)}, {of}")
    for name in ("role-attention", "contributions"):
        if name in record.results:
            blocks += blocks_of(record.results[name])
    return blocks


def _tests(record: Record) -> list[Block]:
    """The pictures of the circuit's tests; a group has the same colour as in the drawing."""
    circuit = record.results.get("circuit")
    colours = group_colours([group.name for group in circuit.groups]) if circuit else {}
    return [block for table in tests_of(record) for block in evaluation_blocks(table, colours=colours)]


def _checked(record: Record) -> list[Block]:
    found = record.results.get("controls")
    if found is None:
        return []
    values = control_values(found)
    first, *_, before_last, last = map(str, found["address"].values)
    rows = (
        (f"{first} to {before_last}", "0", number(values.largest)),
        (last, "1", number(values.whole)),
    )
    table = Table(("patch", "must have", "has"), rows, values.finding, align="lrr")
    said = [Text((_silent(array(record.results["tokens"])),))] if "tokens" in record.results else []
    return [table, *said]


def _silent(effects: xr.DataArray) -> str:
    """How many positions have no effect at all: those before the first changed token of every prompt."""
    values = np.nan_to_num(effects.transpose(..., "pos").values)
    largest = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
    return (
        f"On the {effects.sizes['prompt']} prompts compared by token, patching the residual stream at "
        f"{int((largest == 0).sum())} of {largest.size} positions has an effect of exactly 0 on every prompt and in "
        "every layer: nothing can come from before the first token that differs."
    )


def _choosing(subject: Subject) -> list[str]:
    """The texts of the prompts that chose the circuit."""
    prompts = subject.paths.prompts
    return [prompts.texts[row] for row in halves(prompts)[0]]


def _means(fill: Replacement, pair: Contrast) -> str:
    """What stands in for a head."""
    by = "template" if fill.how == "template" else "position"
    others = fill.reference if isinstance(fill.reference, Prompts) else pair.corrupted
    how = others.source.get("corruption", "given")
    return f"In place of a head stands its mean by {by} over {counted(len(others), 'prompt')} corrupted by `{how}`."


def _on(pair: Contrast) -> str:
    """Which prompts these results are of, where they are not the swept ones."""
    how = pair.corrupted.source.get("corruption", "given")
    table = scores(pair)
    gap = baseline(table["clean"] - table["corrupted"])
    spread = f" ({interval(gap.low, gap.high)})" if gap.n > 1 else ""
    return (
        f"These results are of {counted(len(pair.prompts), 'prompt')} under the corruption `{how}`, where the mean "
        f"{pair.metric.name} is {number(float(pair.clean_scores.mean()))} clean "
        f"and {number(float(pair.corrupted_scores.mean()))} "
        f"corrupted: a gap of {number(gap.mean)} {pair.metric.unit}{spread}, of which effects are shares."
    )
