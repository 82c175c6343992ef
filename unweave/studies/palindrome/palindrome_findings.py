"""What each result of the study shows, in a sentence computed from it."""

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from unweave.results.labels import number
from unweave.studies.palindrome.ablations import BOTH, NOBODY, TOGETHER
from unweave.studies.palindrome.cases import DIFFERS, MATCHES
from unweave.studies.palindrome.choice import (
    COMPARES,
    by_class,
    comparing,
    constants,
    deciding,
    leading_pair,
    members,
    mirror_drops,
    smallest,
)
from unweave.views.blocks import Figure
from unweave.views.classifier_pictures import missed_finding
from unweave.views.evaluation_findings import faithfulness_finding
from unweave.views.pictures import blocks_of, title_of
from unweave.views.weight_pictures import circuit_finding
from unweave.views.wording import counted, listed, percent

Found = Mapping[str, Any]
# From this share of missed changes on, a position is blind.
BLIND = 0.5
# Smaller differences of attention are called none; of more blind positions their number is said.
CLEAR, MOST_NAMED = 0.02, 6
NAMES = {1: "palindromes", 0: "other sequences"}


class Share(NamedTuple):
    """A share of `n`, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{exact(self.value)} ({exact(self.low)} to {exact(self.high)})"


def share(values: xr.DataArray | np.ndarray) -> Share:
    """The mean of 0s and 1s with Wilson's interval, which is open where none or all are 1 (Wilson 1927)."""
    numbers = np.asarray(values, dtype=np.float64)
    n, mean, z = len(numbers), float(numbers.mean()), 1.959964
    centre, spread = mean + z * z / (2 * n), z * sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    low, high = (min(max((centre + side * spread) / (1 + z * z / n), 0.0), 1.0) for side in (-1, 1))
    return Share(mean, low, high, n)


def exact(value: float) -> str:
    """A share as a percentage with the digits that tell it from 100 %."""
    digits = 1 if 0.1 < value < 0.9 else 2
    text = f"{100 * value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "\u00a0%"


def accuracy_finding(right: xr.DataArray) -> str:
    """How many sequences are right, of all and by class."""
    each = [f"{exact(float(right[right['answer'] == label].mean()))} of {name}" for label, name in NAMES.items()]
    return f"Right on {share(right)} of {right.sizes['prompt']} fresh sequences: {listed(each)}"


def shortfall(right: xr.DataArray) -> str:
    """Why the model does not do the task, or "": where its accuracy is not told from a fair coin's, or one class is."""
    whole, classes = share(right), [share(right[right["answer"] == label]) for label in NAMES]
    if whole.low > 0.5 and min(one.value for one in classes) > 0.1:
        return ""
    each = listed([f"{exact(one.value)} of {name}" for one, name in zip(classes, NAMES.values(), strict=True)])
    return f"it is right on {whole} of {whole.n} sequences ({each}), where a coin is on 50 %".replace("\u00a0", " ")


def mismatch_finding(called: xr.DataArray) -> str:
    """How many wrong values it takes to be noticed."""
    one, *_ = means = [float(value) for value in called.mean("prompt").values[1:]]
    clear = next((n for n, value in enumerate(means, start=1) if value < 0.01), None)
    ending = f"; from {clear} on, fewer than 1\u00a0% are" if clear and clear > 1 else ""
    none = exact(float(called.sel(pairs=0).mean()))
    return f"With one wrong value, {exact(one)} are still called palindromes, of {none} that are{ending}"


def parts_finding(found: Found) -> str:
    """Which heads tell the classes apart directly."""
    gap = by_class(found["parts"])
    whole = float(gap.sum("component"))
    said = [
        f"{layer}.{head} says {number(float(gap.sel(component=f'{layer}.{head}')))}" for layer, head in deciding(found)
    ]
    return f"Of a mean logit difference of {number(whole)} between the classes, {listed(said)}"


def mirror_finding(mirror: xr.DataArray) -> str:
    """Which heads look at the mirror image, and whether what stands there matters."""
    drops = mirror_drops(mirror)
    order = sorted(drops, key=lambda name: -abs(drops[name]))
    means = mirror.mean(("prompt", "pos"))
    said = []
    for name in [name for name in order if abs(drops[name]) >= COMPARES] or order[:1]:
        same, other = (number(float(means.sel(address=name, case=case))) for case in (MATCHES, DIFFERS))
        said.append(f"{name} looks at the mirror image with {same} where it matches and {other} where it differs")
    none = abs(drops[order[0]]) < COMPARES
    return ("No head's attention compares a value with its mirror image: at most, " if none else "") + listed(said)


def end_finding(ends: xr.DataArray, head: str) -> str:
    """Whether a head looks from END at a place because its pair differs."""
    means = ends.sel(address=head).mean(("prompt", "pos"))
    same, other = (float(means.sel(case=case)) for case in (MATCHES, DIFFERS))
    way = "no more" if abs(other - same) < CLEAR else "more" if other > same else "less"
    against = f"{number(other)}, against {number(same)} where it matches"
    return f"From END, {head} looks {way} at a place whose pair differs: {against}"


def through_finding(through: xr.DataArray, pair: str) -> str:
    """What a mismatch changes in what a sender writes there, as a receiver passes it on."""
    means = through.sel(address=pair).mean("prompt")
    same, other = (means.sel(case=case) for case in (MATCHES, DIFFERS))
    change = other - same
    worst, least = _place(change, np.argmin), _place(change, np.argmax)
    sender, _, receiver = pair.partition(" → ")
    return (
        f"Behind {receiver}, what {sender} writes at a place says {number(float(same.mean()))} for a palindrome where "
        f"the pair matches and {number(float(other.mean()))} where it differs; the change is largest at {worst} "
        f"({number(float(change.min()))}) and smallest at {least} ({number(float(change.max()))})"
    )


def paths_finding(found: Found) -> str:
    """What the mismatch goes through."""
    effects = found["paths"].mean("prompt")
    logits = effects.sel(receiver="logits")
    first = str(logits["sender"].values[np.argmin(logits.values)])
    said = f"{first} carries {percent(-float(logits.min()))} of a mismatch straight to the logits"
    if TOGETHER not in "".join(map(str, effects["receiver"].values)):
        return said
    sender, _, receiver = leading_pair(found).partition(" → ")
    own = effects.sel(sender=sender)

    def through(inputs: str) -> float:
        return -float(own.sel(receiver=f"{receiver} {inputs}"))

    alone = {name: through(kind) for kind, name in _INPUTS.items()}
    best = max(alone, key=lambda name: alone[name])
    said += f"; {sender} carries {percent(through(TOGETHER))} to {receiver}"
    if through(BOTH) > 2 * max(alone["keys"], alone["values"]):
        together = f"through its keys and values together {percent(through(BOTH))}"
        return f"{said}: {together}, through any input alone at most {percent(alone[best])} ({best})"
    each = [f"{percent(value)} through its {name}" for name, value in alone.items()]
    return f"{said}: {listed(each)}, each alone"


_INPUTS = {"q": "query", "k": "keys", "v": "values"}


def ablation_finding(table: xr.DataArray) -> str:
    """Which heads cannot be missed, and which inputs are constants."""
    cost = -table.mean("prompt").sel(part="output", how="mean")
    order = [str(name) for name in cost["address"].values[np.argsort(-cost.values, kind="stable")]]
    needed = [
        f"{name} ({points(float(cost.sel(address=name)))})" for name in order if float(cost.sel(address=name)) >= 0.1
    ]
    spared = [
        f"{name} ({points(float(cost.sel(address=name)))})" for name in order if float(cost.sel(address=name)) < 0.1
    ]
    said = (
        f"With their mean in place of their outputs, {listed(needed)} cost most accuracy"
        if needed
        else "No head's output is missed, with its mean in its place"
    )
    return said + (f", {listed(spared)} little" if spared and needed else "")


def loss_finding(table: xr.DataArray) -> str:
    """What the means in place of outputs cost in cross-entropy."""
    cost = table.mean("prompt").sel(part="output", how="mean")
    said = [f"{name} {number(float(cost.sel(address=name)))}" for name in map(str, cost["address"].values)]
    return f"With their mean in place of their outputs, cross-entropy rises by: {listed(said)}"


def blind_finding(missed: xr.DataArray) -> str:
    """Where single changes are missed: blind positions, or those that come nearest."""
    share = missed.mean("prompt")
    blind = share.values[share.values >= BLIND]
    if len(blind) > MOST_NAMED:
        spread = f"{percent(float(blind.min()))} to {percent(float(blind.max()))}"
        return f"Single changes are missed at {len(blind)} of {share.size} positions ({spread} of them)"
    if len(blind) or not float(share.max()):
        return missed_finding(missed)
    order = np.argsort(-share.values, kind="stable")[:3]
    worst = [f"{int(share['pos'][at])} ({percent(float(share[at]))})" for at in order]
    return (
        f"No position is blind; single changes are missed most at {listed(worst)}, and on average in "
        f"{percent(float(share.mean()))} of all cases"
    )


def constant_finding(table: xr.DataArray) -> str:
    """Which inputs carry nothing of the sequence."""
    found = constants(table)
    if not found:
        return "No query, key or value is a constant: where zero costs accuracy, the mean does too."
    said = [f"{name} (zero costs {points(zero)}, the mean {points(mean)})" for name, (zero, mean) in found.items()]
    return f"Nearly constant from sequence to sequence, since zero hurts and the mean does not: {listed(said)}."


def subset_finding(subsets: xr.DataArray) -> str:
    """The fewest heads that are enough."""
    kept = smallest(subsets)
    names, whole = members(kept), float(subsets.isel(kept=-1).mean())
    said = f"{listed(names)} alone keep" if len(names) > 1 else f"{names[0]} alone keeps" if names else "No head keeps"
    other = f"the whole model {exact(whole)}"
    if len(names) == len(members(str(subsets["kept"].values[-1]))):
        below = subsets.mean("prompt").isel(kept=slice(0, -1))
        best = str(below["kept"].values[np.argmax(below.values)])
        missing = [name for name in names if name not in members(best)]
        best_left = f"the best that is left gives {exact(float(below.max()))}"
        return f"All {len(names)} heads are needed: without {listed(missing)}, {best_left}, {other}"
    none = exact(float(subsets.sel(kept=NOBODY).mean()))
    return f"{said} {share(subsets.sel(kept=kept))} right, {other}, no head {none}"


def confusion_finding(found: Found) -> str:
    """Which wrong values are missed, and whether the head that compares takes them for the right ones."""
    missed = found["confusions"].mean("prompt")
    flat = missed.stack(cell=("wrong", "right")).dropna("cell").sortby("cell")
    order = np.argsort(-flat.values, kind="stable")[:3]
    worst = [f"{flat['wrong'].values[at]} for {flat['right'].values[at]} ({percent(float(flat[at]))})" for at in order]
    said = f"Wrong values are missed most as {listed(worst)}"
    alike = confusions_in_weights(found)
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


def confusions_in_weights(found: Found) -> Alike | None:
    """Of the head that compares; None where none of the first layer does."""
    heads = [name for name in comparing(found) if "qk-tokens" in found and name in found["qk-tokens"]["address"]]
    if not heads:
        return None
    weights = found["qk-tokens"].sel(address=heads[0]).transpose("query", "key").values
    missed = found["confusions"].mean("prompt").transpose("wrong", "right").values
    others = ~np.eye(len(weights), dtype=bool)
    return Alike(heads[0], float(np.corrcoef(weights[others], missed[others])[0, 1]))


def adversarial_finding(made: xr.DataArray) -> str:
    """What the model is fooled by."""
    sure, places = made["probability"].values, [int(pos) for pos in str(made.attrs["changed"]).split()]
    least = exact(np.floor(1e4 * float(sure.min())) / 1e4)
    return (
        f"With {counted(len(places), 'wrong value')}, at {spans(places)}, {exact(float(made.attrs['fooled']))} of "
        f"{made.attrs['tried']} sequences of values that are confused are still called palindromes: "
        f"{len(sure)} of them with a probability of at least {least}"
    )


def controls_finding(values: xr.DataArray) -> str:
    """Whether patches that cannot matter have no effect."""
    table = np.asarray(values)
    largest = float(np.abs(table[:, :-1]).max())
    none = "exactly 0" if largest == 0 else f"at most {number(largest)}, where it should be 0"
    return (
        f"{table.shape[1] - 1} patches before the mismatch have an effect of {none}; "
        f"the patch of all that is read has {number(float(table[:, -1].mean()))}"
    )


def _place(means: xr.DataArray, which: Callable[[np.ndarray], Any]) -> int:
    """The position of the largest or smallest value."""
    return int(means["pos"].values[which(means.values)])


def spans(places: Sequence[int]) -> str:
    """Positions in a sentence, neighbours together: `2, 5 and 11 to 20`."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return listed([f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs])


def points(change: float) -> str:
    """A difference of two shares, in percentage points."""
    return f"{100 * change + 0.0:.1f}".replace("-0.0", "0.0").replace("-", "−") + "\u00a0points"


def _first_title(result: Any) -> str:
    return next(block.title for block in blocks_of(result) if isinstance(block, Figure))


def _pair_line(name: str) -> Callable[[Found], str]:
    def said(found: Found) -> str:
        means = found[name].sel(address=leading_pair(found))
        high, low = _place(means, np.argmax), _place(means, np.argmin)
        largest, smallest = (f"{at} ({number(float(means.sel(pos=at)))})" for at in (high, low))
        return f"{leading_pair(found)} is highest for position {largest}, lowest for {smallest}"

    return said


# By step.
FINDINGS: Mapping[str, Callable[[Found], str]] = {
    "accuracy": lambda found: accuracy_finding(found["accuracy"]),
    "mismatches": lambda found: mismatch_finding(found["mismatches"]),
    "parts": parts_finding,
    "qk-tokens": lambda found: circuit_finding(found["qk-tokens"]),
    "qk-positions": lambda found: circuit_finding(found["qk-positions"]),
    "mirror": lambda found: mirror_finding(found["mirror"]),
    "from-end": lambda found: end_finding(found["from-end"], ".".join(map(str, deciding(found)[0]))),
    "attention": lambda found: f"heads {listed([str(name) for name in found['attention']['address'].values])}",
    "roles": lambda found: title_of(found["roles"]["resid_pre"]),
    "heads": lambda found: title_of(found["heads"]["z"]),
    "composition": lambda found: _first_title(found["composition"]),
    "paths": paths_finding,
    "k-circuits": _pair_line("k-circuits"),
    "v-circuits": _pair_line("v-circuits"),
    "through": lambda found: through_finding(found["through"], leading_pair(found)),
    "ablations": lambda found: ablation_finding(found["ablations"]),
    "ablations-loss": lambda found: loss_finding(found["ablations-loss"]),
    "subsets": lambda found: subset_finding(found["subsets"]),
    "circuit": lambda found: f"{listed([f'{len(group.heads)} {group.name}' for group in found['circuit'].groups])}",
    "evaluation": lambda found: faithfulness_finding(found["evaluation"]["faithfulness"].to_dataset()),
    "blind": lambda found: blind_finding(found["blind"]),
    "confusions": confusion_finding,
    "adversarial": lambda found: adversarial_finding(found["adversarial"]),
    "controls": lambda found: controls_finding(found["controls"]),
}
