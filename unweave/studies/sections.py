"""The sections of a study's report, in the order of the investigation; those about the circuit are in
`unweave.studies.circuit_sections`.

Every title that states a finding is computed from the results (see `unweave.views.captions`); what stands here as prose
says what was done, and what a figure can and cannot show.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from torch import Tensor

from unweave.metrics.contrast import Contrast
from unweave.registry import CARRIES, LOOKS, WRITTEN
from unweave.results import top
from unweave.results.labels import number
from unweave.studies.circuit_sections import circuit_sections
from unweave.studies.findings import N_LEADING, agreement, array, control_values
from unweave.studies.plan import Record
from unweave.studies.scores import first_share, scores
from unweave.studies.subject import Subject
from unweave.views.attention_view import attention_finding
from unweave.views.blocks import Block, Details, Figure, Section, Table, Text
from unweave.views.charts.bars import histogram
from unweave.views.charts.scatter import scatter
from unweave.views.investigation import SAYS
from unweave.views.pictures import blocks_of
from unweave.views.prompt_list import PromptList, prompt_pairs
from unweave.views.result_tables import Baseline, baselines, task_finding
from unweave.views.scope import same_prompts
from unweave.views.wording import SPACE, counted, interval, percent

SHOWN_PROMPTS = 3
TASK = "Does the model do the task?"
ACT = "How do these heads act?"
CONTROLS = "Do the controls hold?"
LEFT_OUT = "What was left out"


def sections(subject: Subject, record: Record) -> tuple[Section, ...]:
    """All that have something to show."""
    made = (
        _task(subject, record),
        _section(WRITTEN, SAYS[WRITTEN], record, ("lens", "layers", "heads-direct", "heads-split", "neurons")),
        _carried(record),
        _compared(record),
        _looks(subject, record),
        *circuit_sections(subject, record),
        _checked(record),
        _left_out(record),
    )
    return tuple(section for section in made if section.blocks)


def _task(subject: Subject, record: Record) -> Section:
    pair, own = subject.checked, subject.kind.own_groups
    groups = {"all": range(len(pair.prompts)), **(own(pair.prompts) if own else {})}
    table = {name: baselines(scores(pair, rows)) for name, rows in groups.items() if len(rows)}
    first = {name: first_share(pair, rows) for name, rows in groups.items() if len(rows)}
    tokens = record.results.get("tokens")
    if tokens is not None and not same_prompts(scores(subject.pair), tokens):
        table[f"the {len(tokens['prompt'])} prompts compared by token"] = baselines(tokens)
    both = {
        name: xr.DataArray(side.cpu().numpy(), dims="prompt", attrs=scores(pair).attrs)
        for name, side in (("clean", pair.clean), ("corrupted", pair.spoiled))
    }
    figure = histogram(both, bins=30)
    title = str(figure.layout.meta["title"])  # type: ignore[attr-defined]
    metric = pair.metric.name
    blocks = (
        _task_table(table, first, task_finding(table["all"][0], metric), metric),
        *([_figure(figure, title)] if len(pair.prompts) > 1 else []),
        *_prompts(subject),
    )
    return Section(TASK, blocks)


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
    measured = (pair.clean.tolist(), pair.spoiled.tolist())
    listed_pairs = prompt_pairs(pair.prompts, pair.corrupted, answers=answers, wrong=wrong, scores=measured)
    says = (
        "As the model sees them: a dot is a space that belongs to the token, roles are underlined, "
        "and the corrupted prompt stands below the clean one."
    )
    shown = PromptList(listed_pairs[:SHOWN_PROMPTS], "The prompts", says, metric)
    rest = PromptList(listed_pairs[SHOWN_PROMPTS:], metric=metric, first=SHOWN_PROMPTS + 1)
    others = [Details(f"The other {counted(len(rest.pairs), 'prompt')} that are swept", (rest,))] if rest.pairs else []
    notes = subject.task.notes
    chosen = [Text((notes[:1].upper() + notes[1:],))] if notes else []
    return [*chosen, shown, *others]


def _words(pair: Contrast, column: Tensor | None) -> tuple[str, ...]:
    """The words of a column of answers; none of a classifier's answers, which are no tokens."""
    config = pair.model.config
    if column is None or pair.model.tokenizer is None or config.d_vocab_out != config.d_vocab:
        return ()
    return pair.model.to_str_tokens(column)


def _carried(record: Record) -> Section:
    text = [*SAYS[CARRIES]]
    if "tokens" in record.results:
        n = counted(record.results["tokens"].sizes["prompt"], "prompt")
        text.append(f"Tokens are compared on {n} of equal length, roles and heads on the swept prompts.")
    return _section(CARRIES, text, record, ("tokens", "roles", "heads", "heads-role"))


def _compared(record: Record) -> Section:
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
            against.update_yaxes(title_text="effect of spoiling it in the clean run")
            blocks += [*blocks_of(noise)[:1], _figure(against, _both_ways(z, noise))]
        if "heads-other" in found:
            other = array(found["heads-other"])
            alike = scatter(z, other, diagonal=True)
            alike.update_xaxes(title_text=f"effect of the output, corruption {z.attrs['corruption']}")
            alike.update_yaxes(title_text=f"effect of the output, corruption {other.attrs['corruption']}")
            blocks.append(_figure(alike, agreement(z, other)))
    text = (
        "A head's output changes because it looks elsewhere, or because there is something else to read where it "
        "looks. Restoring shows what is enough to bring the answer back, spoiling what the answer cannot do without; "
        "where other heads step in, the second is smaller than the first."
    )
    return Section(ACT, (Text((text,)), *blocks) if blocks else ())


def _figure(figure: go.Figure, title: str, note: str = "") -> Figure:
    """A figure under a title, with the caption that it brings along and a note."""
    meta: dict = figure.layout.meta  # type: ignore[attr-defined]
    return Figure(figure, title, " ".join(filter(None, (meta["caption"], note))))


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
    return _figure(scatter(part, outputs, diagonal=True), title, note)


def _outputs_like(z: xr.DataArray, part: xr.DataArray) -> xr.DataArray:
    """Effects of outputs by head, or summed over the heads that share keys and values where `part` is by these."""
    if "kv_head" not in part.dims:
        return z
    summed = z.coarsen(head=z.sizes["head"] // part.sizes["kv_head"]).sum()  # pyright: ignore[reportAttributeAccessIssue]
    return summed.rename(head="kv_head").assign_coords(kv_head=part["kv_head"])


def _both_ways(z: xr.DataArray, noise: xr.DataArray) -> str:
    rows = top(z, N_LEADING, by="high")
    spoiled = [float(noise.mean("prompt").sel(row.where)) for row in rows]
    gained = sum(row.mean for row in rows)
    return (
        f"Restored one at a time, the {len(rows)} leading heads bring back {number(gained)} together; "
        f"spoiled one at a time, they take away {number(-sum(spoiled))}"
    )


def _looks(subject: Subject, record: Record) -> Section:
    found = record.results.get("attention")
    blocks: list[Block] = []
    if found is not None:
        shown = found.isel(prompt=slice(0, SHOWN_PROMPTS * 2))
        roles = {name: at.tolist() for name, at in subject.pair.prompts.roles.items()}
        of = f"on {counted(found.sizes['prompt'], 'prompt')}, the first {shown.sizes['prompt']} of which are shown"
        blocks += blocks_of(shown, title=f"{attention_finding(found, roles)}, {of}")
    for name in ("role-attention", "contributions"):
        if name in record.results:
            blocks += blocks_of(record.results[name])
    chosen = "The heads in the first figure are those with the largest effects of their output."
    return Section(LOOKS, (Text((*SAYS[LOOKS], chosen)), *blocks) if blocks else ())


def _checked(record: Record) -> Section:
    found = record.results.get("controls")
    if found is None:
        return Section(CONTROLS)
    values = control_values(found)
    first, *_, before_last, last = map(str, found["address"].values)
    rows = (
        (f"{first} to {before_last}", "0", number(values.largest)),
        (last, "1", number(values.whole)),
    )
    table = Table(("patch", "must have", "has"), rows, values.finding, align="lrr")
    said = [Text((_silent(array(record.results["tokens"])),))] if "tokens" in record.results else []
    return Section(CONTROLS, (table, *said))


def _silent(effects: xr.DataArray) -> str:
    """How many positions have no effect at all: those before the first changed token of every prompt."""
    values = np.nan_to_num(effects.transpose(..., "pos").values)
    largest = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
    return (
        f"On the {effects.sizes['prompt']} prompts compared by token, patching the residual stream at "
        f"{int((largest == 0).sum())} of {largest.size} positions has an effect of exactly 0 on every prompt and in "
        "every layer: nothing can come from before the first token that differs."
    )


def _left_out(record: Record) -> Section:
    rows = tuple(record.left_out.items())
    return Section(LEFT_OUT, (Table(("what", "why"), rows, align="ll"),) if rows else ())


def _section(title: str, text: Sequence[str], record: Record, names: Sequence[str]) -> Section:
    """The figures of some results under what was done; none where there is no result."""
    blocks = [block for name in names if name in record.results for block in blocks_of(record.results[name])]
    return Section(title, (Text(tuple(text)), *blocks) if blocks else ())
