"""What the report of the standard study shows beyond the pictures of its results.

Every title that states a finding is computed from them.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from torch import Tensor

from unweave.circuits.evaluate import TESTS
from unweave.circuits.halves import halves
from unweave.methods.replacement import Replacement
from unweave.metrics.contrast import Contrast
from unweave.models.prompts import Prompts
from unweave.registry import ACT, CARRIES, CONTROLS, ENOUGH, LOOKS, TASK, THROUGH, WITHOUT
from unweave.results import Row, top
from unweave.results.labels import number
from unweave.studies.findings import N_LEADING, agreement, array
from unweave.studies.plan import Results
from unweave.studies.scores import first_share, scores
from unweave.studies.subject import Subject, replacement_for
from unweave.views.attention_view import attention_finding
from unweave.views.blocks import Block, Details, Figure, Table, Text
from unweave.views.charts.bars import histogram
from unweave.views.charts.scatter import scatter
from unweave.views.circuit_drawing import group_colours
from unweave.views.circuit_layout import edges_said
from unweave.views.circuit_tables import path_tables
from unweave.views.evaluation_pictures import evaluation_blocks
from unweave.views.pictures import blocks_of, blocks_together
from unweave.views.prompt_list import prompt_blocks, prompt_pairs
from unweave.views.report import drawing_of
from unweave.views.result_tables import Baseline, baseline, baselines, task_finding
from unweave.views.scope import same_prompts
from unweave.views.sense import sense_of
from unweave.views.wording import SPACE, counted, interval, percent

LOOKED_AT = 6


def own_blocks(subject: Subject, found: Results) -> dict[str, list[Block]]:
    """What stands in a section before the pictures of its steps."""
    parts = [site for site in ("pattern", "v") if "heads" in found and site in found["heads"]]
    silent: list[Block] = (
        [Text((_silent(array(found["tokens"])),))] if "tokens" in found and "controls" in found else []
    )
    return {
        TASK: _task(subject, found),
        ACT: [_part(found["heads"]["z"], found["heads"][site]) for site in parts],
        CONTROLS: silent,
    }


def texts(subject: Subject, found: Results) -> dict[str, list[str]]:
    """What is said of a section's prompts and figures, beyond what its methods do."""
    said = {
        ACT: [
            "A head's output changes because it looks elsewhere, or because there is something else to read where it "
            "looks. Restoring shows what is enough to bring the answer back, noising what the answer cannot do "
            "without; if other heads step in, the second is smaller than the first."
        ],
        LOOKS: ["The heads in the first figure are those with the largest effects of their output."],
    }
    if "tokens" in found:
        n = counted(found["tokens"].sizes["prompt"], "prompt")
        said[CARRIES] = [f"Tokens are compared on {n} of equal length, roles and heads on the swept prompts."]
    if {"paths", "circuit"} & found.keys():
        circuit = found.get("circuit")
        said[THROUGH] = [_on(subject.paths)]
        if circuit is not None and circuit.edges:
            drawn = "The drawing of the circuit stands next to the answer."
            said[THROUGH] = [edges_said(circuit.edges, circuit.attrs), drawn, *said[THROUGH]]
    if {"knockouts", "backups"} & found.keys():
        said[WITHOUT] = [_means(subject.replacement, subject.paths), _on(subject.paths)]
    if tests_of(found):
        pair = subject.judged
        apart = set(pair.prompts.texts).isdisjoint(_choosing(subject))
        text = "None of them chose the circuit." if apart else "Some chose the circuit, which looks better on these."
        said[ENOUGH] = [_means(replacement_for(pair), pair), f"{_on(pair)} {text}"]
    return said


def circuit_drawn(subject: Subject, found: Results) -> Block | None:
    """The circuit as it stands next to the answer; None if none was found."""
    places = {role: at.tolist() for role, at in subject.paths.prompts.roles.items()} if "circuit" in found else {}
    return drawing_of(found["circuit"], found.get("names"), places) if places else None


def tests_of(found: Results) -> list[xr.Dataset]:
    """The tests of the circuit; none if they were left out."""
    score = found.get("evaluation")
    return [] if score is None else [score[name].to_dataset() for name in TESTS if name in score]


def _task(subject: Subject, found: Results) -> list[Block]:
    pair, own = subject.checked, subject.kind.own_groups
    groups = {"all": range(len(pair.prompts)), **(own(pair.prompts) if own else {})}
    table = {name: baselines(scores(pair, rows)) for name, rows in groups.items() if len(rows)}
    first = {name: first_share(pair, rows) for name, rows in groups.items() if len(rows)}
    tokens = found.get("tokens")
    if tokens is not None and not same_prompts(scores(subject.pair), tokens):
        table[f"the {len(tokens['prompt'])} prompts compared by token"] = baselines(tokens)
    sides = scores(pair)
    figure = histogram({name: sides[name].assign_attrs(sides.attrs) for name in ("clean", "corrupted")}, bins=30)
    metric = pair.metric.name
    return [
        _task_table(table, first, task_finding(table["all"][0], metric), metric),
        *([Figure(figure)] if len(pair.prompts) > 1 else []),
        *_prompts(subject),
    ]


def _task_table(
    groups: dict[str, tuple[Baseline, Baseline]], first: Mapping[str, float], title: str, metric: str
) -> Table:
    ahead = "right answer ahead" if metric == "logit difference" else "share above 0"
    header = ("prompts", "n", ahead, "first of all", f"mean {metric}", f"95{SPACE}% interval", "corrupted")
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


def attention_blocks(subject: Subject, found: Results) -> list[Block]:
    patterns = found["attention"]
    shown = patterns.isel(prompt=slice(0, LOOKED_AT))
    roles = {name: at.tolist() for name, at in subject.pair.prompts.roles.items()}
    of = f"on {counted(patterns.sizes['prompt'], 'prompt')}, the first {shown.sizes['prompt']} of which are shown"
    return blocks_of(shown, title=f"{attention_finding(patterns, roles)}, {of}")


def noise_blocks(found: Results) -> list[Block]:
    """Noising heads, and against restoring them."""
    noise = array(found["heads-noise"])
    shown = blocks_of(noise)[:1]
    if "heads" not in found:
        return shown
    z = found["heads"]["z"]
    against = scatter(z, noise)
    against.update_xaxes(title_text="effect of restoring the output in the corrupted run")
    against.update_yaxes(title_text="effect of noising it in the clean run")
    return [*shown, Figure(against, both_ways(z, noise))]


def other_blocks(found: Results) -> list[Block]:
    """The heads under two corruptions."""
    if "heads" not in found:
        return []
    z, other = found["heads"]["z"], array(found["heads-other"])
    alike = scatter(z, other, diagonal=True)
    alike.update_xaxes(title_text=f"effect of the output, corruption {z.attrs['corruption']}")
    alike.update_yaxes(title_text=f"effect of the output, corruption {other.attrs['corruption']}")
    return [Figure(alike, agreement(z, other))]


def carrying(effects: xr.DataArray, n: int = N_LEADING) -> list[Row]:
    """The cells that carry most of the answer, whichever sign that is (see `unweave.views.sense`)."""
    return list(top(effects, n, by="high" if sense_of(effects).carries > 0 else "low"))


def _part(z: xr.DataArray, part: xr.DataArray) -> Figure:
    """What goes into heads, patched by itself, against their outputs."""
    outputs, sign = _outputs_like(z, part), sense_of(z).carries
    rows = carrying(outputs)
    effects = [sign * float(part.mean("prompt").sel(row.where)) for row in rows]
    best = int(np.argmax(effects))
    what = {"pattern": "Where they look, the attention pattern only,", "v": "What they read, the value only,"}
    noun, note = "heads", "On the line, the part by itself does what the whole output does."
    if outputs is not z:
        share = z.sizes["head"] // part.sizes["kv_head"]
        noun = "key and value heads"
        note = f"Keys and values are shared by {share} heads, whose outputs are summed. {note}"
    title = (
        f"{what[str(part.attrs['site'])]} brings back {number(sum(effects))} over the {len(rows)} leading {noun}, "
        f"whose outputs bring back {number(sign * sum(row.mean for row in rows))}; most in {rows[best].label}, "
        f"{number(effects[best])} of {number(sign * rows[best].mean)}"
    )
    return Figure(scatter(part, outputs, diagonal=True), title, note=note)


def _outputs_like(z: xr.DataArray, part: xr.DataArray) -> xr.DataArray:
    """Effects of outputs by head, or summed over the heads that share keys and values where `part` is by these."""
    if "kv_head" not in part.dims:
        return z
    summed = z.coarsen(head=z.sizes["head"] // part.sizes["kv_head"]).sum()  # pyright: ignore[reportAttributeAccessIssue]
    return summed.rename(head="kv_head").assign_coords(kv_head=part["kv_head"])


def both_ways(z: xr.DataArray, noise: xr.DataArray) -> str:
    """What the leading heads bring back if restored, and take away if noised."""
    rows = carrying(z)
    noised = sense_of(noise).carries * sum(float(noise.mean("prompt").sel(row.where)) for row in rows)
    gained = sense_of(z).carries * sum(row.mean for row in rows)
    return (
        f"Restored one at a time, the {len(rows)} leading heads bring back {number(gained)} together; "
        f"noised one at a time, they take away {number(noised)}"
    )


def circuit_blocks(name: str, found: Results) -> list[Block]:
    """The paths of a circuit, level by level."""
    circuit, kind = found[name], "edge" if found[name].keeps == "edges" else "path"
    title = f"The {counted(len(circuit.edges), kind)} of the circuit"
    return [Details(title, path_tables(circuit))] if circuit.edges else []


def both_curves(found: Results) -> list[Block]:
    """How much of the score circuits of edges give, beside circuits of all edges of the first heads."""
    curves = {"the largest edges": found.get("edge-curve"), "all edges of the first heads": found["head-curve"]}
    return blocks_together([one.rename(name) for name, one in curves.items() if one is not None])


def test_blocks(found: Results) -> list[Block]:
    """The pictures of the circuit's tests; a group has the same colour as in the drawing."""
    colours = group_colours([group.name for group in found["circuit"].groups])
    return [block for table in tests_of(found) for block in evaluation_blocks(table, colours=colours)]


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
    """What replaces a head."""
    by = "template" if fill.how == "template" else "position"
    others = fill.reference if isinstance(fill.reference, Prompts) else pair.corrupted
    how = others.source.get("corruption", "given")
    return f"A head is replaced by its mean by {by} over {counted(len(others), 'prompt')} corrupted by `{how}`."


def how(pair: Contrast) -> str:
    """The name of a corruption."""
    return str(pair.corrupted.source.get("corruption", "given"))


def _on(pair: Contrast) -> str:
    """Which prompts these results are of, if they are not the swept ones."""
    table = scores(pair)
    gap = baseline(table["clean"] - table["corrupted"])
    spread = f" ({interval(gap.low, gap.high)})" if gap.n > 1 else ""
    clean, corrupted = (number(float(side.mean())) for side in (pair.clean_scores, pair.corrupted_scores))
    return (
        f"These results are of {counted(len(pair.prompts), 'prompt')} under the corruption `{how(pair)}`, where the "
        f"mean {pair.metric.name} is {clean} clean and {corrupted} corrupted: a gap of {number(gap.mean)} "
        f"{pair.metric.unit}{spread}, of which effects are shares."
    )
