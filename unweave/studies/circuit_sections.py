"""The sections about the circuit: what heads do, which acts through which, what happens without them, is it enough."""

from collections.abc import Sequence

import xarray as xr

from unweave.circuits.evaluate import TESTS
from unweave.models.prompts import Prompts
from unweave.results.labels import number
from unweave.studies.plan import Record
from unweave.studies.subject import Subject
from unweave.views.blocks import Block, Details, Section, Text
from unweave.views.choice import blocks_of
from unweave.views.circuit.drawing import CircuitDrawing, circuit_drawing, group_colours
from unweave.views.circuit.scores import evaluation_blocks
from unweave.views.circuit.tables import path_tables
from unweave.views.head_evidence import head_evidence, roles_table
from unweave.views.sections import DOES, ENOUGH, SAYS, SIGNALS, THROUGH, WITHOUT
from unweave.views.wording import counted


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
        text.append("The drawing of the circuit stands beside the answer, at the top.")
    return _section(THROUGH, [*text, _on(subject)] if blocks else [], blocks)


def _without(subject: Subject, record: Record) -> Section:
    blocks = _blocks(record, ("knockouts", "backups"))
    return _section(WITHOUT, [*SAYS[WITHOUT], _means(subject), _on(subject)] if blocks else [], blocks)


def _signals(record: Record) -> Section:
    return _section(SIGNALS, SAYS[SIGNALS], _blocks(record, ("signals",)))


def _enough(subject: Subject, record: Record) -> Section:
    circuit = record.results.get("circuit")
    # A group has the same colour in the drawing and in the bars.
    colours = group_colours([group.name for group in circuit.groups]) if circuit else {}
    blocks = [block for table in tests_of(record) for block in evaluation_blocks(table, colours=colours)]
    return _section(ENOUGH, [*SAYS[ENOUGH], _means(subject), _on(subject)] if blocks else [], blocks)


def _means(subject: Subject) -> str:
    """What stands in for a head."""
    fill = subject.stand_in
    by = "template" if fill.how == "template" else "position"
    others = fill.reference if isinstance(fill.reference, Prompts) else subject.paths.corrupted
    how = others.source.get("corruption", "given")
    return f"In place of a head stands its mean by {by} over {counted(len(others), 'prompt')} corrupted by `{how}`."


def _on(subject: Subject) -> str:
    """Which prompts these results are of, where they are not the swept ones."""
    pair = subject.paths
    how = pair.corrupted.source.get("corruption", "given")
    return (
        f"These results are of {counted(len(pair.prompts), 'prompt')} under the corruption `{how}`, where the mean "
        f"{pair.metric.name} is {number(float(pair.clean.mean()))} clean and {number(float(pair.spoiled.mean()))} "
        "corrupted."
    )


def _blocks(record: Record, names: Sequence[str]) -> list[Block]:
    return [block for name in names if name in record.results for block in blocks_of(record.results[name])]


def _section(title: str, text: Sequence[str], blocks: Sequence[Block]) -> Section:
    return Section(title, (Text(tuple(text)), *blocks) if blocks else ())
