"""The report of the palindrome study: its answer, its sections, how it was made."""

import os
from collections.abc import Mapping
from typing import Any

from unweave.circuits.circuit import Circuit
from unweave.results.labels import number
from unweave.studies.palindrome import palindrome_findings as findings
from unweave.studies.palindrome.choice import members, smallest
from unweave.studies.palindrome.palindrome_findings import FINDINGS, NAMES, exact, share
from unweave.studies.palindrome.palindrome_sections import sections
from unweave.studies.palindrome.subject import ABLATED, PalindromeSettings, PalindromeSubject
from unweave.studies.plan import Record
from unweave.studies.study_report import appendix, command
from unweave.views.blocks import Fact, Table
from unweave.views.circuit_drawing import CircuitDrawing, circuit_drawing
from unweave.views.report import Report
from unweave.views.wording import counted, listed


def palindrome_report(subject: PalindromeSubject, record: Record, seconds: float, lacks: str = "") -> Report:
    """The report as a value, of whatever the study has finished. `lacks`: why the model does not do the task."""
    return Report(
        title=f"How the classifier “{subject.model.config.name}” tells palindromes",
        question=subject.task.question,
        facts=_facts(subject, record, seconds, lacks),
        sections=sections(subject, record),
        appendix=appendix(record, seconds, _settings(subject)),
        command=made_by(subject.settings),
        drawing=_drawing(record),
    )


def made_by(settings: PalindromeSettings) -> str:
    """What makes this report again."""
    names = ("model", "config", "prompts", "seed", "device", "dtype", "out")
    return command(settings, "palindrome", names)


def _facts(subject: PalindromeSubject, record: Record, seconds: float, lacks: str) -> tuple[Fact, ...]:
    found = record.results
    facts = [Fact("not studied", f"The model does not do the task: {lacks}")] if lacks else []
    facts += _headlines(record)
    facts += _answers(found)
    if record.stopped:
        facts.append(Fact("stopped", f"in the step `{record.stopped}`; what follows is what was finished by then"))
    return (*facts, *_made(subject, seconds))


def _answers(found: Mapping[str, Any]) -> list[Fact]:
    """What the model does, and what it cannot do, a line each."""
    facts = []
    if "mirror" in found:
        facts.append(Fact("compares", findings.mirror_finding(found["mirror"])))
    if "from-end" in found and "parts" in found:
        facts.append(Fact("decides", FINDINGS["from-end"](found), findings.parts_finding(found)))
    if "paths" in found:
        facts.append(Fact("by way of", findings.paths_finding(found)))
    if "blind" in found:
        facts.append(Fact("misses", findings.blind_finding(found["blind"])))
    alike = findings.confusions_in_weights(found) if "confusions" in found and "mirror" in found else None
    if alike is not None:
        said = f"What is missed, pair of values by pair, and what {alike.head}'s QK circuit confuses correlate at"
        facts.append(Fact("in its weights", f"{said} {number(alike.correlation)}"))
    if "adversarial" in found:
        facts.append(Fact("is fooled", findings.adversarial_finding(found["adversarial"])))
    return facts


def _headlines(record: Record) -> list[Fact]:
    """How well the task is done, by class; a single wrong value; the circuit; what must be 0."""
    found, facts = record.results, []
    if "accuracy" in found:
        right = found["accuracy"]
        for name, rows in {
            "right": right,
            **{word: right[right["answer"] == label] for label, word in NAMES.items()},
        }.items():
            one = share(rows)
            facts.append(
                Fact(
                    name,
                    exact(one.value),
                    f"of {one.n}; 95\u00a0% interval {exact(one.low)} to {exact(one.high)}",
                    True,
                )
            )
    if "mismatches" in found:
        one = share(1 - found["mismatches"].sel(pairs=1))
        note = f"palindromes with one; {exact(one.low)} to {exact(one.high)}"
        facts.append(Fact("single wrong value noticed", exact(one.value), note, True))
    if "subsets" in found:
        kept = smallest(found["subsets"])
        note = f"right with {listed(members(kept))} alone, other heads at their means"
        facts.append(Fact("the circuit's accuracy", exact(float(found["subsets"].sel(kept=kept).mean())), note, True))
    if "controls" in found:
        largest = float(abs(found["controls"][:, :-1]).max())
        facts.append(Fact("must be 0", f"{largest:.3g}", "the largest effect of a patch before the mismatch", True))
    return facts


def _made(subject: PalindromeSubject, seconds: float) -> list[Fact]:
    """Model, sequences and time."""
    settings, config = subject.settings, subject.model.config
    shape = f"{counted(config.n_layers, 'layer')} of {counted(config.n_heads, 'head')}, d_model {config.d_model}"
    about = ", ".join(filter(None, (shape, subject.settings.dtype, config.source, config.revision)))
    n = len(subject.task.prompts)
    made = f"{n} of both classes, {len(subject.matched.prompts)} palindromes changed, {len(subject.pair.prompts)} swept"
    return [
        Fact("model", config.name, about),
        Fact(
            "sequences",
            made,
            f"{2 * subject.half_length} values of 0 to {subject.max_value}; seeds {settings.seed}, {settings.seed + 1}",
        ),
        Fact("time", f"{seconds:.0f} s", f"on {counted(os.cpu_count() or 1, 'core')}, {subject.model.device.type}"),
    ]


def _drawing(record: Record) -> CircuitDrawing | None:
    circuit = record.results.get("circuit")
    return circuit_drawing(circuit) if isinstance(circuit, Circuit) else None


def _settings(subject: PalindromeSubject) -> Table:
    """What the study was run with."""
    settings, config = subject.settings, subject.model.config
    rows = {
        "model": config.name,
        "source": config.source,
        "revision": config.revision,
        "shape": f"{config.n_layers} layers, {config.n_heads} heads, d_model {config.d_model}, d_head {config.d_head}, "
        f"d_mlp {config.d_mlp}, {config.d_vocab} tokens, {config.n_ctx} positions",
        "weights": settings.dtype,
        "device": str(subject.model.device),
        "sequences of both classes": f"{len(subject.task.prompts)}, seed {settings.seed}",
        "palindromes": f"{len(subject.matched.prompts)}, seed {settings.seed + 1}",
        "ablated, swept": f"{settings.count(ABLATED)} of both classes, {len(subject.pair.prompts)} palindromes",
        "intervals": "95 %: Wilson's for shares, t corrected for skewness for other means; sequences are independent",
    }
    return Table(
        ("setting", "value"), tuple((name, value) for name, value in rows.items() if value), "Settings", align="ll"
    )
