"""What results are of: the part of model and prompts that was swept, and in what several results differ.

1. `scope_of`: what was swept, if it is not the whole: coordinates that are fewer than there are, and coordinates that a
   slice has left behind.
2. `subjects`: model, task, metric and prompts of each of several results, as far as they differ.

Results without these attributes are read as whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unweave.results.labels import cell_label, token_at
from unweave.views.wording import Result, counted, listed, visible

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
_FIXED = (*_UNITS, "component", "stage", "address", "edge", "sender", "score", "run")
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


def scope_of(result: Result) -> str:
    """What was swept, where it is less than the whole: `of layers 15 to 20, at position 12 ·to`; else "".

    Args:
        result: a result, or the summary of one.
    """
    dims = _dims(result)
    fixed = {str(name): coord.item() for name, coord in result.coords.items() if not coord.dims}
    said = [_some(result, dim) for dim in dims if dim in _EXTENTS or dim == "role"]
    unit = {name: fixed[name] for name in _FIXED if name in fixed}
    said += [cell_label(unit)] if unit else []
    said += [
        f"at {_fixed_place(result, name, fixed[name])}" for name in ("pos", "role", "q_pos", "k_pos") if name in fixed
    ]
    said += [f"at {attrs}"] if (attrs := _where(result.attrs)) else []
    if "prompt" in fixed and "prompt" not in dims:
        said.append(f"prompt {int(fixed['prompt']) + 1} (prompt={fixed['prompt']})")
    gone = axes_lost(result)
    said += [f"averaged, summed or chosen along {listed(gone)}"] if gone else []
    return ", ".join(filter(None, said))


def axes_lost(result: Result) -> list[str]:
    """The axes of a sweep that a result no longer has, and no coordinate says what was done with them."""
    dims = _dims(result)
    return [name for name in result.attrs.get("over", []) if name in _NUMBERS and name not in (*dims, *result.coords)]


def subjects(results: Sequence[Result]) -> list[str]:
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


def same_prompts(one: Result, other: Result) -> bool:
    """Whether two results are about the same prompts: their baselines are the same numbers."""
    names = ("clean", "corrupted")
    if any(name not in result.coords for name in names for result in (one, other)):
        return False
    return all(np.array_equal(one[name].values, other[name].values) for name in names)


def place_text(result: Result, dim: str, index: int) -> str:
    """A place along a dimension, in a sentence: `S2`, `token 12 ·gave`."""
    name = result[dim].values[index]
    if dim == "role":
        return str(name)
    return f"token {name} {visible(token_at(result, dim, index))}".strip()


def _dims(result: Result) -> list[str]:
    """The dimensions of a result, or of a summary's means."""
    cells: Any = result["mean"] if hasattr(result, "data_vars") and "mean" in result else result
    return list(map(str, cells.dims))


def _some(result: Result, dim: str) -> str:
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


def _fixed_place(result: Result, name: str, value: object) -> str:
    return str(value) if name == "role" else f"{_EXTENTS[name][1]} {value} {visible(token_at(result, name))}".rstrip()


def _where(attrs: Mapping[Any, Any]) -> str:
    """Where a knockout or a path was made, if not at all positions."""
    given = attrs.get("at", []), attrs.get("sender_at", [])
    places = [place for each in given for place in ([each] if isinstance(each, str) else each)]
    return listed([place for place in places if place != "all positions"])


def _prompt_sets(results: Sequence[Result], said: Sequence[str]) -> list[str]:
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
