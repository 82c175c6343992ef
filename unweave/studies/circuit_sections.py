"""The sections about the circuit: what heads do, which acts through which, what happens without them, is it enough."""

from collections.abc import Sequence

import xarray as xr

from unweave.circuits.evaluate import TESTS
from unweave.circuits.halves import halves
from unweave.methods.replacement import Replacement
from unweave.metrics.contrast import Contrast
from unweave.models.prompts import Prompts
from unweave.registry import DOES, ENOUGH, SIGNALS, THROUGH, WITHOUT
from unweave.results.labels import number
from unweave.studies.plan import Record
from unweave.studies.scores import scores
from unweave.studies.subject import Subject, stand_in
from unweave.views.blocks import Block, Details, Section, Text
from unweave.views.circuit_drawing import CircuitDrawing, circuit_drawing, group_colours
from unweave.views.circuit_layout import edges_said
from unweave.views.circuit_tables import path_tables
from unweave.views.evaluation_pictures import evaluation_blocks
from unweave.views.head_pictures import head_evidence, roles_table
from unweave.views.investigation import SAYS
from unweave.views.pictures import blocks_of
from unweave.views.result_tables import baseline
from unweave.views.wording import counted, interval


def circuit_sections(subject: Subject, record: Record) -> tuple[Section, ...]:
    """In the order of the investigation; a section without a result has no blocks."""
    return (
        _does(record),
        _through(subject, record),
        _without(subject, record),
        _signals(record),
        _enough(subject, record),
    )


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


def _does(record: Record) -> Section:
    blocks: list[Block] = [roles_table(record.results["names"])] if "names" in record.results else []
    return _section(DOES, SAYS[DOES], [*blocks, *_blocks(record, ("head-scores",))])


def _through(subject: Subject, record: Record) -> Section:
    blocks = _blocks(record, ("paths",))
    circuit = record.results.get("circuit")
    text = [*SAYS[THROUGH]]
    if circuit is not None and circuit.edges:
        blocks.append(Details(f"The {counted(len(circuit.edges), 'path')} of the circuit", path_tables(circuit)))
        text += [edges_said(circuit.edges, circuit.attrs), "The drawing of the circuit stands beside the answer."]
    return _section(THROUGH, [*text, _on(subject.paths)] if blocks else [], blocks)


def _without(subject: Subject, record: Record) -> Section:
    blocks = _blocks(record, ("knockouts", "backups"))
    if not blocks:
        return Section(WITHOUT)
    pair = subject.paths
    return _section(WITHOUT, [*SAYS[WITHOUT], _means(subject.stand_in, pair), _on(pair)], blocks)


def _signals(record: Record) -> Section:
    return _section(SIGNALS, SAYS[SIGNALS], _blocks(record, ("signals",)))


def _enough(subject: Subject, record: Record) -> Section:
    circuit = record.results.get("circuit")
    # A group has the same colour in the drawing and in the bars.
    colours = group_colours([group.name for group in circuit.groups]) if circuit else {}
    blocks = [block for table in tests_of(record) for block in evaluation_blocks(table, colours=colours)]
    if not blocks:
        return Section(ENOUGH)
    pair = subject.judged
    apart = set(pair.prompts.texts).isdisjoint(_choosing(subject))
    text = "None of them chose the circuit." if apart else "Some chose the circuit, which looks better on these."
    return _section(ENOUGH, [*SAYS[ENOUGH], _means(stand_in(pair), pair), f"{_on(pair)} {text}"], blocks)


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
        f"{pair.metric.name} is {number(float(pair.clean.mean()))} clean and {number(float(pair.spoiled.mean()))} "
        f"corrupted: a gap of {number(gap.mean)} {pair.metric.unit}{spread}, of which effects are shares."
    )


def _blocks(record: Record, names: Sequence[str]) -> list[Block]:
    return [block for name in names if name in record.results for block in blocks_of(record.results[name])]


def _section(title: str, text: Sequence[str], blocks: Sequence[Block]) -> Section:
    return Section(title, (Text(tuple(text)), *blocks) if blocks else ())
