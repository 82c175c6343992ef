"""The sections of the report, in the order of the investigation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import xarray as xr

from unweave.results.labels import number
from unweave.studies.palindrome import palindrome_findings as findings
from unweave.studies.palindrome.ablations import PARTS
from unweave.studies.palindrome.behaviour import mismatched_pairs
from unweave.studies.palindrome.choice import ENOUGH, comparing, deciding, pairs_of, smallest
from unweave.studies.palindrome.palindrome_findings import FINDINGS, NAMES, exact, share
from unweave.studies.palindrome.subject import PalindromeSubject
from unweave.studies.plan import Record
from unweave.tasks.custom_sequences import sequence
from unweave.views.attention_view import end_bars
from unweave.views.blocks import Block, Details, Figure, Section, Table, Text
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.lines import halves, lines, markers
from unweave.views.evaluation_pictures import evaluation_blocks
from unweave.views.pictures import blocks_of
from unweave.views.prompt_list import display_seq, mismatches
from unweave.views.wording import counted, percent

Found = Mapping[str, Any]
N_WRONG = 6


def sections(subject: PalindromeSubject, record: Record) -> tuple[Section, ...]:
    """All that have something to show."""
    found = record.results
    made = (
        Section("Does it do the task?", _does(subject, found)),
        Section("Which parts write the answer?", _written(found)),
        Section("Where do the heads look?", _looks(subject, found)),
        Section("What carries a single mismatch?", _carries(found)),
        Section("Which acts through which?", _composes(found)),
        Section("What happens without them?", _without(found)),
        Section("Is the circuit enough?", _enough(found)),
        Section("Where is it blind?", _blind(subject, found)),
        Section("Do the controls hold?", _controls(found)),
        Section("What was left out", _left_out(record)),
    )
    return tuple(section for section in made if section.blocks)


def _does(subject: PalindromeSubject, found: Found) -> list[Block]:
    if "accuracy" not in found:
        return []
    right = found["accuracy"]
    rows = []
    for label, name in NAMES.items():
        one = right[right["answer"] == label]
        each = share(one)
        sure = float(one["probability"].mean())
        rows.append((name, str(each.n), exact(each.value), f"{exact(each.low)} to {exact(each.high)}", number(sure, 3)))
    header = ("sequences", "n", "right", "95\u00a0% interval", "mean probability of a palindrome")
    note = (
        "Intervals are Wilson's. Half of the sequences are palindromes; in the others, each value of the second half "
        "is drawn anew with probability 1/2."
    )
    blocks: list[Block] = [Table(header, tuple(rows), findings.accuracy_finding(right), note, "lrrrr")]
    if "mismatches" in found:
        figure = markers(found["mismatches"].rename(pairs="wrong values"), x="wrong values")
        blocks.append(Figure(figure, findings.mismatch_finding(found["mismatches"])))
    return [*blocks, *_mistakes(subject, right)]


def _mistakes(subject: PalindromeSubject, right: xr.DataArray) -> list[Block]:
    """The sequences that the model gets wrong, or an assurance that there are none."""
    rows = [int(row) for row in (right.values == 0).nonzero()[0]]
    if not rows:
        return [Text((f"None of the {right.sizes['prompt']} sequences is wrong.",))]
    wrong = right.isel(prompt=rows)
    few = int((wrong["mismatches"] == 1).sum())
    title = (
        f"{counted(len(rows), 'sequence')} of {right.sizes['prompt']} wrong, {few} of them with a single wrong value"
    )
    shown = display_seq(
        subject.task.prompts.take(rows[:N_WRONG]), wrong["probability"].values[:N_WRONG].tolist(), title=title
    )
    note = "Marked: values that differ from their mirror image. Behind the arrow, the probability of a palindrome."
    return [replace(shown, caption=note)]


def _written(found: Found) -> list[Block]:
    if "parts" not in found:
        return []
    text = (
        "The logit difference between the classes is a sum of what each part has written at END. Histograms show "
        "it for both classes: class 1 is a palindrome, class 0 is not; above 0 speaks for a palindrome. Parts "
        "that are alike in both classes only shift the answer."
    )
    return [Text((text,)), *blocks_of(found["parts"], title=findings.parts_finding(found))]


def _looks(subject: PalindromeSubject, found: Found) -> list[Block]:
    blocks: list[Block] = []
    if "qk-tokens" in found:
        blocks += blocks_of(found["qk-tokens"])
    if "qk-positions" in found:
        blocks += blocks_of(found["qk-positions"])
    if "mirror" in found:
        first = _first_by_mirror(found)
        title = findings.mirror_finding(found["mirror"])
        blocks.append(
            _cases(
                found["mirror"], first, title, f"From each place of the second half to its mirror image, head {first}."
            )
        )
        rest = [str(name) for name in found["mirror"]["address"].values if str(name) != first]
        blocks.append(_folded(found["mirror"], rest, "to its mirror image"))
    if "from-end" in found and deciding(found):
        head = ".".join(map(str, deciding(found)[0]))
        title = findings.end_finding(found["from-end"], head)
        blocks.append(
            _cases(found["from-end"], head, title, f"From END to each place of the second half, head {head}.")
        )
    if "attention" in found:
        blocks += _examples(subject, found)
    if not blocks:
        return []
    text = (
        "QK circuits are read off the weights: where a head would look if tokens alone, or positions alone, stood "
        "in the stream. What it does on sequences follows: each value of the second half is left as it is, or "
        "replaced so that its pair differs, and attention is compared."
    )
    return [Text((text,)), *blocks]


def _first_by_mirror(found: Found) -> str:
    """The head that looks at the mirror image with the largest difference; where none does, with the largest share."""
    names = comparing(found)
    if names:
        return names[0]
    means = found["mirror"].mean(("prompt", "pos", "case"))
    return str(means["address"].values[means.values.argmax()])


def _cases(result: xr.DataArray, name: str, title: str, note: str) -> Figure:
    """Both cases as lines, position by position."""
    figure = lines(result.sel(address=name, drop=True), x="pos", series="case")
    return Figure(figure, title, f"{note} {Figure(figure).caption}".strip())


def _folded(result: xr.DataArray, names: Sequence[str], where: str) -> Details:
    figures = [_cases(result, name, f"Head {name}, attention {where}", "") for name in names]
    return Details(f"The other {counted(len(names), 'head')}", figures)


def _examples(subject: PalindromeSubject, found: Found) -> list[Block]:
    """Attention on a few palindromes and their twins: the last row as bars, and everything to look at."""
    patterns, n = found["attention"], found["attention"].sizes["prompt"] // 2
    tokens = torch.cat([side.tokens[:n] for side in (subject.pair.prompts, subject.pair.corrupted)])
    marks = mismatches(sequence(tokens, subject.max_value))
    wrong = [row.nonzero()[:, 0].tolist() for row in marks]
    names = [
        f"{'palindrome' if not at else 'its twin'} {row % n + 1}" + (f", {at[-1]} differs" if at else "")
        for row, at in enumerate(wrong)
    ]
    # A palindrome stands beside its twin.
    order = [row + side for row in range(n) for side in (0, n)]
    heads = [".".join(map(str, head)) for head in deciding(found)] if "parts" in found else []
    bars = [
        end_bars(patterns.isel(prompt=order), head, marks[order].tolist(), [names[row] for row in order])
        for head in heads
    ]
    view = blocks_of(patterns, title=f"Attention of every head on {n} palindromes and the same with one wrong value")
    return [*bars, *view]


def _carries(found: Found) -> list[Block]:
    blocks = [block for name in ("roles", "heads") if name in found for block in blocks_of(found[name])]
    text = (
        "A palindrome is set against the same sequence with one wrong value in the second half (`mismatch`; "
        "`mirror` is the value that it should equal). One activation at a time is taken from the palindrome into "
        "the sequence that is none: 0 leaves it as it was, 1 makes the model call it a palindrome as surely as "
        "the palindrome itself."
    )
    return [Text((text,)), *blocks] if blocks else []


def _composes(found: Found) -> list[Block]:
    blocks: list[Block] = []
    if "composition" in found:
        blocks += blocks_of(found["composition"])
    if "paths" in found:
        table = found["paths"].rename(sender="head that sends", receiver="what receives")
        figure = heatmap(table, x="what receives", y="head that sends", values=True)
        blocks.append(Figure(figure, findings.paths_finding(found)))
    pairs = (
        [" → ".join(".".join(map(str, head)) for head in pair) for pair in pairs_of(found)]
        if "through" in found
        else []
    )
    for name in ("k-circuits", "v-circuits"):
        if name in found and pairs:
            first, *rest = [_place(found[name], pair) for pair in pairs]
            blocks += [first, *([Details(f"The other pairs, {found[name].attrs['method']}", rest)] if rest else [])]
    if "through" in found and pairs:
        sender, _, receiver = pairs[0].partition(" → ")
        note = f"What {sender} writes at each place of the second half, behind the OV circuit of {receiver}."
        blocks.append(_cases(found["through"], pairs[0], findings.through_finding(found["through"], pairs[0]), note))
        if pairs[1:]:
            others = [
                _cases(found["through"], pair, findings.through_finding(found["through"], pair), "")
                for pair in pairs[1:]
            ]
            blocks.append(Details("The other pairs, attribution", others))
    text = (
        "Composition scores compare what a head writes with what a later one reads, against random matrices. Path "
        "patching sends the wrong value's effect from one head to one input of another alone. K- and "
        "V-composition say, position by position, what the later head asks of what the earlier one moves, and "
        "what it says of it."
    )
    return [Text((text,)), *blocks] if blocks else []


def _place(circuits: xr.DataArray, pair: str) -> Figure:
    """One pair's circuit by position, its two halves coloured."""
    sender, _, receiver = pair.partition(" → ")
    one = circuits.sel(address=pair, drop=True).assign_attrs(sender=sender, receiver=receiver)
    (block,) = blocks_of(halves(one))
    assert isinstance(block, Figure)
    return block


def _without(found: Found) -> list[Block]:
    blocks: list[Block] = []
    if "ablations" in found:
        same = "Zero for the queries and zero for the keys are one and the same: every score is then 0."
        blocks.append(_ablated(found, "ablations"))
        blocks.append(Text((f"{findings.constant_finding(found['ablations'])} {same}",)))
    if "ablations-loss" in found:
        blocks.append(Details("The same in cross-entropy", [_ablated(found, "ablations-loss")]))
    parts = ", ".join(PARTS)
    text = (
        f"Of each head, one part at a time ({parts}) is replaced at all positions: by zero, by its mean over the "
        "sequences at that position, or by standard normal noise. A model that loses 50 points of "
        "accuracy does no better than a coin."
    )
    return [Text((text,)), *blocks] if blocks else []


def _ablated(found: Found, name: str) -> Figure:
    """Heads by what is replaced, a panel for each replacement."""
    table = found[name].rename(address="head", how="replaced by")
    return Figure(heatmap(table, x="part", y="head", facet="replaced by", values=True), FINDINGS[name](found))


def _enough(found: Found) -> list[Block]:
    blocks: list[Block] = []
    if "subsets" in found:
        shares = found["subsets"]
        names = [str(name) for name in shares["kept"].values]
        ranked = sorted(names, key=lambda name: -float(shares.sel(kept=name).mean()))
        chosen = smallest(shares)
        rows = tuple(
            (
                name + (" ←" if name == chosen else ""),
                str(len(name.split(", ")) if name != "none" else 0),
                exact(each.value),
                f"{exact(each.low)} to {exact(each.high)}",
            )
            for name, each in ((name, share(shares.sel(kept=name))) for name in ranked)
        )
        note = (
            "All other heads are at their mean over the sequences, position by position. ← the fewest heads that keep "
            f"{percent(ENOUGH)} of what the model does better than chance; they are the circuit."
        )
        blocks.append(
            Table(
                ("heads kept", "heads", "right", "95\u00a0% interval"),
                rows,
                findings.subset_finding(shares),
                note,
                "lrrr",
            )
        )
    if "evaluation" in found:
        for part in ("faithfulness", "completeness", "minimality"):
            if part in found["evaluation"]:
                blocks += evaluation_blocks(found["evaluation"][part].to_dataset())
    text = (
        "With few heads every set of them can be tried. F is the mean logit difference of the right class, over "
        "sequences of both classes. Faithful: F with all other heads at their means is near the model's."
    )
    return [Text((text,)), *blocks] if blocks else []


def _blind(subject: PalindromeSubject, found: Found) -> list[Block]:
    blocks: list[Block] = []
    if "blind" in found:
        plain = halves_of_values(found["blind"])
        blocks += blocks_of(plain, title=findings.blind_finding(plain))
    if "confusions" in found:
        figure = heatmap(
            found["confusions"].rename(wrong="value that stands there", right="value that should"),
            x="value that should",
            y="value that stands there",
        )
        draws = found["confusions"].sizes["prompt"]
        note = (
            f"Each cell: {draws} palindromes, otherwise random, at each place of the second half in turn. "
            "Crosses: no change."
        )
        blocks.append(Figure(figure, findings.confusion_finding(found), note))
    if "adversarial" in found:
        made = found["adversarial"]
        prompts = sequence(torch.from_numpy(made.values).long(), subject.max_value)
        shown = display_seq(prompts, made["probability"].values.tolist(), title=findings.adversarial_finding(made))
        wrong = int(mismatched_pairs(prompts.tokens).min())
        least = f"all {wrong} pairs" if wrong == subject.half_length else f"at least {counted(wrong, 'pair')}"
        note = (
            f"Each was checked to be no palindrome ({least} of its values differ), and run again by itself; "
            "that run's probability of a palindrome stands behind it."
        )
        blocks.append(replace(shown, caption=note))
    text = (
        "In each palindrome one value is replaced by another, at every place in turn. A change is missed where "
        "the model still calls the sequence a palindrome. Then every value is tried in place of every other. "
        "Last, sequences are made to fool it: palindromes of the values that are confused most, with as many of "
        "them exchanged at once as pass."
    )
    return [Text((text,)), *blocks] if blocks else []


def halves_of_values(missed: xr.DataArray) -> xr.DataArray:
    """The result with its positions, START and END left out, in two halves."""
    n = missed.sizes["pos"]
    return missed.assign_coords(part=("pos", ["first half"] * (n // 2) + ["second half"] * (n - n // 2)))


def _controls(found: Found) -> list[Block]:
    if "controls" not in found:
        return []
    values = found["controls"]
    largest, whole = float(abs(values[:, :-1]).max()), float(values[:, -1].mean())
    *none, last = map(str, values["address"].values)
    rows = ((", ".join(none), "0", number(largest)), (last, "1", number(whole)))
    return [Table(("patch", "must have", "has"), rows, findings.controls_finding(values), align="lrr")]


def _left_out(record: Record) -> list[Block]:
    rows = tuple(record.left_out.items())
    return [Table(("what", "why"), rows, align="ll")] if rows else []
