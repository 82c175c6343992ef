"""The sections of the report on indirect object identification, in the order of the investigation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from unweave.methods.frame import attributes
from unweave.metrics.contrast import Contrast
from unweave.results import Row, summary, top
from unweave.results.labels import number
from unweave.studies.ioi_subject import Subject
from unweave.studies.plan import Record, Result
from unweave.views.baselines import Baseline, baselines
from unweave.views.blocks import Block, Details, Figure, Section, Table, Text
from unweave.views.choice import blocks_of, finding
from unweave.views.histogram import histogram
from unweave.views.prompts import PromptList, prompt_pairs
from unweave.views.scatter import scatter
from unweave.views.titles import task_finding
from unweave.views.wording import SPACE, interval, listed, percent

SHOWN_PROMPTS = 3
N_LEADING = 6
NOT_YET = (
    ("which head acts through which", "path patching is no step of this study yet"),
    ("what happens without these heads", "knockouts are no step of this study yet"),
    ("whether the circuit is enough", "faithfulness, completeness and minimality are no steps of this study yet"),
)


def sections(subject: Subject, record: Record) -> tuple[Section, ...]:
    """All that have something to show."""
    made = (
        _task(subject, record),
        _written(record),
        _carried(record),
        _compared(record),
        _looks(subject, record),
        _checked(record),
        _left_out(record),
    )
    return tuple(section for section in made if section.blocks)


def finding_of(result: Result) -> str:
    """What a result shows, in a line; of several sites the first one's."""
    first = array(result)
    if first.attrs.get("method") == "attention":
        return f"heads {', '.join(map(str, first['address'].values))}"
    if "address" in first.dims:
        return control_values(first).finding
    return finding(summary(first), first)


def array(result: Result) -> xr.DataArray:
    """A result of one site as it is; of several the first."""
    return next(iter(result.data_vars.values())) if isinstance(result, xr.Dataset) else result


def scores(pair: Contrast, rows: Sequence[int] | None = None) -> xr.DataArray:
    """The metric of the clean prompts, or of some of them, with both baselines as coordinates."""
    chosen = list(range(len(pair.prompts))) if rows is None else list(rows)
    sides = {name: side.cpu().numpy()[chosen] for name, side in (("clean", pair.clean), ("corrupted", pair.spoiled))}
    coords = {name: ("prompt", values) for name, values in sides.items()}
    attrs = {**attributes(pair), "quantity": pair.metric.name}
    return xr.DataArray(sides["clean"], dims="prompt", coords=coords, attrs=attrs)


def clear_heads(z: xr.DataArray, n: int = 5) -> list[Row]:
    """The largest effects that are told from 0 after adjustment; where none is, the largest."""
    rows = list(top(z, z[0].size))
    return [row for row in rows if row.p_holm <= 0.05][:n] or rows[:n]


@dataclass(frozen=True)
class ControlValues:
    """Effects of patches that cannot matter (the largest of `n` on any prompt), and of the one that must carry all."""

    n: int
    largest: float
    whole: float

    @property
    def finding(self) -> str:
        none = "exactly 0" if self.largest == 0 else f"at most {number(self.largest)}, where it should be 0"
        return (
            f"{self.n} patches before the first changed token have an effect of {none}; "
            f"the patch of all that is read has {number(self.whole)}"
        )


def control_values(result: Result) -> ControlValues:
    """The controls of `unweave.studies.ioi.plan`: all addresses but the last cannot matter."""
    values = np.asarray(result)
    return ControlValues(values.shape[1] - 1, float(np.abs(values[:, :-1]).max()), float(values[:, -1].mean()))


def _task(subject: Subject, record: Record) -> Section:
    pair = subject.checked
    first = np.asarray((pair.prompts.roles["IO"] < pair.prompts.roles["S1"]).cpu())
    groups = {
        "all": range(len(pair.prompts)),
        "ABBA: the indirect object named first": np.flatnonzero(first).tolist(),
        "BABA: the subject named first": np.flatnonzero(~first).tolist(),
    }
    table = {name: baselines(scores(pair, rows)) for name, rows in groups.items() if len(rows)}
    if "tokens" in record.results:
        table["the eight fixed prompts, S2 swapped"] = baselines(record.results["tokens"])
    both = {
        name: xr.DataArray(side.cpu().numpy(), dims="prompt", attrs=scores(pair).attrs)
        for name, side in (("clean", pair.clean), ("corrupted", pair.spoiled))
    }
    figure = histogram(both, bins=30)
    title = str(figure.layout.meta["title"])  # type: ignore[attr-defined]
    blocks = (
        _task_table(table, task_finding(table["all"][0])),
        _figure(figure, title),
        *_prompts(subject),
    )
    return Section("Does the model do the task?", blocks)


def _task_table(groups: dict[str, tuple[Baseline, Baseline]], title: str) -> Table:
    header = ("prompts", "n", "right name ahead", "mean logit difference", f"95{SPACE}% interval", "corrupted")
    rows = tuple(
        (
            name,
            str(clean.n),
            percent(clean.above_zero),
            number(clean.mean),
            interval(clean.low, clean.high),
            number(corrupted.mean),
        )
        for name, (clean, corrupted) in groups.items()
    )
    return Table(header, rows, title, align="lrrrrr")


def _prompts(subject: Subject) -> list[Block]:
    pair = subject.pair
    listed_pairs = prompt_pairs(pair.prompts, pair.corrupted, scores=(pair.clean.tolist(), pair.spoiled.tolist()))
    says = (
        "As the model sees them: a dot is a space that belongs to the token, roles are underlined, "
        "and the corrupted prompt stands below the clean one."
    )
    return [
        PromptList(listed_pairs[:SHOWN_PROMPTS], "The prompts", says),
        Details(f"All {len(listed_pairs)} prompts that are swept", (PromptList(listed_pairs),)),
    ]


def _written(record: Record) -> Section:
    text = (
        "The residual stream is a sum of what every head and MLP has written to it. The logit lens reads the answer "
        "from the sum as it stands after each layer, attribution from each part alone; both keep the last norm's scale "
        "of the run. They see what is said to the output directly, and nothing of what acts through later layers."
    )
    return _section("Where is the answer written?", text, record, ("lens", "layers", "heads-direct", "neurons"))


def _carried(record: Record) -> Section:
    text = (
        "One activation of the clean run is put into the run of the corrupted prompt, and everything behind it is "
        "computed again. An effect of 0 means that the answer stays that of the corrupted prompt, 1 that it becomes "
        "that of the clean one. Tokens are compared on eight prompts of equal length, roles on the swept prompts, "
        "whose templates differ."
    )
    return _section("What carries it?", text, record, ("tokens", "roles", "heads", "heads-role"))


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
    return Section("How do these heads act?", (Text((text,)), *blocks) if blocks else ())


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


def agreement(one: xr.DataArray, other: xr.DataArray) -> str:
    """How alike the effects of heads are under two corruptions."""
    x, y = (effects.mean("prompt").values.ravel() for effects in (one, other))
    first, second = ([row.label for row in top(effects, N_LEADING)] for effects in (one, other))
    shared = [label for label in first if label in second]
    names = f": {listed(shared)}" if shared else ""
    return (
        f"Under {one.attrs['corruption']} and {other.attrs['corruption']} the effects correlate at "
        f"{number(float(np.corrcoef(x, y)[0, 1]))}; {len(shared)} of the first {len(first)} heads are the same{names}"
    )


def _looks(subject: Subject, record: Record) -> Section:
    found = record.results.get("attention")
    text = (
        "Attention says from where a head may take what it writes. It is no effect: a head can look at a token and "
        "pass on nothing of it. The heads are those with the largest effects of their output."
    )
    if found is None:
        return Section("Where do these heads look?")
    shown = found.isel(prompt=slice(0, SHOWN_PROMPTS * 2))
    roles = {name: places[: shown.sizes["prompt"]].tolist() for name, places in subject.pair.prompts.roles.items()}
    return Section("Where do these heads look?", (Text((text,)), *blocks_of(shown, roles=roles)))  # type: ignore[arg-type]


def _checked(record: Record) -> Section:
    found = record.results.get("controls")
    if found is None:
        return Section("Do the controls hold?")
    values = control_values(found)
    first, *_, before_last, last = map(str, found["address"].values)
    rows = (
        (f"{first} to {before_last}", "0", number(values.largest)),
        (last, "1", number(values.whole)),
    )
    table = Table(("patch", "must have", "has"), rows, values.finding, align="lrr")
    said = [Text((_silent(array(record.results["tokens"])),))] if "tokens" in record.results else []
    return Section("Do the controls hold?", (table, *said))


def _silent(effects: xr.DataArray) -> str:
    """How many positions of the eight prompts have no effect at all: those before their changed token."""
    values = effects.transpose(..., "pos").values
    largest = np.abs(values).max(axis=tuple(range(values.ndim - 1)))
    return (
        f"On the eight fixed prompts, patching the residual stream at {int((largest == 0).sum())} of {largest.size} "
        "positions has an effect of exactly 0 on every prompt and in every layer: nothing can come from before the "
        "first token that differs."
    )


def _left_out(record: Record) -> Section:
    rows = (*record.left_out.items(), *NOT_YET)
    return Section("What was left out", (Table(("what", "why"), rows, align="ll"),))


def _section(title: str, text: str, record: Record, names: Sequence[str]) -> Section:
    """The figures of some results under what was done; none where there is no result."""
    blocks = [block for name in names if name in record.results for block in blocks_of(record.results[name])]
    return Section(title, (Text((text,)), *blocks) if blocks else ())
