"""What each result of the study shows, in a sentence computed from it and from those before it."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import xarray as xr

from unweave.nodes import Head, head_name
from unweave.results.labels import number
from unweave.studies.palindrome.ablations import BOTH, NOBODY, TOGETHER, receiver_name
from unweave.studies.palindrome.behaviour import DIFFERS, MATCHES, Pair, pair_name
from unweave.studies.palindrome.choice import (
    by_class,
    comparing,
    constants,
    deciding,
    members,
    mirror_drops,
    pairs_of,
    smallest,
)
from unweave.studies.plan import Results
from unweave.views.classifier_pictures import missed_finding
from unweave.views.wording import counted, listed, percent

# From this share of missed changes on, a position is blind.
BLIND_FROM = 0.5
# Smaller differences of attention are called none; of more blind positions their number is given.
CLEAR, MOST_NAMED = 0.02, 6
CLASSES = {1: "palindromes", 0: "other sequences"}
_INPUTS = {"q": "query", "k": "keys", "v": "values"}


class Share(NamedTuple):
    """A share of `n`, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    @property
    def interval(self) -> str:
        return f"{exact(self.low)} to {exact(self.high)}"

    def __str__(self) -> str:
        return f"{exact(self.value)} ({self.interval})"


def share(values: xr.DataArray | np.ndarray) -> Share:
    """The mean of 0s and 1s with Wilson's interval, which is open where none or all are 1 (Wilson 1927)."""
    numbers = np.asarray(values, dtype=np.float64)
    n, mean, z = len(numbers), float(numbers.mean()), 1.959964
    centre, spread = mean + z * z / (2 * n), z * sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    low, high = (min(max((centre + side * spread) / (1 + z * z / n), 0.0), 1.0) for side in (-1, 1))
    return Share(mean, low, high, n)


def exact(value: float) -> str:
    """A share as a percentage with the digits that tell it from 100 %."""
    text = f"{100 * value:.{1 if 0.1 < value < 0.9 else 2}f}"
    return text.rstrip("0").rstrip(".") + "\u00a0%"


def points(change: float) -> str:
    """A difference of two shares, in percentage points."""
    return f"{100 * change + 0.0:.1f}".replace("-0.0", "0.0").replace("-", "−") + "\u00a0points"


def by_name(right: xr.DataArray) -> dict[str, xr.DataArray]:
    """The sequences of each class."""
    return {name: right[right["answer"] == label] for label, name in CLASSES.items()}


def shortfall(right: xr.DataArray) -> str:
    """Why the model does not do the task, or "": if its accuracy is not significantly different from a fair coin's, or
    it misses one class.
    """
    whole, classes = share(right), {name: share(rows) for name, rows in by_name(right).items()}
    if whole.low > 0.5 and min(one.value for one in classes.values()) > 0.1:
        return ""
    each = listed([f"{exact(one.value)} of {name}" for name, one in classes.items()])
    return f"it is right on {whole} of {whole.n} sequences ({each}), where a coin is on 50 %".replace("\u00a0", " ")


def accuracy_finding(found: Results) -> str:
    """How many sequences are right, of all and by class."""
    right = found["accuracy"]
    each = [f"{exact(float(rows.mean()))} of {name}" for name, rows in by_name(right).items()]
    return f"Right on {share(right)} of {right.sizes['prompt']} fresh sequences: {listed(each)}"


def mismatch_finding(found: Results) -> str:
    """How many wrong values it takes to be noticed."""
    called = found["mismatches"]
    none, one, *more = (float(value) for value in called.mean("prompt").values)
    clear = next((n for n, value in enumerate((one, *more), start=1) if value < 0.01), None)
    ending = f"; from {clear} on, fewer than 1\u00a0% are" if clear and clear > 1 else ""
    return f"With one wrong value, {exact(one)} are still called palindromes, of {exact(none)} that are{ending}"


def parts_finding(found: Results) -> str:
    """Which heads differ most between the classes, directly."""
    gap = by_class(found["parts"])
    said = [f"{name} says {number(float(gap.sel(component=name)))}" for name in map(head_name, deciding(found))]
    return f"Of a mean logit difference of {number(float(gap.sum('component')))} between the classes, {listed(said)}"


def mirror_finding(found: Results) -> str:
    """Which heads look at the mirror image, and whether what stands there matters."""
    drops = mirror_drops(found["mirror"])
    means = found["mirror"].mean(("prompt", "pos"))
    compares, said = comparing(found), []
    for name in map(head_name, compares or list(drops)[:1]):
        same, other = (number(float(means.sel(address=name, case=case))) for case in (MATCHES, DIFFERS))
        said.append(f"{name} looks at the mirror image with {same} where it matches and {other} where it differs")
    none = "" if compares else "No head's attention compares a value with its mirror image: at most, "
    return none + listed(said)


def end_finding(found: Results) -> str:
    """Whether the head that decides looks from END at a place because its pair differs."""
    name = head_name(deciding(found)[0])
    means = found["from-end"].sel(address=name).mean(("prompt", "pos"))
    same, other = (float(means.sel(case=case)) for case in (MATCHES, DIFFERS))
    way = "no more" if abs(other - same) < CLEAR else "more" if other > same else "less"
    against = f"{number(other)}, against {number(same)} where it matches"
    return f"From END, {name} looks {way} at a place whose pair differs: {against}"


def through_finding(found: Results, pair: Pair | None = None) -> str:
    """What a mismatch changes in what a sender writes there, as a receiver passes it on; of the leading pair."""
    pair = pair or pairs_of(found)[0]
    means = found["through"].sel(address=pair_name(pair)).mean("prompt")
    same, other = (means.sel(case=case) for case in (MATCHES, DIFFERS))
    worst, least = _ends(other - same)
    sender, receiver = map(head_name, pair)
    return (
        f"After {receiver}, what {sender} writes at a place says {number(float(same.mean()))} for a palindrome where "
        f"the pair matches and {number(float(other.mean()))} where it differs; the change is largest at {worst} and "
        f"smallest at {least}"
    )


def place_finding(found: Results, name: str) -> str:
    """Which positions the leading pair's circuit is highest and lowest for."""
    pair = pair_name(pairs_of(found)[0])
    low, high = _ends(found[name].sel(address=pair))
    return f"{pair} is highest for position {high}, lowest for {low}"


def _ends(means: xr.DataArray) -> tuple[str, str]:
    """The positions of the smallest and of the largest value, each with it."""
    places = (int(means["pos"].values[which(means.values)]) for which in (np.argmin, np.argmax))
    low, high = (f"{at} ({number(float(means.sel(pos=at)))})" for at in places)
    return low, high


def paths_finding(found: Results) -> str:
    """What the mismatch goes through."""
    effects = -found["paths"].mean("prompt")
    logits = effects.sel(receiver="logits")
    first = str(logits["sender"].values[np.argmax(logits.values)])
    said = f"{first} carries {percent(float(logits.max()))} of a mismatch straight to the logits"
    if effects.sizes["receiver"] == 1:
        return said
    sender, receiver = pairs_of(found)[0]
    own = effects.sel(sender=head_name(sender))
    both, together, *single = (float(own.sel(receiver=receiver_name(receiver, i))) for i in (BOTH, TOGETHER, *_INPUTS))
    alone = dict(zip(_INPUTS.values(), single, strict=True))
    best = max(alone, key=lambda name: alone[name])
    said += f"; {head_name(sender)} carries {percent(together)} to {head_name(receiver)}"
    if both > 2 * max(alone["keys"], alone["values"]):
        keys = f"through its keys and values together {percent(both)}"
        return f"{said}: {keys}, through any single input at most {percent(alone[best])} ({best})"
    each = [f"{percent(value)} through its {name}" for name, value in alone.items()]
    return f"{said}: {listed(each)}, each by itself"


def ablation_finding(found: Results) -> str:
    """Which heads cannot be missed."""
    cost = -found["ablations"].mean("prompt").sel(part="output", how="mean")
    order = np.argsort(-cost.values, kind="stable")
    costs = {str(cost["address"].values[at]): float(cost[at]) for at in order}
    needed, spared = (
        [f"{name} ({points(value)})" for name, value in costs.items() if (value >= 0.1) == dear]
        for dear in (True, False)
    )
    if not needed:
        return "No head's output is missed if its mean replaces it"
    little = f", {listed(spared)} little" if spared else ""
    return f"With their outputs replaced by their mean, {listed(needed)} cost most accuracy{little}"


def loss_finding(found: Results) -> str:
    """What the means in place of outputs cost in cross-entropy."""
    cost = found["ablations-loss"].mean("prompt").sel(part="output", how="mean")
    said = [f"{name} {number(float(cost.sel(address=name)))}" for name in map(str, cost["address"].values)]
    return f"With outputs replaced by their mean, cross-entropy rises by: {listed(said)}"


def constant_finding(found: Results) -> str:
    """Which inputs carry nothing of the sequence."""
    table = constants(found["ablations"])
    if not table:
        return "No query, key or value is a constant: where zero costs accuracy, the mean does too."
    said = [f"{name} (zero costs {points(zero)}, the mean {points(mean)})" for name, (zero, mean) in table.items()]
    return f"Nearly constant from sequence to sequence, since zero hurts and the mean does not: {listed(said)}."


def subset_finding(found: Results) -> str:
    """The fewest heads that are enough."""
    subsets = found["subsets"]
    kept, *_, every = smallest(subsets), *map(members, subsets["kept"].values)
    heads, shares = members(kept), subsets.mean("prompt")
    other = f"the whole model {exact(float(shares[-1]))}"
    if len(heads) == len(every):
        below = shares.isel(kept=slice(0, -1))
        best = members(below["kept"].values[np.argmax(below.values)])
        missing = listed([head_name(head) for head in heads if head not in best])
        best_left = f"the best that is left gives {exact(float(below.max()))}"
        return f"All {len(heads)} heads are needed: without {missing}, {best_left}, {other}"
    names = named(heads)
    said = f"{names} keep" if len(heads) > 1 else f"{names} keeps" if heads else "No head keeps"
    only = " by themselves" if len(heads) > 1 else " by itself" if heads else ""
    none = exact(float(shares.sel(kept=NOBODY)))
    return f"{said} {share(subsets.sel(kept=kept))} right{only}, {other}, no head {none}"


def named(heads: Sequence[Head]) -> str:
    """Heads in a sentence."""
    return listed(list(map(head_name, heads)))


def blind_finding(found: Results) -> str:
    """Where single changes are missed: blind positions, or those that come nearest."""
    missed = found["blind"]
    share = missed.mean("prompt")
    blind = share.values[share.values >= BLIND_FROM]
    if len(blind) > MOST_NAMED:
        spread = f"{percent(float(blind.min()))} to {percent(float(blind.max()))}"
        return f"Single changes are missed at {len(blind)} of {share.size} positions ({spread} of them)"
    if len(blind) or not float(share.max()):
        return missed_finding(missed)
    order = np.argsort(-share.values, kind="stable")[:3]
    worst = listed([f"{int(share['pos'][at])} ({percent(float(share[at]))})" for at in order])
    average = f"on average in {percent(float(share.mean()))} of all cases"
    return f"No position is blind; single changes are missed most at {worst}, and {average}"


def confusion_finding(found: Results) -> str:
    """Which wrong values are missed, and whether the head that compares takes them for the right ones."""
    missed = found["confusions"].mean("prompt")
    flat = missed.stack(cell=("wrong", "right")).dropna("cell").sortby("cell")
    order = np.argsort(-flat.values, kind="stable")[:3]
    worst = [f"{flat['wrong'].values[at]} for {flat['right'].values[at]} ({percent(float(flat[at]))})" for at in order]
    said, alike = f"Wrong values are missed most as {listed(worst)}", confusions_in_weights(found)
    if alike is None:
        return said
    return (
        f"{said}; over all {flat.size} pairs, the share missed correlates at {number(alike.correlation)} with the "
        f"attention that {alike.head}'s QK circuit gives the right value from the wrong one"
    )


class Alike(NamedTuple):
    """How the values that are confused correlate with what a head's QK circuit confuses."""

    head: str
    correlation: float


def confusions_in_weights(found: Results) -> Alike | None:
    """Of the head that compares; None if none of the first layer does."""
    if not {"confusions", "mirror", "qk-tokens"} <= found.keys():
        return None
    circuits = found["qk-tokens"]
    heads = [name for name in map(head_name, comparing(found)) if name in circuits["address"]]
    if not heads:
        return None
    weights = circuits.sel(address=heads[0]).transpose("query", "key").values
    missed = found["confusions"].mean("prompt").transpose("wrong", "right").values
    others = ~np.eye(len(weights), dtype=bool)
    return Alike(heads[0], float(np.corrcoef(weights[others], missed[others])[0, 1]))


def adversarial_finding(found: Results) -> str:
    """What the model is fooled by."""
    made = found["adversarial"]
    sure, places = made["probability"].values, [int(pos) for pos in str(made.attrs["changed"]).split()]
    least = exact(np.floor(1e4 * float(sure.min())) / 1e4)
    return (
        f"With {counted(len(places), 'wrong value')}, at {spans(places)}, {exact(float(made.attrs['fooled']))} of "
        f"{made.attrs['tried']} sequences of values that are confused are still called palindromes: "
        f"{len(sure)} of them with a probability of at least {least}"
    )


def spans(places: Sequence[int]) -> str:
    """Positions in a sentence, neighbours together: `2, 5 and 11 to 20`."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return listed([f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs])
