"""What the report shows of each result, beyond the pictures that its method has."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import xarray as xr

from unweave.nodes import Head, head_name
from unweave.results.labels import number
from unweave.studies.palindrome import palindrome_findings as findings
from unweave.studies.palindrome.behaviour import Pair, mismatched_pairs, pair_name
from unweave.studies.palindrome.choice import ENOUGH, comparing, deciding, heads_of, members, pairs_of, smallest
from unweave.studies.palindrome.palindrome_findings import exact, share
from unweave.studies.palindrome.sequences import PalindromeSubject
from unweave.studies.plan import Results
from unweave.tasks.custom_sequences import sequence
from unweave.views.attention_view import end_bars
from unweave.views.blocks import Block, Details, Figure, Table, Text
from unweave.views.charts.heatmap import heatmap
from unweave.views.charts.lines import halves, lines, markers
from unweave.views.pictures import blocks_of
from unweave.views.prompt_list import display_seq, mismatches
from unweave.views.wording import counted, percent

N_WRONG = 6
INTERVAL = "95\u00a0% interval"
SAME = " Zero for the queries and zero for the keys are one and the same: every score is then 0."


def accuracy_blocks(subject: PalindromeSubject, found: Results) -> list[Block]:
    """How well each class is done, and the sequences that are wrong."""
    right = found["accuracy"]
    rows = []
    for name, one in findings.by_name(right).items():
        each, sure = share(one), number(float(one["probability"].mean()), 3)
        rows.append((name, str(each.n), exact(each.value), each.interval, sure))
    header = ("sequences", "n", "right", INTERVAL, "mean probability of a palindrome")
    note = (
        "Intervals are Wilson's. Half of the sequences are palindromes; in the others, each value of the second half "
        "is drawn anew with probability 1/2."
    )
    return [Table(header, tuple(rows), findings.accuracy_finding(found), note, "lrrrr"), _mistakes(subject, right)]


def _mistakes(subject: PalindromeSubject, right: xr.DataArray) -> Block:
    rows = [int(row) for row in (right.values == 0).nonzero()[0]]
    if not rows:
        return Text((f"None of the {right.sizes['prompt']} sequences is wrong.",))
    wrong, of = right.isel(prompt=rows), f"{counted(len(rows), 'sequence')} of {right.sizes['prompt']} wrong"
    title = f"{of}, {int((wrong['mismatches'] == 1).sum())} of them with a single wrong value"
    prompts, given = subject.task.prompts.take(rows[:N_WRONG]), wrong["probability"].values[:N_WRONG].tolist()
    note = "Marked: values that differ from their mirror image. After the arrow, the probability of a palindrome."
    return replace(display_seq(prompts, given, title=title), caption=note)


def mismatch_blocks(found: Results) -> list[Block]:
    figure = markers(found["mismatches"].rename(pairs="wrong values"), x="wrong values")
    return [Figure(figure, findings.mismatch_finding(found))]


def mirror_blocks(found: Results) -> list[Block]:
    """The head that looks at the mirror image with the largest difference; if none does, with the largest share."""
    mirror, means = found["mirror"], found["mirror"].mean(("prompt", "pos", "case"))
    heads = heads_of(mirror["address"])
    first = (comparing(found) or [heads[int(means.values.argmax())]])[0]
    note = f"From each place of the second half to its mirror image, head {head_name(first)}."
    rest = [head_name(head) for head in heads if head != first]
    folded = [_cases(mirror, name, f"Head {name}, attention to its mirror image") for name in rest]
    return [
        _cases(mirror, head_name(first), findings.mirror_finding(found), note),
        Details(f"The other {counted(len(rest), 'head')}", folded),
    ]


def end_blocks(found: Results) -> list[Block]:
    name = head_name(deciding(found)[0])
    note = f"From END to each place of the second half, head {name}."
    return [_cases(found["from-end"], name, findings.end_finding(found), note)]


def _cases(result: xr.DataArray, name: str, title: str, note: str = "") -> Figure:
    """Both cases as lines, position by position."""
    figure = lines(result.sel(address=name, drop=True), x="pos", series="case")
    return Figure(figure, title, f"{note} {Figure(figure).caption}".strip())


def example_blocks(subject: PalindromeSubject, n: int, found: Results) -> list[Block]:
    """Attention on `n` palindromes, each next to its twin: the last row as bars, and everything to look at."""
    patterns = found["attention"]
    tokens = torch.cat([side.tokens[:n] for side in (subject.pair.prompts, subject.pair.corrupted)])
    marks = mismatches(sequence(tokens, subject.max_value))
    names = []
    for row, mark in enumerate(marks):
        wrong = mark.nonzero()[:, 0].tolist()
        names.append(f"its twin {row % n + 1}, {wrong[-1]} differs" if wrong else f"palindrome {row % n + 1}")
    order = [row + side for row in range(n) for side in (0, n)]
    shown, marked = patterns.isel(prompt=order), marks[order].tolist()
    heads: Sequence[Head] = deciding(found) if "parts" in found else ()
    bars = [end_bars(shown, head_name(head), marked, [names[row] for row in order]) for head in heads]
    title = f"Attention of every head on {n} palindromes and the same with one wrong value"
    return [*bars, *blocks_of(patterns, title=title)]


def path_blocks(found: Results) -> list[Block]:
    table = found["paths"].rename(sender="head that sends", receiver="what receives")
    figure = heatmap(table, x="what receives", y="head that sends", values=True)
    return [Figure(figure, findings.paths_finding(found))]


def place_blocks(name: str, found: Results) -> list[Block]:
    """K- or V-composition by position, of each pair, its two halves coloured."""

    def one(pair: Pair) -> Block:
        sender, receiver = map(head_name, pair)
        circuit = found[name].sel(address=pair_name(pair), drop=True).assign_attrs(sender=sender, receiver=receiver)
        return blocks_of(halves(circuit))[0]

    return _leading([one(pair) for pair in pairs_of(found)], f"The other pairs, {found[name].attrs['method']}")


def through_blocks(found: Results) -> list[Block]:
    pairs, made = pairs_of(found), []
    for pair in pairs:
        sender, receiver = map(head_name, pair)
        note = f"What {sender} writes at each place of the second half, after the OV circuit of {receiver}."
        title = findings.through_finding(found, pair)
        made.append(_cases(found["through"], pair_name(pair), title, note if pair == pairs[0] else ""))
    return _leading(made, "The other pairs, attribution")


def _leading(blocks: Sequence[Block], others: str) -> list[Block]:
    """The first, the others folded."""
    return [blocks[0], *([Details(others, blocks[1:])] if blocks[1:] else [])]


def ablation_blocks(found: Results) -> list[Block]:
    figure = ablated(found["ablations"], findings.ablation_finding(found))
    return [figure, Text((findings.constant_finding(found) + SAME,))]


def loss_blocks(found: Results) -> list[Block]:
    figure = ablated(found["ablations-loss"], findings.loss_finding(found))
    return [Details("The same in cross-entropy", [figure])]


def ablated(table: xr.DataArray, title: str) -> Figure:
    """Heads by what is replaced, a panel for each replacement."""
    named = table.rename(address="head", how="replaced by")
    return Figure(heatmap(named, x="part", y="head", facet="replaced by", values=True), title)


def subset_blocks(found: Results) -> list[Block]:
    shares = found["subsets"]
    names, chosen = [str(name) for name in shares["kept"].values], smallest(shares)
    ranked = sorted(names, key=lambda name: -float(shares.sel(kept=name).mean()))
    rows = []
    for name in ranked:
        each = share(shares.sel(kept=name))
        marked = name + (" ←" if name == chosen else "")
        rows.append((marked, str(len(members(name))), exact(each.value), each.interval))
    note = (
        "All other heads are at their mean over the sequences, position by position. ← the fewest heads that keep "
        f"{percent(ENOUGH)} of what the model does better than chance; they are the circuit."
    )
    header = ("heads kept", "heads", "right", INTERVAL)
    return [Table(header, tuple(rows), findings.subset_finding(found), note, "lrrr")]


def blind_blocks(found: Results) -> list[Block]:
    """Positions, START and END left out, in two halves."""
    missed = found["blind"]
    n = missed.sizes["pos"]
    plain = missed.assign_coords(part=("pos", ["first half"] * (n // 2) + ["second half"] * (n - n // 2)))
    return blocks_of(plain, title=findings.blind_finding(found))


def confusion_blocks(found: Results) -> list[Block]:
    there, should = "value that stands there", "value that should"
    figure = heatmap(found["confusions"].rename(wrong=there, right=should), x=should, y=there)
    draws = f"{found['confusions'].sizes['prompt']} palindromes, otherwise random"
    note = f"Each cell: {draws}, at each place of the second half in turn. Crosses: no change."
    return [Figure(figure, findings.confusion_finding(found), note)]


def adversarial_blocks(subject: PalindromeSubject, found: Results) -> list[Block]:
    made = found["adversarial"]
    prompts = sequence(torch.from_numpy(made.values).long(), subject.max_value)
    shown = display_seq(prompts, made["probability"].values.tolist(), title=findings.adversarial_finding(found))
    wrong = int(mismatched_pairs(prompts.tokens).min())
    least = f"all {wrong} pairs" if wrong == subject.half_length else f"at least {counted(wrong, 'pair')}"
    note = (
        f"Each was checked to be no palindrome ({least} of its values differ), and run again by itself; "
        "that run's probability of a palindrome stands after it."
    )
    return [replace(shown, caption=note)]
