"""The sections of the report on indirect object identification, in the order of the investigation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from unweave.methods.frame import attributes
from unweave.metrics.contrast import Contrast
from unweave.results import Row, summary, top
from unweave.results.labels import number
from unweave.studies.plan import Record, Result
from unweave.views.baselines import Baseline, baselines
from unweave.views.blocks import Block, Details, Figure, Section, Table, Text
from unweave.views.choice import blocks_of, finding
from unweave.views.histogram import histogram
from unweave.views.prompts import PromptList, prompt_pairs
from unweave.views.scatter import scatter
from unweave.views.titles import task_finding
from unweave.views.wording import SPACE, interval, listed, percent

if TYPE_CHECKING:
    from unweave.studies.ioi import Subject

SHOWN_PROMPTS = 3
N_LEADING = 6
NOT_YET = (
    ("which head acts through which", "path patching is not in this version"),
    ("what happens without these heads", "knockouts are not in this version"),
    ("whether the circuit is enough", "faithfulness, completeness and minimality are not in this version"),
)


def sections(subject: "Subject", record: Record) -> tuple[Section, ...]:
    """All that have something to show."""
    made = (
        _task(subject),
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
    first = next(iter(result.data_vars.values())) if isinstance(result, xr.Dataset) else result
    if first.attrs.get("method") == "attention":
        return f"heads {', '.join(map(str, first['address'].values))}"
    if "address" in first.dims:
        return control_values(first).finding
    return finding(summary(first), first)


def scores(pair: Contrast, rows: Sequence[int] | None = None) -> xr.DataArray:
    """The metric of the clean prompts, or of some of them, with both baselines as coordinates."""
    chosen = list(range(len(pair.prompts))) if rows is None else list(rows)
    sides = {name: side.cpu().numpy()[chosen] for name, side in (("clean", pair.clean), ("corrupted", pair.spoiled))}
    coords = {name: ("prompt", values) for name, values in sides.items()}
    attrs = {**attributes(pair), "quantity": pair.metric.name}
    return xr.DataArray(sides["clean"], dims="prompt", coords=coords, attrs=attrs)


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


def _task(subject: "Subject") -> Section:
    pair = subject.checked
    first = (pair.prompts.roles["IO"] < pair.prompts.roles["S1"]).cpu().numpy()
    groups = {
        "all": range(len(pair.prompts)),
        "ABBA: the indirect object named first": np.flatnonzero(first).tolist(),
        "BABA: the subject named first": np.flatnonzero(~first).tolist(),
    }
    table = {name: baselines(scores(pair, rows)) for name, rows in groups.items() if len(rows)}
    both = {
        name: xr.DataArray(side.cpu().numpy(), dims="prompt", attrs=scores(pair).attrs)
        for name, side in (("clean", pair.clean), ("corrupted", pair.spoiled))
    }
    figure = histogram(both, bins=30)
    blocks = (
        _task_table(table, task_finding(table["all"][0])),
        Figure(figure, figure.layout.meta["title"], figure.layout.meta["caption"]),
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


def _prompts(subject: "Subject") -> list[Block]:
    pair = subject.pair
    listed_pairs = prompt_pairs(
        pair.prompts, pair.corrupted, scores=(pair.clean.tolist(), pair.spoiled.tolist())
    )
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
        "The residual stream is a sum of what every head and MLP has written to it. The logit lens reads the answer from the "
        "sum as it stands after each layer, attribution from each part alone; both keep the last norm's scale of the run. "
        "They see what is said to the output directly, and nothing of what acts through later layers."
    )
    return _section("Where is the answer written?", text, record, ("lens", "layers", "heads-direct", "neurons"))


def _carried(record: Record) -> Section:
    text = (
        "One activation of the clean run is put into the run of the corrupted prompt, and everything behind it is computed "
        "again. An effect of 0 means that the answer stays that of the corrupted prompt, 1 that it becomes that of the clean "
        "one. Tokens are compared on eight prompts of equal length, roles on the swept prompts, whose templates differ."
    )
    return _section("What carries it?", text, record, ("tokens", "roles", "heads", "heads-role"))


def _compared(record: Record) -> Section:
    """Head outputs against what goes into them, against the other direction, and under the other corruption."""
    found = record.results
    if "heads" not in found:
        return Section("How do the heads act?")
    heads = found["heads"]
    z, blocks = heads["z"], []
    for site, what in (("pattern", "Where they look"), ("v", "What they read there")):
        if site in heads:
            other = by_head(heads[site], z)
            blocks.append(_figure(other, z, f"{what}, the {_noun(site)} alone, {_share(z, other)}"))
    if "heads-noise" in found:
        noise = found["heads-noise"]
        title = f"Spoiling a head alone takes away less or more than restoring it gives back: {_both_ways(z, noise)}"
        blocks += [*blocks_of(noise)[:1], _figure(noise, z, title, diagonal=False)]
    if "heads-other" in found:
        blocks.append(_figure(found["heads-other"], z, agreement(z, found["heads-other"])))
    text = (
        "A head's output changes because it looks elsewhere or because there is something else to read. On the line, the part "
        "alone does what the output does. Restoring shows what is enough for the answer, spoiling what it cannot do without; "
        "where other heads step in, the second is smaller than the first."
    )
    return Section("How do the heads act?", (Text((text,)), *blocks) if blocks else ())
