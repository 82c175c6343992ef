"""What a result says of its numbers, for every caption: which sign is for the answer, what was swept, what it is of.

1. `sense_of`: a metric may be good where it is low, and corrupted prompts may score better than clean ones. Which sign
   of a number means a better answer, and which a part that carries it, follows from the result's `better`, `gap`,
   `measure` and `direction`, here alone.
2. `scope_of`: the part of the model and of the prompts that was swept, where it is not the whole: coordinates that are
   fewer than there are, and coordinates that a slice has left behind.
3. `subjects`: model, task, metric and prompts of each of several results, as far as they differ.

Results without these attributes are read as of a metric that is good where it is high, and as whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unweave.results.labels import cell_label, number, token_at
from unweave.views.text import visible
from unweave.views.wording import counted, listed, percent

if TYPE_CHECKING:
    import xarray

    Labelled = xarray.DataArray | xarray.Dataset

# Methods whose numbers are changes of the metric, with the run that they change where the result does not say.
DIRECTIONS = {"activation patching": "denoise", "path patching": "noise", "knockout": "noise"}
_EXTENTS = {
    "layer": ("n_layers", "layer"),
    "head": ("n_heads", "head"),
    "kv_head": ("n_kv_heads", "key/value head"),
    "neuron": ("n_neurons", "neuron"),
    "pos": ("n_pos", "position"),
    "q_pos": ("n_pos", "query position"),
    "k_pos": ("n_pos", "key position"),
}
_NUMBERS = (*_EXTENTS, "part", "role")
_UNITS = ("model", "layer", "head", "kv_head", "neuron", "part")
_FIXED = (*_UNITS, "component", "stage", "address", "sender", "score", "run")
_MOST_LISTED = 6
# Of each attribute that a result is of: how it is told.
_OF = {
    "model": "{}",
    "model_revision": "revision {}",
    "quantization": "{}",
    "dtype": "{}",
    "processing": "processing {}",
    "task": "task {}",
    "corruption": "corruption {}",
    "seed": "seed {}",
    "bos": "bos {}",
    "metric": "{}",
    "role": "read at {}",
}
_OF_MODEL = ("model", "model_revision", "quantization", "dtype", "processing")


@dataclass(frozen=True)
class Sense:
    """How the numbers of a result are read.

    Args:
        good: the sign of a number that means a better answer.
        carries: the sign of a number of a part that carries the answer: in a corrupted run that is restored it is the
            good one, in a clean run that is corrupted or knocked out the other one.
        rises: the sign of a number that means a higher score.
        measure: "effect", "drop", "change", or "" where the numbers are no changes of the metric.
        metric, unit: of the score.
        backwards: whether the corrupted prompts score better than the clean ones, so that effects run backwards.
    """

    good: int = 1
    carries: int = 1
    rises: int = 1
    measure: str = ""
    metric: str = "score"
    unit: str = ""
    backwards: bool = False

    @property
    def plain(self) -> bool:
        """Whether 0 to 1 is the way from the worse to the better prompts, so that it can be given back, or be lost."""
        return self.measure == "effect" and not self.backwards

    def write(self, value: float) -> str:
        """A number as this result's are written: shares in percent."""
        return percent(value) if self.measure in ("effect", "drop") else number(value)

    def amount(self, values: Sequence[float]) -> str:
        """Sizes, and what they are of: `50 % and 40 % of the gap`, `1.50 nats`."""
        of = {"effect": "of the gap", "drop": "of the clean score", "change": self.unit}.get(self.measure, "")
        return f"{listed([self.write(abs(value)) for value in values])} {of}".rstrip()

    def outcome(self, values: Sequence[float], verb: str) -> str:
        """What numbers of one sign mean: `verb`, where the numbers are shares of a gap that can be restored or lost;
        else whether the metric is raised or lowered, which is true of every metric."""
        if self.plain:
            return f"{verb} {self.amount(values)}"
        return f"{'raises' if values[0] * self.rises > 0 else 'lowers'} the {self.metric} by {self.amount(values)}"

    def note(self) -> str:
        """What a reader of the numbers must know to take their signs as they are meant."""
        if self.backwards:
            return (
                "The corrupted prompts score better than the clean ones, so that effects run backwards: the clean "
                "prompt's side of the scale is the worse one."
            )
        if self.good > 0:
            return ""
        return f"Below 0 the {self.metric} {'falls' if self.rises > 0 else 'rises'}, and the answer is better."


def sense_of(result: "Labelled") -> Sense:
    """The sense of a result's numbers, or of its summary's."""
    attrs = result.attrs
    method, quantity = str(attrs.get("method", "")), str(attrs.get("quantity", ""))
    if method not in DIRECTIONS and "measure" not in attrs:
        return Sense(unit=str(attrs.get("unit", "")))
    better = -1 if attrs.get("better") == "lower" else 1
    gap, clean = (_sign(result, name) for name in ("gap", "clean_mean"))
    measure = str(attrs.get("measure", "change" if quantity == "change" else "effect"))
    rises = {"effect": gap, "drop": clean}.get(measure, 1)
    restored = str(attrs.get("direction", DIRECTIONS.get(method, "noise"))) == "denoise"
    return Sense(
        good=better * rises,
        carries=better * rises * (1 if restored else -1),
        rises=rises,
        measure=measure,
        metric=str(attrs.get("metric", "score")),
        unit=str(attrs.get("metric_unit", attrs.get("unit", ""))),
        backwards=better * gap < 0,
    )


def scope_of(result: "Labelled") -> str:
    """What was swept, where it is less than the whole: `of layers 15 to 20, at position 12 ·to`; else "".

    Args:
        result: a result, or the summary of one.
    """
    dims = _dims(result)
    fixed = {str(name): coord.item() for name, coord in result.coords.items() if not coord.dims}
    said = [_some(result, dim) for dim in dims if dim in _EXTENTS or dim == "role"]
    unit = {name: fixed[name] for name in _FIXED if name in fixed}
    said += [cell_label(unit)] if unit else []
    said += [f"at {_place(result, name, fixed[name])}" for name in ("pos", "role", "q_pos", "k_pos") if name in fixed]
    said += [f"at {attrs}"] if (attrs := _where(result.attrs)) else []
    if "prompt" in fixed and "prompt" not in dims:
        said.append(f"prompt {int(fixed['prompt']) + 1} (prompt={fixed['prompt']})")
    gone = axes_lost(result)
    said += [f"averaged, summed or chosen along {listed(gone)}"] if gone else []
    return ", ".join(filter(None, said))


def axes_lost(result: "Labelled") -> list[str]:
    """The axes of a sweep that a result no longer has, and no coordinate says what was done with them."""
    dims = _dims(result)
    return [name for name in result.attrs.get("over", []) if name in _NUMBERS and name not in (*dims, *result.coords)]


def subjects(results: "Sequence[Labelled]") -> list[str]:
    """What each result is of, as far as they differ: `["logit difference", "cross-entropy"]`; "" where all agree.

    What a result does not remember differs from nothing: weights are of no task, random tokens of no metric.
    """
    told: list[list[str]] = [[] for _ in results]
    for name, form in _OF.items():
        values = {
            place: str(result.attrs[name])
            for place, result in enumerate(results)
            if name in result.attrs and (name in _OF_MODEL or "metric" in result.attrs)
        }
        if len(set(values.values())) > 1:
            for place, value in values.items():
                told[place].append(form.format(value or "none"))
    said = [", ".join(parts) for parts in told]
    return [", ".join(filter(None, pair)) for pair in zip(said, _prompt_sets(results, said), strict=True)]


def spoken(subject: str, text: str) -> str:
    """A title that says first what it is of."""
    return f"{subject[:1].upper() + subject[1:]}: {text}" if subject and text else text or subject


def named(name: str, subject: str) -> str:
    """The name of a panel or a curve, and what it is of where that differs and the name does not say it."""
    return name if subject in name else ": ".join(filter(None, (name, subject)))


def same_prompts(one: "Labelled", other: "Labelled") -> bool:
    """Whether two results are about the same prompts: their baselines are the same numbers."""
    names = ("clean", "corrupted")
    if any(name not in result.coords for name in names for result in (one, other)):
        return False
    return all(np.array_equal(one[name].values, other[name].values) for name in names)


def place_text(result: "Labelled", dim: str, index: int) -> str:
    """A place along a dimension, in a sentence: `S2`, `token 12 ·gave`."""
    name = result[dim].values[index]
    if dim == "role":
        return str(name)
    return f"token {name} {visible(token_at(result, dim, index))}".strip()


def _dims(result: "Labelled") -> list[str]:
    """The dimensions of a result, or of a summary's means."""
    cells: Any = result["mean"] if hasattr(result, "data_vars") and "mean" in result else result
    return list(map(str, cells.dims))


def _sign(result: "Labelled", name: str) -> int:
    """The sign of an attribute, or of a coordinate where models differ in it; 1 where it is not known, or mixed."""
    known: Any = result.attrs.get(name, result.coords[name].values if name in result.coords else 1)
    signs = set(np.sign(np.atleast_1d(known)).astype(int).tolist())
    return (signs.pop() or 1) if len(signs) == 1 else 1


def _some(result: "Labelled", dim: str) -> str:
    """The coordinates along a dimension, if they are not all that there are."""
    values = result[dim].values.tolist()
    if dim == "role":
        every = result.attrs.get("roles", [])
        return "" if set(every) <= {*values, ""} else f"of roles {listed(list(map(str, values)))}"
    if not all(isinstance(value, int) for value in values):
        return ""
    count, noun = _EXTENTS[dim]
    whole = int(result.attrs.get(count, max(values, default=-1) + 1))
    if set(values) == set(range(whole)):
        return ""
    first, last = min(values), max(values)
    if len(values) > 1 and sorted(values) == list(range(first, last + 1)):
        return f"of {noun}s {first} to {last}"
    if len(values) > _MOST_LISTED:
        return f"of {len(values)} {noun}s from {first} to {last}"
    return f"of {noun}{'s' if len(values) > 1 else ''} {listed(list(map(str, values)))}"


def _place(result: "Labelled", name: str, value: object) -> str:
    return str(value) if name == "role" else f"{_EXTENTS[name][1]} {value} {visible(token_at(result, name))}".rstrip()


def _where(attrs: Mapping[Any, Any]) -> str:
    """Where a knockout or a path was made, if not at all positions."""
    ends = [str(attrs[name]) for name in ("at", "sender_at") if attrs.get(name, "all positions") != "all positions"]
    return listed(" ".join(ends).split())


def _prompt_sets(results: "Sequence[Labelled]", said: Sequence[str]) -> list[str]:
    """Which prompts, of results that nothing else tells apart: by their number, or counted."""
    sets: dict[str, list[int]] = {}
    for place, text in enumerate(said):
        if {"clean", "corrupted"} <= set(results[place].coords):
            sets.setdefault(text, []).append(place)
    names = [""] * len(results)
    for places in sets.values():
        kinds: list[int] = []
        for place in places:
            if not any(same_prompts(results[place], results[kind]) for kind in kinds):
                kinds.append(place)
        if len(kinds) < 2:
            continue
        sizes = [results[kind]["clean"].size for kind in kinds]
        for place in places:
            kind = next(n for n, other in enumerate(kinds) if same_prompts(results[place], results[other]))
            text = counted(sizes[kind], "prompt")
            names[place] = text if sizes.count(sizes[kind]) == 1 else f"{text} (set {kind + 1})"
    return names
