"""One method over several models: checkpoints of a training, seeds, sizes, the same model before and after a change.

1. The method is asked of one model after another; each answer is a result, or a number.
2. The answers are stacked along a new first dimension, `model`. Their axes must agree.
3. What the answers agree on stays as it is. An attribute that differs (revision, processing, …) becomes a coordinate
   along `model`; so does a coordinate that differs, such as each model's own baselines `clean` and `corrupted`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import xarray as xr

from unweave.errors import InputError, Interrupted
from unweave.models.model import Model
from unweave.results.origin import DIGEST, stamped

Answer = xr.DataArray | xr.Dataset | float


def over_models(
    models: Mapping[Any, Model] | Iterable[Model], method: Callable[[Model], Answer]
) -> xr.DataArray | xr.Dataset:
    """A method's results over several models, with a first dimension `model`.

        run = uw.training.checkpoints("palindrome-run")
        heads = uw.over_models(run, lambda model: uw.knockout(pair_of(model), how="mean"))

    Args:
        models: models by name or number, such as `uw.training.checkpoints(folder)`, or a list of models, by whose own
            names they then stand along `model`. They are asked one at a time.
        method: from a model to a result of a method, or to a number.

    Returns:
        What the method gives, with `model` in front: a DataArray, or a Dataset of several sites. It is summarised,
        saved and shown like any other.

    Raises:
        InputError: no models, two of one name, or results whose axes differ.
        Interrupted: Ctrl-C; `partial` holds the models that were finished, or None.
    """
    named = _named(models)
    answers: dict[Any, xr.DataArray | xr.Dataset] = {}
    try:
        for name in named:
            answers[name] = _labelled(method(named[name]))
    except KeyboardInterrupt:
        partial = _stacked(answers) if answers else None
        raise Interrupted(f"stopped after {len(answers)} of {len(named)} models", partial) from None
    return _stacked(answers)


def _named(models: Mapping[Any, Model] | Iterable[Model]) -> Mapping[Any, Model]:
    if not isinstance(models, Mapping):
        several = list(models)
        names = [model.config.name for model in several]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(
                f"models: {names.count(twice)} of them are called {twice!r}; give them by name, "
                "{'before': first, 'after': second}"
            )
        models = dict(zip(names, several, strict=True))
    if not models:
        raise InputError("models: there are none; give at least one, by name")
    return models


def _labelled(answer: Answer) -> xr.DataArray | xr.Dataset:
    if isinstance(answer, xr.DataArray | xr.Dataset):
        if "model" in answer.dims:
            raise InputError("method: its result has a dimension 'model' already; ask it of one model")
        return answer
    if isinstance(answer, Real):
        return xr.DataArray(float(answer))
    raise InputError(f"method: expected a DataArray, a Dataset or a number of each model, got {type(answer).__name__}")


def _stacked(answers: Mapping[Any, xr.DataArray | xr.Dataset]) -> xr.DataArray | xr.Dataset:
    first = next(iter(answers.values()))
    _check_axes(answers)
    if isinstance(first, xr.DataArray):
        return _one(answers)
    sites = {name: _one({model: answer[name] for model, answer in answers.items()}) for name in first.data_vars}
    attrs, _ = _shared([answer.attrs for answer in answers.values()])
    # Sites may differ from model to model in different attributes; the first site's are those of the Dataset.
    return xr.merge([sites], compat="override", join="exact", combine_attrs="override").assign_attrs(attrs)


def _one(answers: Mapping[Any, Any]) -> xr.DataArray:
    """The results of one site."""
    stacked: Any = xr.concat(
        [answer.drop_attrs() for answer in answers.values()],
        dim=xr.Variable("model", list(answers)),
        coords="different",
        compat="equals",
        join="exact",
        combine_attrs="drop",
    )
    shared, differing = _shared([answer.attrs for answer in answers.values()])
    coords = {name: ("model", row) for name, row in differing.items() if name != DIGEST}
    return stamped(stacked.assign_coords(coords).assign_attrs(shared))


def _shared(attrs: list[Mapping[Any, Any]]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The attributes on which all agree, and those that differ, a value for each model."""
    names = dict.fromkeys(str(name) for row in attrs for name in row)
    shared = {name: attrs[0][name] for name in names if all(row.get(name) == attrs[0].get(name) for row in attrs)}
    differing = {name: [row.get(name, "") for row in attrs] for name in names if name not in shared}
    if "model" in differing:  # the dimension has that name
        differing["model_name"] = differing.pop("model")
        shared["model"] = f"{len(attrs)} models"
    return shared, differing


def _check_axes(answers: Mapping[Any, Any]) -> None:
    """Raise InputError naming the first model whose axes are not those of the first one."""
    (one, first), *others = answers.items()
    for name, result in others:
        if type(result) is not type(first) or set(result.dims) != set(first.dims):
            raise InputError(
                f"method: of model {name!r} it gives {_axes(result)}, of {one!r} {_axes(first)}; "
                "one method gives one kind of result"
            )
        for dim in first.dims:
            if not result.get_index(dim).equals(first.get_index(dim)):
                raise InputError(
                    f"models: {dim} of {name!r} is not that of {one!r} ({_axes(result)} against {_axes(first)}); "
                    "give models of one shape, or choose what they share with `.sel` in the method"
                )


def _axes(result: Any) -> str:
    sizes = ", ".join(f"{dim} {size}" for dim, size in result.sizes.items()) or "a number"
    return f"{type(result).__name__} ({sizes})"
