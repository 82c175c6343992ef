"""The rows as a table in the terminal and as JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.compare import TOLERANCE, Row
from benchmarks.sweeps import S_INHIBITION

MEGA = 1e6
GIGA = 1e9
# The sweep whose arithmetic rate has a goal, and that goal as a share of the machine's matrix product rate.
RATED = "heads"
SHARE_GOAL = 0.65

_VALUES = ", ".join(f"{layer}.{head}" for layer, head, _ in S_INHIBITION)
# What the names of path patching stand for; the other side has no function for it.
PATHS = {
    "paths": "path patching from every head to the logits; the loop is two steps over TransformerLens's hooks.",
    "paths-to-values": f"as paths, to the values of {_VALUES}, from the heads in layers before the last of them.",
}

COLUMNS = (
    "patches",
    "TransformerLens\nseconds",
    "unweave\nseconds",
    "ratio\n(goal)",
    "by hand\nratio",
    "largest\ndifference",
    "arithmetic\nrate",
    "peak\nmemory",
)


def show(console: Console, rows: Sequence[Row], setting: dict[str, str | int]) -> None:
    """Print the setting, one line a sweep, what the columns mean, and the arithmetic rate of the head sweeps."""
    console.print(", ".join(f"{name} {value}" for name, value in setting.items()), highlight=False)
    table = Table()
    table.add_column("sweep")
    for title in COLUMNS:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    for note in _notes(rows):
        console.print(note, highlight=False)


def write(path: Path, rows: Sequence[Row], setting: dict[str, str | int]) -> None:
    """Everything that the table shows, and the single times, as JSON."""
    lines = [asdict(row) | _ratios(row) for row in rows]
    for line, row in zip(lines, rows, strict=True):
        line["rate"] = asdict(row.rate) | {"share": row.rate.share}
    path.write_text(json.dumps({"setting": setting, "rows": lines}, indent=1) + "\n", encoding="utf-8")


def _ratios(row: Row) -> dict[str, float | bool | None]:
    ratios = {"ratio": row.ratio, "hand_ratio": row.hand_ratio, "whole_ratio": row.whole_ratio}
    return {**ratios, "agrees": row.agrees}


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"{row.corruption}: {row.sweep}",
        str(row.patches),
        f"{row.theirs_seconds:.1f}" if row.sampled == row.patches else f"~{row.theirs_seconds:.1f}",
        f"{row.ours_seconds:.2f}",
        _marked(f"{row.ratio:.1f}x ({row.goal:g}x)", row.ratio >= row.goal),
        "" if row.hand_ratio is None else f"{row.hand_ratio:.1f}x",
        _marked(f"{row.difference:.0e}", row.agrees),
        f"{row.rate.share:.0%}",
        _marked(f"{row.peak_bytes / MEGA:.0f} MB", row.peak_bytes <= row.memory_bytes),
    )


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    yield "Patches of the eight fixed prompts, float32 on the CPU, both sides in this process."
    for sampled in sorted({row.sampled for row in rows if row.sampled < row.patches}):
        yield f"~: {sampled} patches of the loop, chosen at random, were run, and their time was scaled to all."
    yield "Seconds: on both sides without the runs of the two prompt sets that stand before; with them:"
    for row in rows:
        both = f"{row.theirs_before:.2f} s there, {row.ours_before:.2f} s here"
        yield f"  {row.corruption}: {row.sweep}: {row.whole_ratio:.1f}x ({both})"
    yield "unweave: the median run. Keys and values have one patch for each group of query heads, on both sides."
    yield "By hand: hooks on transformers' model, 32 patches a pass, scaled to all; no module gives or takes a pattern."
    yield f"Difference: of effects, prompt by prompt, at the patches that both ran; {TOLERANCE:g} is allowed."
    yield "Arithmetic rate: on the work that is needed, as a share of this machine's matrix product rate."
    yield f"Memory: resident, beyond the model; the budget was {rows[0].memory_bytes / MEGA:.0f} MB."
    for name, said in PATHS.items():
        if any(row.sweep == name for row in rows):
            yield f"{name}: {said}"
    for row in rows:
        if row.sweep == RATED:
            yield _rate_line(row)


def _rate_line(row: Row) -> str:
    rate, share = row.rate, _marked(f"{row.rate.share:.0%}", row.rate.share >= SHARE_GOAL)
    return (
        f"{row.corruption}: {row.sweep} needs {rate.needed / GIGA:.0f} billion operations and reached "
        f"{rate.reached / GIGA:.0f} billion a second of the machine's {rate.machine / GIGA:.0f}: "
        f"{share} (goal {SHARE_GOAL:.0%})."
    )


def _marked(text: str, good: bool) -> str:
    return f"[green]{text}[/]" if good else f"[bold red]! {text}[/]"
